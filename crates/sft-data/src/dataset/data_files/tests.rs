use super::*;
use crate::testing::{golden, message};
use crate::{DatasetConfig, Evaluation, LocalFiles, Row, Splits, load_splits};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;

struct Tree(tempfile::TempDir);

impl Tree {
    /// The files of the golden.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in golden("sources.json")["tree"].as_object().unwrap() {
            let path = folder.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.as_str().unwrap()).unwrap();
        }
        folder
    }

    fn load(&self, options: &Value, change: impl FnOnce(&mut DatasetConfig)) -> Result<Splits, String> {
        let folder = format!("{}/", self.0.path().display());
        let options: Value = serde_json::from_str(&options.to_string().replace('@', &folder)).unwrap();
        let text = |name: &str| options.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut config = DatasetConfig {
            dataset_name: text("path").unwrap(),
            data_dir: text("data_dir"),
            data_files: options.get("data_files").map(|files| serde_json::from_value(files.clone()).unwrap()),
            evaluation: Evaluation::Optional,
            ..DatasetConfig::default()
        };
        change(&mut config);
        load_splits(&config, &LocalFiles).map_err(|error| message(&error).replace(&folder, ""))
    }
}

fn texts(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| if let Row::Text(text) = row { text.as_str() } else { panic!("{row:?}") }).collect()
}

#[test]
fn files_and_folders_are_those_of_load_dataset() {
    let tree = Tree::new();
    for case in golden("sources.json")["cases"].as_array().unwrap() {
        let options = &case["options"];
        let Some(splits) = case["splits"].as_object() else {
            let error = tree.load(options, |_| ()).unwrap_err();
            assert!(!error.is_empty(), "{options}");
            continue;
        };
        for (name, rows) in splits {
            let found = tree.load(options, |config| {
                config.dataset_train_split = Some(name.clone());
                config.evaluation = Evaluation::Off;
            });
            let found = found.unwrap_or_else(|error| panic!("{options}: {error}"));
            // A file that comes twice is read once here.
            let mut rows: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
            let mut seen = BTreeSet::new();
            rows.retain(|row| seen.insert(*row));
            assert_eq!(texts(&found.train), rows, "{options}, {name}");
        }
    }
}

#[test]
fn what_cannot_be_used_is_refused_in_one_line() {
    let tree = Tree::new();
    for (options, expected) in [
        (
            json!({"path": "@corpus", "data_files": "none.jsonl"}),
            "data_files = none.jsonl: there is no such file in corpus",
        ),
        (json!({"path": "@corpus", "data_files": "none-*.jsonl"}), "data_files = none-*.jsonl: no file matches"),
        (
            json!({"path": "@corpus", "data_files": "../odd/rows.data"}),
            "data_files = ../odd/rows.data: leads out of corpus",
        ),
        (json!({"path": "@corpus", "data_files": "@odd/lines.log"}), "data_files = odd/lines.log: leads out of"),
        (json!({"path": "@corpus", "data_dir": "../odd"}), "data_dir = ../odd: leads out of"),
        (json!({"path": "@corpus/a.jsonl", "data_dir": "x"}), "dataset_name = corpus/a.jsonl: is a file itself"),
        (json!({"path": "@odd", "data_files": "*"}), "lines.log: unknown format"),
        (json!({"path": "json"}), "data_files = none: `dataset_name` is json: name the files to read"),
        (json!({"path": "json", "data_files": "@corpus"}), "data_files = corpus: is a folder"),
        (json!({"path": "json", "data_files": "@none/*.jsonl"}), "data_files = none/*.jsonl: there is no folder none"),
    ] {
        let error = tree.load(&options, |_| ()).unwrap_err();
        assert!(error.starts_with(expected), "{options}: {error}\n{expected}");
    }
    for files in [
        json!({}),
        json!([]),
        json!(7),
        json!({"train": []}),
        json!(""),
        json!("https://a/b.jsonl"),
        json!([{"split": "a", "path": "b"}, {"split": "a", "path": "c"}]),
        json!([{"split": "a", "file": "b"}]),
    ] {
        assert!(serde_json::from_value::<DataFiles>(files.clone()).is_err(), "{files}");
    }
}

#[test]
fn a_map_may_be_text_and_is_written_as_a_map() {
    let files: DataFiles = serde_json::from_value(json!("{\"train\": \"a\", \"test\": [\"b\", \"c\"]}")).unwrap();
    assert_eq!(serde_json::to_value(&files).unwrap(), json!({"train": ["a"], "test": ["b", "c"]}));
    assert_eq!(
        serde_json::from_value::<DataFiles>(json!(["{\"train\": [\"a\"], \"test\": [\"b\", \"c\"]}"])).unwrap(),
        files
    );
}

#[test]
fn a_pattern_can_stand_for_the_dataset() {
    let tree = Tree::new();
    let splits = tree.load(&json!({"path": "@corpus/[ab].jsonl"}), |_| ()).unwrap();
    assert_eq!(texts(&splits.train), ["a1", "a2", "b1"]);
}

#[test]
fn only_the_first_rows_are_taken_where_a_number_is_given() {
    let tree = Tree::new();
    let files =
        json!({"path": "@corpus", "data_files": {"train": ["a.jsonl", "b.jsonl"], "test": ["b.jsonl", "a.jsonl"]}});
    let splits = tree.load(&files, |config| (config.max_train_samples, config.max_eval_samples) = (Some(2), Some(1)));
    let splits = splits.unwrap();
    assert_eq!((texts(&splits.train), texts(&splits.eval.unwrap())), (vec!["a1", "a2"], vec!["b1"]));
    let all = tree.load(&files, |config| config.max_train_samples = Some(10)).unwrap();
    assert_eq!((all.train.len(), all.eval.unwrap().len()), (3, 3));

    // Of the rows that are left when some have been set aside, as Hugging Face's scripts take them.
    let aside = |most: Option<usize>| {
        tree.load(&json!({"path": "@corpus/[ab].jsonl"}), |config| {
            (config.test_size, config.max_train_samples) = (Some(1.0), most);
        })
        .unwrap()
    };
    let (whole, first) = (aside(None), aside(Some(1)));
    assert_eq!((&first.train[..], &first.eval), (&whole.train[..1], &whole.eval));
    assert_eq!(first.train_numbers.unwrap(), whole.train_numbers.unwrap()[..1]);
    let error = tree.load(&files, |config| config.max_train_samples = Some(0)).unwrap_err();
    assert_eq!(error, "max_train_samples = 0: use 1 or more, or leave it out for all rows");
}
