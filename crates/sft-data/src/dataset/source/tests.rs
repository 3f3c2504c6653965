use super::*;
use crate::dataset::{LocalFiles, load_splits};
use crate::testing::message;
use crate::{BoxError, Evaluation, Splits};

const ROW: &str = "{\"text\":\"a\"}\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            let path = folder.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, name: &str) -> Result<Splits, String> {
        let config = DatasetConfig {
            dataset_name: self.path(name).to_string_lossy().into_owned(),
            evaluation: Evaluation::Optional,
            ..DatasetConfig::default()
        };
        let shown = format!("{}/", self.0.path().display());
        load_splits(&config, &LocalFiles).map_err(|error| message(&error).replace(&shown, ""))
    }
}

#[cfg(unix)]
#[test]
fn only_regular_files_inside_the_folder_are_read() {
    use rustix::fs::{CWD, FileType, mknodat};
    use std::os::unix::fs::symlink;
    let folder = Folder::with(&[
        ("secret.jsonl", ROW),
        ("inside/real/train.jsonl", ROW),
        ("datasets--a--b/blobs/99", ROW),
        ("datasets--a--b/snapshots/1a/README.md", "# Title"),
        ("out/README.md", "# Title"),
        ("below/train.jsonl", ROW),
    ]);
    for name in ["pipe", "zero", "card"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    mknodat(CWD, folder.path("pipe/train.jsonl"), FileType::Fifo, 0o600.into(), 0).unwrap();
    mknodat(CWD, folder.path("pipe.jsonl"), FileType::Fifo, 0o600.into(), 0).unwrap();
    let link = |target: &str, name: &str| symlink(target, folder.path(name)).unwrap();
    link("/dev/zero", "zero.txt");
    link("real/train.jsonl", "inside/test.jsonl");
    link("../../blobs/99", "datasets--a--b/snapshots/1a/train.jsonl");
    link("../secret.jsonl", "out/train.jsonl");
    link("../secret.jsonl", "card/README.md");
    link("../out", "below/more");
    link("secret.jsonl", "named.jsonl");
    link("datasets--a--b/snapshots/1a", "alias");
    for name in ["inside", "datasets--a--b/snapshots/1a", "alias", "named.jsonl"] {
        assert_eq!(folder.load(name).unwrap().train.len(), 1, "{name}");
    }
    for (name, expected) in [
        ("pipe", "pipe/train.jsonl: cannot be read or written: it is a pipe, not a regular file"),
        ("pipe.jsonl", "pipe.jsonl: cannot be read or written: it is a pipe, not a regular file"),
        ("zero.txt", "zero.txt: cannot be read or written: it is a device, not a regular file"),
        ("out", "out/train.jsonl: cannot be read or written: it is a link to "),
        ("card", "card/README.md: cannot be read or written: it is a link to "),
        ("below", "below/more: cannot be read or written: it is a link to "),
    ] {
        let error = folder.load(name).unwrap_err();
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn what_the_card_says_about_reading_is_done_or_refused() {
    let card = |options: &str| format!("---\nconfigs:\n- config_name: a\n  data_files: rows.csv\n{options}---\n");
    let load = |options: &str| Folder::with(&[("README.md", &card(options)), ("rows.csv", "1;x,y\n2;z\n")]).load("");
    let splits = load("  sep: \";\"\n  names: [id, text]\n").unwrap();
    assert_eq!(splits.train, ["x,y".into(), "z".into()]);
    let error = load("  sep: \";\"\n  names: [id, text]\n  escapechar: \"!\"\n").unwrap_err();
    assert_eq!(
        error,
        "README.md: configuration `a`: `escapechar` is \"!\", which is not supported here; supported is null"
    );
    let splits = Folder::with(&[("rows.csv", "text;label\nx, y;1\n")]).load("").unwrap();
    assert_eq!(splits.train, ["x, y".into()]);
}

#[test]
fn a_part_of_the_shards_of_a_repository_is_not_the_whole() {
    struct Cached(Vec<String>, bool);
    impl fmt::Display for Cached {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("org/data@1a2b")
        }
    }
    impl Repository for Cached {
        fn files(&self) -> &[String] {
            &self.0
        }
        fn is_partial(&self) -> bool {
            self.1
        }
        fn fetch(&self, _name: &str) -> Result<PathBuf, BoxError> {
            Err("not fetched".into())
        }
    }
    let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let split_files = |names: &[&str], is_partial: bool| {
        let source = Source::Hub(Box::new(Cached(files(names), is_partial)));
        source.split_files(&DatasetConfig::default()).map(|(_, splits)| splits).map_err(|error| message(&error))
    };
    let some = ["train-00000-of-00003.jsonl", "test-00000-of-00001.jsonl"];
    let error = split_files(&some, true).unwrap_err();
    assert_eq!(
        error,
        "org/data@1a2b: split `train` is not complete: 2 of 3 files train-*-of-00003.jsonl missing (00001, 00002); \
         fetch the rest while the hub can be reached"
    );
    let all = ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"];
    assert_eq!(split_files(&all, true).unwrap(), [("train".to_owned(), files(&all))]);
    // If its author has left some out, it may be meant. The same holds for a folder.
    assert_eq!(split_files(&some, false).unwrap().len(), 2);
    let folder = Folder::with(&[("train-00000-of-00003.jsonl", ROW)]);
    assert_eq!(folder.load("").unwrap().train.len(), 1);
}
