//! Each option of TRL and transformers is taken, has no effect for a reason, or is refused.

use super::*;
use serde_json::Map;
use std::collections::BTreeMap;

/// Made by `make_options.py` from transformers 5.17.0 and TRL 1.16.0: class, field, default.
const FIELDS: &str = include_str!("../../../../../crates/sft-trainer/tests/goldens/options.json");

/// Made by [`the_table_of_options_is_in_the_docs`].
const TABLE: &str = include_str!("../../../../../docs/options.md");

const INTRODUCTION: &str = "# Options of TRL and transformers

Every field of `TrainingArguments`, `SFTConfig`, `ModelConfig` and `ScriptArguments` of transformers
5.17 and TRL 1.16, and what it means here. A field is **taken** (see [usage](usage.md#flags)), has **no
effect** for the reason that is given, or has none only with one value and is **refused** with any
other, because ignoring it would train something else. Older spellings that are taken too are in
[usage](usage.md#flags). This page is written by a test, from the lists that the program uses.
";

fn fields() -> BTreeMap<String, Map<String, Value>> {
    serde_json::from_str(FIELDS).unwrap()
}

/// Whether a flag has this name, or this older spelling.
fn is_taken(name: &str) -> bool {
    Flags::option_names().find(name).is_some()
}

#[test]
fn each_option_is_in_one_list() {
    let classes = fields();
    assert_eq!(classes.len(), 4);
    let names = classes.values().flat_map(Map::keys);
    let mut counted = 0;
    for name in names {
        let is_foreign = foreign::description(name).is_some();
        assert!(is_taken(name) != is_foreign, "{name}: taken {}, in the other lists {is_foreign}", is_taken(name));
        counted += 1;
    }
    assert!(counted > 150);
}

/// What a class says without being asked must not be refused: TRL writes all fields into a file.
#[test]
fn the_defaults_of_trl_are_accepted() {
    for (name, default) in fields().into_values().flatten() {
        if let Some(foreign::Meaning::Refused(problem)) = foreign::meaning(&name, &default) {
            panic!("{problem}");
        }
    }
}

fn table() -> String {
    let mut text = INTRODUCTION.to_owned();
    for class in ["TrainingArguments", "SFTConfig", "ModelConfig", "ScriptArguments"] {
        text += &format!("\n## {class}\n\n| field | there | here |\n|---|---|---|\n");
        for (name, default) in &fields()[class] {
            let here = match foreign::description(name) {
                None => match Flags::option_names().find(name) {
                    Some(own) if own != name => format!("taken as `--{own}`"),
                    _ => "taken".to_owned(),
                },
                Some((None, why)) => format!("no effect: {why}"),
                Some((Some(values), why)) => format!("refused, except {values}: {why}"),
            };
            text += &format!("| `{name}` | `{default}` | {here} |\n");
        }
    }
    text
}

/// With `UPDATE_DOCS` set, it writes the page.
#[test]
fn the_table_of_options_is_in_the_docs() {
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md");
        std::fs::write(path, &table).unwrap();
        return;
    }
    assert!(TABLE == table, "docs/options.md is not of these lists: run this test with UPDATE_DOCS=1");
}
