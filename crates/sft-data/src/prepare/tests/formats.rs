//! Rows of every format, from a file to labels, as TRL prepares them.

use super::*;
use crate::testing::{golden, numbers, tokenizer, tokenizer_with_template};
use crate::{ChatTokenizer, DatasetConfig, Evaluation, LocalFiles, load_splits};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs;

/// The fields of a configuration among the options.
fn fields<T: DeserializeOwned + serde::Serialize + Default>(options: &Map<String, Value>) -> T {
    let mut fields = serde_json::to_value(T::default()).unwrap();
    let known = fields.as_object_mut().unwrap();
    options.iter().for_each(|(name, value)| {
        if let Some(field) = known.get_mut(name) {
            *field = value.clone();
        }
    });
    serde_json::from_value(fields).unwrap()
}

fn load(rows: &Value, options: &Map<String, Value>) -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.jsonl");
    let lines: Vec<String> = rows.as_array().unwrap().iter().map(ToString::to_string).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    let config = DatasetConfig {
        dataset_name: path.to_string_lossy().into_owned(),
        evaluation: Evaluation::Off,
        ..fields(options)
    };
    load_splits(&config, &LocalFiles).unwrap().train
}

fn tokenizer_of(template: &Value) -> ChatTokenizer {
    match template.as_str() {
        None => tokenizer("qwen"),
        Some("no template") => crate::testing::tokenizer_without_template("qwen"),
        Some(template) => tokenizer_with_template("qwen", template),
    }
}

#[test]
fn rows_of_every_format_equal_those_of_trl() {
    let mut failed = BTreeSet::new();
    for case in golden("formats.json").as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let options = case["options"].as_object().unwrap();
        let rows = load(&case["rows"], options);
        let examples = match prepare(&rows, &tokenizer_of(&case["template"]), &fields(options)) {
            Ok(prepared) => prepared.examples,
            Err(error) => panic!("{name}: {}", crate::testing::message(&error)),
        };
        let found: Vec<(Vec<u32>, Vec<i64>)> =
            examples.iter().map(|example| (example.input_ids.clone(), example.label_ids().collect())).collect();
        let expected = case["examples"].as_array().unwrap().iter();
        let expected: Vec<(Vec<u32>, Vec<i64>)> = expected
            .map(|example| (numbers(&example["input_ids"]), serde_json::from_value(example["labels"].clone()).unwrap()))
            .collect();
        if found != expected {
            eprintln!("{name}:\n found   {found:?}\n expected {expected:?}");
            failed.insert(name.to_owned());
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
