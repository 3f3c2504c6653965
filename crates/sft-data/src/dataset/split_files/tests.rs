use super::*;
use crate::dataset::card;
use crate::testing::golden;

#[test]
fn splits_equal_those_of_datasets() {
    for case in golden("file_sets.json").as_array().unwrap() {
        let names: Vec<String> = serde_json::from_value(case["names"].clone()).unwrap();
        let (format, splits) = choose_format(find(&names, None)).unwrap();
        let module = match format {
            Format::Parquet => "parquet",
            Format::Json => "json",
            Format::Csv | Format::Tsv => "csv",
            Format::Text => "text",
            Format::Arrow => "arrow",
        };
        assert_eq!(case["module"], module, "{names:?}");
        let mut found = serde_json::Map::new();
        found.extend(splits.into_iter().map(|(split, files)| (split, files.into())));
        assert_eq!(case["splits"], serde_json::Value::Object(found), "{names:?}");
    }
}

#[test]
fn a_file_that_two_patterns_match_is_taken_once() {
    let names = ["train-train.jsonl".to_owned(), "test.jsonl".to_owned()];
    let splits = find(&names, None);
    assert_eq!(splits[0], ("train".to_owned(), vec!["train-train.jsonl".to_owned()]));
}

#[test]
fn unknown_formats_are_no_splits() {
    assert_eq!(choose_format(find(&[], None)), None);
    assert_eq!(choose_format(find(&["model.safetensors".to_owned(), "README.md".to_owned()], None)), None);
}

#[test]
fn the_card_takes_precedence_over_file_names() {
    let readme = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: a/*.jsonl\n  - split: test\n    path: [b.jsonl]\n---\n# Title\n";
    let declared = card::declared_config(readme, None).unwrap().unwrap();
    let names = ["a/test.jsonl", "a/2.jsonl", "b.jsonl", "train.jsonl"].map(str::to_owned);
    let splits = find(&names, Some(&declared));
    assert_eq!(splits[0], ("train".to_owned(), vec!["a/2.jsonl".to_owned(), "a/test.jsonl".to_owned()]));
    assert_eq!(splits[1], ("test".to_owned(), vec!["b.jsonl".to_owned()]));
}

#[test]
fn missing_shards_are_named() {
    let missing = |names: &[&str]| missing_shards(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(missing(&["a-00000-of-00002.parquet", "a-00001-of-00002.parquet", "b.parquet", "x-of-y.parquet"]), None);
    assert_eq!(
        missing(&["data/train-00001-of-00003.jsonl.gz", "data/more-00000-of-00001.jsonl.gz"]).unwrap(),
        "2 of 3 files data/train-*-of-00003.jsonl.gz missing (00000, 00002)"
    );
    let many = missing(&["a-00000-of-99999-1a2b.parquet"]).unwrap();
    assert_eq!(many, "99998 of 99999 files a-*-of-99999-1a2b.parquet missing (00001, 00002, 00003, 00004, 00005, …)");
}
