use super::*;
use crate::dataset::source::Source;
use crate::testing::{golden, message};
use crate::{DatasetConfig, LocalFiles};
use std::fs;

const TWO: &str = "---\nlicense: mit\nconfigs:\n- config_name: en\n  data_files: en/*.jsonl\n- config_name: zh\n  default: true\n  data_dir: zh\n  data_files:\n  - split: train\n    path:\n    - train-*\n    - more.jsonl\n---\nText\n";

fn splits(readme: &str, wanted: Option<&str>) -> Vec<(String, Vec<String>)> {
    declared_config(readme, wanted).unwrap().unwrap().splits
}

#[test]
fn a_configuration_is_chosen_by_name_or_by_default() {
    let train = |patterns: &[&str]| vec![("train".to_owned(), patterns.iter().map(|p| (*p).to_owned()).collect())];
    assert_eq!(splits(TWO, Some("en")), train(&["en/*.jsonl"]));
    assert_eq!(splits(TWO, None), train(&["zh/train-*", "zh/more.jsonl"]));
    let declared = declared_config(TWO, None).unwrap().unwrap();
    assert_eq!(declared.named_files().collect::<Vec<_>>(), ["zh/more.jsonl"]);
}

#[test]
fn the_error_of_a_missing_configuration_lists_the_others() {
    let error = declared_config(TWO, Some("fr")).unwrap_err();
    assert!(message(&error).contains("en, zh"), "{error}");
    let undecided = TWO.replace("  default: true\n", "");
    assert!(message(&declared_config(&undecided, None).unwrap_err()).contains("en, zh"));
    assert!(message(&declared_config("no card", Some("en")).unwrap_err()).contains("declares no configurations"));
}

#[test]
fn other_text_declares_nothing() {
    for readme in ["", "# Title", "---\nlicense: mit\n---\n", "---\nnever closed", "---\r\nlicense: mit\r\n---\r\n"] {
        assert_eq!(declared_config(readme, None).unwrap(), None, "{readme:?}");
    }
}

#[test]
fn windows_line_ends_are_read() {
    assert_eq!(splits(&TWO.replace('\n', "\r\n"), Some("en"))[0].1, ["en/*.jsonl"]);
}

/// Files, splits and refusals are those of `datasets`.
#[test]
fn cards_are_read_as_datasets_reads_them() {
    for case in golden("cards.json").as_array().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        for name in case["names"].as_array().unwrap() {
            write(name.as_str().unwrap(), "{\"text\":\"x\"}\n");
        }
        write("README.md", &format!("---\n{}---\n# Title\n", case["card"].as_str().unwrap()));
        if let Some(standalone) = case["standalone"].as_str() {
            write(".huggingface.yaml", standalone);
        }
        let config = DatasetConfig {
            dataset_name: folder.path().to_string_lossy().into_owned(),
            dataset_config: case["wanted"].as_str().map(str::to_owned),
            ..DatasetConfig::default()
        };
        let found = Source::open(&config, &LocalFiles).unwrap().split_files(&config);
        match case.get("splits") {
            None => assert!(!message(&found.unwrap_err()).is_empty(), "{case}"),
            Some(expected) => {
                let mut splits = serde_json::Map::new();
                splits.extend(found.unwrap().1.into_iter().map(|(split, files)| (split, files.into())));
                assert_eq!(Value::Object(splits), *expected, "{case}");
            }
        }
    }
}

#[test]
fn a_malformed_card_is_refused_by_line() {
    for (card, expected) in [
        ("---\nlicense: mit\ntags: [a\nconfigs:\n---\n", "README.md: is not valid YAML, line "),
        ("---\nlicense: mit\n: [broken\n---\n", "README.md: is not valid YAML, line 3: "),
        ("---\nconfigs: yes\n---\n", "README.md: `configs` is not a list of configurations"),
        ("---\nconfigs:\n- data_files: a\n---\n", "README.md: a configuration has no `config_name`"),
        (
            "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    files: x\n---\n",
            "README.md: configuration `a`: `data_files` has {",
        ),
        (
            "---\nconfigs:\n- config_name: a\n  data_dir: [x]\n---\n",
            "README.md: configuration `a`: `data_dir` is [\"x\"]",
        ),
    ] {
        let error = message(&declared_config(card, None).unwrap_err());
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn names_and_options_keep_what_yaml_makes_of_them() {
    let card =
        "---\nconfigs:\n- config_name: 2024\n  data_files: a.csv\n  sep: \";\"\n  header: 0\n  names: [a, 1]\n---\n";
    let declared = declared_config(card, Some("2024")).unwrap().unwrap();
    assert_eq!(declared.name, "2024");
    assert_eq!(Value::Object(declared.options), serde_json::json!({"sep": ";", "header": 0, "names": ["a", 1]}));
}
