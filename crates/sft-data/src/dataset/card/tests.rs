use super::*;
use crate::testing::message;

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
    for readme in [
        "",
        "# Title",
        "---\nlicense: mit\n---\n",
        "---\n: [broken\n---\n",
        "---\nnever closed",
        "---\r\nlicense: mit\r\n---\r\n",
    ] {
        assert_eq!(declared_config(readme, None).unwrap(), None, "{readme:?}");
    }
}

#[test]
fn windows_line_ends_are_read() {
    assert_eq!(splits(&TWO.replace('\n', "\r\n"), Some("en"))[0].1, ["en/*.jsonl"]);
}
