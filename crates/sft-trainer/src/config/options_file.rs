//! Files of options: YAML, TOML or JSON with the name of any option as a key.

use super::foreign::{self, Meaning};
use super::other_trainers;
use crate::Error;
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// What a file of options says.
#[derive(Debug)]
pub struct OptionsFile {
    pub(super) path: PathBuf,
    pub(super) options: Map<String, Value>,
    pub(super) without_effect: Vec<(String, &'static str)>,
    pub(super) problems: Vec<String>,
}

/// The names of the options that there are, and their older spellings.
#[derive(Debug, Default)]
pub struct OptionNames {
    /// Pairs of a spelling and the option that it means. An option's own name is a spelling too.
    pub spellings: Vec<(String, String)>,
}

impl OptionNames {
    /// What is wrong with each argument that begins with `--` and is neither an option, nor one of
    /// TRL or transformers, nor `is_other`. `--help`, `--version` and `--config` are known.
    pub fn unknown_flags(&self, arguments: &[OsString], is_other: impl Fn(&str) -> bool) -> Vec<String> {
        let is_known = |name: &str| {
            let is_own = matches!(name, "help" | "version" | "config");
            is_own || is_other(name) || self.find(name).is_some() || foreign::names().any(|known| known == name)
        };
        let texts = arguments.iter().filter_map(|argument| argument.to_str()).take_while(|text| *text != "--");
        let names = texts.filter_map(|text| text.strip_prefix("--")?.split('=').next());
        let hint = |name| self.nearest(name).map_or_else(String::new, |name| format!("; did you mean --{name}?"));
        let unknown = names.filter(|name| !is_known(name));
        unknown.map(|name| format!("unknown flag --{name}{}", hint(name))).collect()
    }

    /// The option of this spelling. Dashes are underscores.
    pub fn find(&self, spelling: &str) -> Option<&str> {
        let spelling = spelling.replace('-', "_");
        self.spellings.iter().find(|(known, _)| *known == spelling).map(|(_, name)| name.as_str())
    }

    /// The option that is spelled almost like this: at most two typing errors, and fewer in a short
    /// name.
    pub fn nearest(&self, spelling: &str) -> Option<&str> {
        let spelling = spelling.replace('-', "_");
        let names = self.spellings.iter().map(|(_, name)| name.as_str());
        let distances = names.map(|name| (strsim::damerau_levenshtein(name, &spelling), name));
        let close = distances.filter(|(errors, name)| *errors <= 2 && errors * 4 <= name.len().min(spelling.len()));
        close.min_by_key(|(errors, _)| *errors).map(|(_, name)| name)
    }
}

impl OptionsFile {
    /// Reads a file. Keys that are not understood are kept, so that one message can list all of
    /// them.
    ///
    /// # Errors
    /// [`Error::OptionsFile`] when the file cannot be read, or is not YAML, TOML or JSON with one
    /// mapping.
    pub fn read(path: &Path, names: &OptionNames) -> Result<Self, Error> {
        let shown = path.display();
        let failed = |problem: String| Error::OptionsFile { problem };
        let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot read {shown}: {error}")))?;
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let value: Value = match extension.to_ascii_lowercase().as_str() {
            "json" => serde_json::from_str(&text).map_err(|error| malformed(path, "JSON", error))?,
            "toml" => toml::from_str(&text).map_err(|error| malformed(path, "TOML", error))?,
            "yaml" | "yml" => serde_saphyr::from_str(&text).map_err(|error| malformed(path, "YAML", error))?,
            _ => {
                let problem = format!("{shown}: a configuration file must end in .yaml, .yml, .toml or .json");
                return Err(failed(problem));
            }
        };
        let object = match value {
            Value::Object(object) => object,
            Value::Null => Map::new(),
            _ => return Err(failed(format!("{shown} must hold one mapping of flags to values"))),
        };
        let is_known = |key: &str| names.find(key).is_some() || foreign::description(key).is_some();
        if let Some(problem) = other_trainers::problem(&object, &is_known) {
            return Err(failed(format!("{shown} {problem}")));
        }
        let mut file =
            Self { path: path.to_owned(), options: Map::new(), without_effect: Vec::new(), problems: Vec::new() };
        for (key, value) in object {
            file.add(key, value, names);
        }
        Ok(file)
    }

    fn add(&mut self, key: String, value: Value, names: &OptionNames) {
        let Some(name) = names.find(&key) else {
            match foreign::meaning(&key.replace('-', "_"), &value) {
                Some(Meaning::NoEffect(why)) => self.without_effect.push((key, why)),
                Some(Meaning::Refused(problem)) => self.problems.push(problem),
                None => {
                    let hint = names.nearest(&key).map_or_else(String::new, |name| format!("; did you mean {name}?"));
                    self.problems.push(format!("unknown key {key}{hint}"));
                }
            }
            return;
        };
        let value = match (name, value) {
            // YAML reads `no` as false.
            ("eval_strategy" | "save_strategy" | "logging_strategy", Value::Bool(false)) => Value::from("no"),
            (_, value) => value,
        };
        if self.options.insert(name.to_owned(), value).is_some() {
            self.problems.push(format!("{name} is given twice, the second time as {key}"));
        }
    }
}

/// Parsers draw the place on further lines.
fn malformed(path: &Path, format: &str, error: impl Display) -> Error {
    let text = error.to_string();
    let first_line = text.lines().next().unwrap_or_default();
    Error::OptionsFile { problem: format!("{} is not valid {format}: {first_line}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_close_in_spelling() {
        let names =
            ["learning_rate", "num_train_epochs", "seed", "max_length"].map(|name| (name.to_owned(), name.to_owned()));
        let names = OptionNames { spellings: names.into() };
        for (key, hint) in [
            ("learning_rte", Some("learning_rate")),
            ("num-train-epoch", Some("num_train_epochs")),
            ("sede", Some("seed")),
            ("run_name", None),
            ("lr", None),
            ("dataset_mixture", None),
        ] {
            assert_eq!(names.nearest(key), hint, "{key}");
        }
        assert_eq!((names.find("max-length"), names.find("max_lengths")), (Some("max_length"), None));
    }
}
