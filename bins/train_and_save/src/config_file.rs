//! Configuration files: YAML, TOML or JSON with any flag as a key.

use crate::flags::Flags;
use crate::foreign::{self, Meaning};
use anyhow::{Context, Result, anyhow, bail};
use clap::CommandFactory;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// What a configuration file says.
#[derive(Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// Options by the names of their flags.
    pub options: Map<String, Value>,
    /// Options of TRL or transformers that have no effect here.
    pub without_effect: Vec<String>,
    /// Keys that are no option, and options that are not supported.
    pub problems: Vec<String>,
}

/// Reads a file.
///
/// # Errors
/// When the file cannot be read or is malformed. Keys that are not understood are in the result, so
/// that one message can list all of them.
pub fn read(path: &Path) -> Result<ConfigFile> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let value: Value = match extension.to_ascii_lowercase().as_str() {
        "json" => serde_json::from_str(&text).with_context(|| format!("{shown} is not valid JSON"))?,
        "toml" => toml::from_str(&text).map_err(first_line).with_context(|| format!("{shown} is not valid TOML"))?,
        "yaml" | "yml" => {
            serde_saphyr::from_str(&text).map_err(first_line).with_context(|| format!("{shown} is not valid YAML"))?
        }
        _ => bail!("{shown}: a configuration file must end in .yaml, .yml, .toml or .json"),
    };
    let object = match value {
        Value::Object(object) => object,
        Value::Null => Map::new(),
        _ => bail!("{shown} must hold one mapping of flags to values"),
    };
    let (mut options, mut without_effect, mut problems) = (Map::new(), Vec::new(), Vec::new());
    for (key, value) in object {
        let Some(name) = known_name(&key) else {
            match foreign::meaning(&key.replace('-', "_"), &value) {
                Some(Meaning::NoEffect) => without_effect.push(key),
                Some(Meaning::Refused(problem)) => problems.push(problem),
                None => problems.push(format!("unknown key {key}{}", suggestion(&key, ""))),
            }
            continue;
        };
        let value = match (name.as_str(), value) {
            // YAML reads `no` as false.
            ("eval_strategy" | "save_strategy" | "logging_strategy", Value::Bool(false)) => Value::from("no"),
            (_, value) => value,
        };
        if options.insert(name.clone(), value).is_some() {
            problems.push(format!("{name} is given twice, the second time as {key}"));
        }
    }
    Ok(ConfigFile { path: path.to_owned(), options, without_effect, problems })
}

fn first_line(error: impl Display) -> anyhow::Error {
    anyhow!("{}", error.to_string().lines().next().unwrap_or_default())
}

/// The flag that a key means: its own name or an older spelling.
fn known_name(key: &str) -> Option<String> {
    let key = key.replace('-', "_");
    let command = Flags::command();
    let found = command.get_arguments().filter(|argument| argument.get_id() != "config").find(|argument| {
        argument.get_id().as_str() == key
            || argument.get_all_aliases().is_some_and(|names| names.contains(&key.as_str()))
    });
    found.map(|argument| argument.get_id().to_string())
}

/// The flag that is spelled almost like this: at most two typing errors, and fewer in a short name.
/// It is named with `prefix`.
pub fn suggestion(key: &str, prefix: &str) -> String {
    let key = key.replace('-', "_");
    let command = Flags::command();
    let names = command.get_arguments().map(|argument| argument.get_id().to_string()).filter(|name| name != "config");
    let nearest = names
        .map(|name| (strsim::damerau_levenshtein(&name, &key), name))
        .filter(|(errors, name)| *errors <= 2 && errors * 4 <= name.len().min(key.len()))
        .min_by_key(|(errors, _)| *errors);
    nearest.map_or_else(String::new, |(_, name)| format!("; did you mean {prefix}{name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_close_in_spelling() {
        for (key, hint) in [
            ("learning_rte", "; did you mean learning_rate?"),
            ("num_train_epoch", "; did you mean num_train_epochs?"),
            ("sede", "; did you mean seed?"),
            ("run_name", ""),
            ("lr", ""),
            ("dataset_mixture", ""),
            ("chat_template", ""),
        ] {
            assert_eq!(suggestion(key, ""), hint, "{key}");
        }
    }
}
