use super::*;
use crate::testing::{golden, golden_path, message, spans_of};
use std::fs;

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            let path = folder.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn config(&self, name: &str) -> DatasetConfig {
        DatasetConfig { dataset_name: self.path(name), ..DatasetConfig::default() }
    }

    fn load(&self, name: &str, change: impl FnOnce(&mut DatasetConfig)) -> Result<Splits, String> {
        let mut config = self.config(name);
        change(&mut config);
        load_splits(&config, &LocalFiles).map_err(|error| message(&error).replace(&self.path(""), ""))
    }
}

fn texts(rows: &[Row]) -> Vec<&str> {
    rows.iter()
        .map(|row| match row {
            Row::Text(text) => text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect()
}

const A: &str = "{\"text\":\"a\"}\n";
const B: &str = "{\"text\":\"b\"}\n";

#[test]
fn splits_are_read_in_the_order_of_their_files() {
    let folder = Folder::with(&[
        ("train-00.jsonl", A),
        ("train-01.jsonl", B),
        ("train-empty.jsonl", ""),
        ("dev.jsonl", B),
        ("notes.md", "#"),
    ]);
    let splits = folder.load("", |_| ()).unwrap();
    assert_eq!(texts(&splits.train), ["a", "b"]);
    assert_eq!(texts(&splits.eval.unwrap()), ["b"]);
    assert_eq!((splits.train_name.as_str(), splits.eval_name.as_deref()), ("train", Some("validation")));
    assert!(splits.source.ends_with(", texts in column `text`"), "{}", splits.source);
}

#[test]
fn the_first_evaluation_split_is_used_unless_one_is_named() {
    let folder = Folder::with(&[("train.jsonl", A), ("test.jsonl", B), ("valid.jsonl", A)]);
    assert_eq!(folder.load("", |_| ()).unwrap().eval_name.as_deref(), Some("test"));
    let named = folder.load("", |config| config.dataset_test_split = Some("validation".to_owned())).unwrap();
    assert_eq!(texts(&named.eval.unwrap()), ["a"]);
    let swapped = folder.load("", |config| config.dataset_train_split = Some("test".to_owned())).unwrap();
    assert_eq!((texts(&swapped.train), swapped.eval_name.as_deref()), (vec!["b"], Some("validation")));
    let off = folder.load("", |config| config.evaluation = Evaluation::Off).unwrap();
    assert_eq!((off.eval, off.eval_name), (None, None));
    let error = folder.load("", |config| config.dataset_test_split = Some("dev".to_owned())).unwrap_err();
    assert!(error.contains("no split `dev`; splits are train, validation, test"), "{error}");
}

#[test]
fn a_single_split_needs_a_test_size() {
    let rows: String = (0..10).map(|i| format!("{{\"text\":\"{i}\"}}\n")).collect();
    let folder = Folder::with(&[("corpus.jsonl", &rows)]);
    for name in ["corpus.jsonl", ""] {
        let error = folder.load(name, |_| ()).unwrap_err();
        assert!(
            error.ends_with(
                "only one split, `train`: set `test_size` (for example 0.1) to set rows aside for evaluation"
            ),
            "{error}"
        );
        assert_eq!(folder.load(name, |config| config.evaluation = Evaluation::Optional).unwrap().train.len(), 10);
        let split = folder.load(name, |config| config.test_size = Some(0.3)).unwrap();
        assert_eq!((split.train.len(), split.eval.map(|rows| rows.len())), (7, Some(3)));
        let numbers: Vec<String> = split.train_numbers.unwrap().iter().map(|number| (number - 1).to_string()).collect();
        assert_eq!(texts(&split.train), numbers, "rows keep their number in the file");
        assert_eq!(split.eval_name.as_deref(), Some("test"));
        let off = folder.load(name, |config| {
            config.test_size = Some(0.3);
            config.evaluation = Evaluation::Off;
        });
        assert_eq!(off.unwrap().train.len(), 10);
    }
    let error = folder.load("", |config| config.test_size = Some(10.0)).unwrap_err();
    assert!(error.starts_with("test_size = 10: less than the 10 rows"), "{error}");
}

#[test]
fn a_test_size_does_not_change_a_split_that_exists() {
    let folder = Folder::with(&[("train.jsonl", A), ("test.jsonl", B)]);
    let splits = folder.load("", |config| config.test_size = Some(0.5)).unwrap();
    assert_eq!((splits.train.len(), texts(&splits.eval.unwrap())), (1, vec!["b"]));
}

#[test]
fn errors_of_a_dataset_are_one_line() {
    let folder = Folder::with(&[
        ("a.xlsx", "x"),
        ("none/model.bin", "x"),
        ("saved/train/data-00000-of-00001.arrow", "x"),
        ("saved/test/data-00000-of-00001.arrow", "x"),
        ("script/data.py", "x"),
        ("columns/train.jsonl", "{\"content\":\"a\",\"id\":1}\n"),
        ("columns/test.jsonl", B),
        ("other_columns/train.jsonl", A),
        ("other_columns/test.jsonl", "{\"content\":\"a\"}\n"),
        ("empty/train.jsonl", ""),
        ("empty/test.jsonl", B),
        ("bad/train.jsonl", "{\"text\":\"a\"}\n{\"text\":7}\n"),
        ("bad/test.jsonl", B),
        ("lost/README.md", "---\nconfigs:\n- config_name: default\n  data_files: gone.jsonl\n---\n"),
        ("lost/train.jsonl", A),
    ]);
    fs::create_dir(folder.0.path().join("nothing")).unwrap();
    for (name, expected) in [
        ("a.xlsx", "a.xlsx: unknown format; known are .parquet, .jsonl"),
        ("none", "none: no data files found (model.bin); known are .parquet"),
        ("nothing", "nothing: no data files found (it is empty)"),
        ("saved", "saved/train/data-00000-of-00001.arrow: cannot be read as Arrow (it is cut off); fetch it again"),
        ("script", "script: no data files found (a loading script, which is not run"),
        (
            "columns",
            "columns/train.jsonl: no column `text`, nor `messages`, `conversations` or `prompt` and `completion`; columns are content, id: name one with `dataset_text_field`",
        ),
        ("other_columns", "other_columns/test.jsonl: no column `text`"),
        ("empty", "empty, split `train`: empty, there are no rows to train on"),
        ("bad", "bad/train.jsonl, line 2: column `text` holds a number, not a text"),
        ("lost", "lost: no data files found (its README.md names gone.jsonl, which is not there)"),
        ("missing.jsonl", "dataset \"missing.jsonl\" not found"),
        ("missing/folder/", "dataset \"missing/folder/\" not found"),
    ] {
        let error = folder.load(name, |_| ()).unwrap_err();
        assert!(error.starts_with(expected), "{name}: {error}\nexpected {expected}");
    }
    let config = DatasetConfig { dataset_name: "owner/name".to_owned(), ..DatasetConfig::default() };
    let error = load_splits(&config, &LocalFiles).unwrap_err();
    assert!(message(&error).starts_with("dataset \"owner/name\" not found"), "{error}");
    let error = folder.load("columns", |config| config.dataset_text_field = "content".to_owned()).unwrap_err();
    assert!(error.starts_with("columns/test.jsonl: no column `content`"), "{error}");
    let error = folder.load("columns", |config| config.dataset_config = Some("en".to_owned())).unwrap_err();
    assert!(error.starts_with("dataset_config = en: none"), "{error}");
}

#[test]
fn chats_and_tables_come_as_rows() {
    let files = golden_path("files");
    let load = |name: &str| {
        let config = DatasetConfig {
            dataset_name: files.join(name).to_string_lossy().into_owned(),
            evaluation: Evaluation::Optional,
            ..DatasetConfig::default()
        };
        load_splits(&config, &LocalFiles).unwrap()
    };
    let chats = load("chats.parquet");
    assert!(chats.train.iter().all(|row| matches!(row, Row::Messages(chat) if chat.messages.len() >= 2)));
    let expected = texts(&load("rows.jsonl").train).into_iter().map(str::to_owned).collect::<Vec<_>>();
    for name in ["array.json", "rows.csv", "rows.tsv", "rows_lz4.parquet"] {
        assert_eq!(texts(&load(name).train), expected, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_circles_of_links_end() {
    let folder = Folder::with(&[("real/a.jsonl", A), ("other/b.jsonl", B)]);
    std::os::unix::fs::symlink(folder.0.path(), folder.0.path().join("real/up")).unwrap();
    std::os::unix::fs::symlink(folder.0.path().join("other"), folder.0.path().join("train")).unwrap();
    let splits = folder.load("", |config| config.evaluation = Evaluation::Optional).unwrap();
    assert_eq!(texts(&splits.train), ["b"]);
}

#[test]
fn unknown_fields_of_the_configuration_are_refused() {
    assert!(serde_json::from_str::<DatasetConfig>("{\"dataset_nam\": \"x\"}").is_err());
    let config: DatasetConfig = serde_json::from_str("{\"dataset_name\": \"x\"}").unwrap();
    assert_eq!(
        (config.dataset_text_field.as_str(), config.seed, config.dataset_revision.as_str()),
        ("text", 42, "main")
    );
}

#[test]
fn all_problems_of_the_configuration_are_reported_together() {
    let config = DatasetConfig { test_size: Some(f64::NAN), ..DatasetConfig::default() };
    let Err(Error::Config { problems }) = load_splits(&config, &LocalFiles) else { panic!("accepted") };
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["dataset_name", "test_size"]);
}

#[test]
fn each_file_is_read_in_a_span() {
    let folder = Folder::with(&[("train-0.jsonl", A), ("train-1.jsonl", B), ("test.jsonl", B)]);
    let mut spans = spans_of(|| folder.load("", |_| ()).unwrap());
    spans.dedup();
    let expected =
        ["train-0.jsonl", "train-1.jsonl", "test.jsonl"].map(|name| format!("read path={}", folder.path(name)));
    assert_eq!(spans, expected);
}

#[test]
fn columns_that_are_not_used_are_named() {
    let folder = Folder::with(&[("train.jsonl", "{\"id\":1,\"text\":\"a\",\"label\":0}\n"), ("test.jsonl", B)]);
    assert_eq!(folder.load("", |_| ()).unwrap().unused_columns, ["id", "label"]);
}

#[test]
fn a_file_without_the_columns_of_the_first_names_the_missing_one() {
    let chat = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n";
    let pair = "{\"prompt\":\"a\",\"completion\":\"b\"}\n";
    let folder = Folder::with(&[
        ("chats/train.jsonl", chat),
        ("chats/test.jsonl", A),
        ("pairs/train.jsonl", pair),
        ("pairs/test.jsonl", "{\"prompt\":\"a\"}\n"),
        ("alpaca/train.jsonl", "{\"instruction\":\"a\",\"input\":\"\",\"response\":\"b\"}\n"),
    ]);
    for (name, expected) in [
        ("chats", "chats/test.jsonl: no column `messages`, which the first file of the dataset has; columns are text"),
        (
            "pairs",
            "pairs/test.jsonl: no column `completion`, which the first file of the dataset has; columns are prompt",
        ),
    ] {
        assert_eq!(folder.load(name, |_| ()).unwrap_err(), expected);
    }
    let error = folder.load("alpaca", |config| config.test_size = Some(1.0)).unwrap_err();
    assert!(
        error.contains("columns are instruction, input, response: they look like questions and answers"),
        "{error}"
    );
    assert!(!error.contains("dataset_text_field"), "{error}");
}

#[test]
fn rows_beyond_the_memory_that_they_may_take_are_an_error() {
    let folder = Folder::with(&[("train.jsonl", &A.repeat(1000)), ("test.jsonl", &B.repeat(1000))]);
    let load = |bytes| folder.load("", |config| config.max_dataset_memory = Some(ByteSize(bytes)));
    assert_eq!(load(1 << 20).unwrap().train.len(), 1000);
    let advice = "that they may take; train on fewer rows, or raise `max_dataset_memory`";
    // Every row counts as 308 bytes.
    let error = load(256 << 10).unwrap_err();
    let expected = "train.jsonl: up to its row 852 the dataset and its tokens need more than the 256 KiB of memory";
    assert_eq!(error, format!("{expected} {advice}"));
    let error = load(512 << 10).unwrap_err();
    let expected = "test.jsonl: up to its row 703 the dataset and its tokens need more than the 512 KiB of memory";
    assert_eq!(error, format!("{expected} {advice}"));
    let one_text = Folder::with(&[("train.txt", &"word ".repeat(100_000)), ("test.txt", "a")]);
    let error = one_text.load("", |config| config.max_dataset_memory = Some(ByteSize(1 << 20))).unwrap_err();
    assert!(error.starts_with("train.txt: up to its row 1 the dataset"), "{error}");
}

#[test]
fn saved_datasets_are_read_as_load_from_disk_reads_them() {
    for case in golden("sources.json")["saved"].as_array().unwrap() {
        let name = case["folder"].as_str().unwrap();
        for (split, rows) in case["splits"].as_object().unwrap() {
            let config = DatasetConfig {
                dataset_name: golden_path("saved").join(name).to_string_lossy().into_owned(),
                dataset_train_split: Some(split.clone()),
                evaluation: Evaluation::Off,
                ..DatasetConfig::default()
            };
            let found = load_splits(&config, &LocalFiles).unwrap();
            let expected: Vec<Row> = rows
                .as_array()
                .unwrap()
                .iter()
                .map(|row| match row.get("text") {
                    Some(text) => Row::from(text.as_str().unwrap()),
                    None => Row::from(Conversation::from(row["messages"].as_array().unwrap().clone())),
                })
                .collect();
            assert_eq!(found.train, expected, "{name}, {split}");
        }
    }
}

#[test]
fn a_saved_dataset_that_is_not_whole_is_refused() {
    let state = "{\"_data_files\": [{\"filename\": \"data-00000-of-00001.arrow\"}]}";
    let info = ("a/dataset_info.json", "{}");
    for (files, expected) in [
        (&[("a/state.json", state), info][..], "a/state.json: names data-00000-of-00001.arrow, which is not there"),
        (&[("a/state.json", "{"), info][..], "a/state.json: is not JSON"),
        (&[("a/state.json", "{}"), info][..], "a/state.json: has no list `_data_files`"),
        (&[("a/state.json", "{\"_data_files\": []}"), info][..], "a/state.json: names no files"),
        (
            &[("a/state.json", "{\"_data_files\": [{\"filename\": \"../b.arrow\"}]}"), info, ("b.arrow", "x")][..],
            "a/state.json: names the file {\"filename\":\"../b.arrow\"}, which is no name",
        ),
        (&[("a/state.json", "{\"_indices_files\": [1]}"), info][..], "a/state.json: selects rows of its files"),
        (&[("a/dataset_dict.json", "{}")][..], "a/dataset_dict.json: has no list `splits`"),
        (&[("a/dataset_dict.json", "{\"splits\": [\"..\"]}")][..], "a/dataset_dict.json: names .., which is no split"),
        (&[("a/dataset_dict.json", "{\"splits\": [\"train\"]}")][..], "train/state.json: is missing"),
    ] {
        let error = Folder::with(files).load("a", |_| ()).unwrap_err();
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn an_archive_is_read_as_the_folder_that_it_holds() {
    use zip::write::SimpleFileOptions;
    let folder = Folder::with(&[]);
    let pack = |name: &str, files: &[(&str, &str)]| {
        let mut archive = zip::ZipWriter::new(fs::File::create(folder.path(name)).unwrap());
        for (name, content) in files {
            archive.start_file(*name, SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut archive, content.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
    };
    pack("rows.zip", &[("data/train.jsonl", A), ("data/test.jsonl", B), ("notes.md", "#")]);
    let splits = folder.load("rows.zip", |_| ()).unwrap();
    assert_eq!((texts(&splits.train), texts(&splits.eval.unwrap())), (vec!["a"], vec!["b"]));
    assert!(splits.source.ends_with("rows.zip, texts in column `text`"), "{}", splits.source);
    let named = folder.load("rows.zip", |config| {
        config.data_files = serde_json::from_str("{\"train\": \"data/test.jsonl\"}").unwrap();
        config.evaluation = Evaluation::Off;
    });
    assert_eq!(texts(&named.unwrap().train), ["b"]);

    pack("bad.zip", &[("train.jsonl", "{\"text\":\"a\"}\n{\"text\":7}\n"), ("test.jsonl", B)]);
    let error = folder.load("bad.zip", |_| ()).unwrap_err();
    assert_eq!(error, "bad.zip/train.jsonl, line 2: column `text` holds a number, not a text");
    let error = folder.load("", |_| ()).unwrap_err();
    assert!(error.contains("no data files found (zip archives; unpack them"), "{error}");
}
