//! What the dataset card declares: the YAML at the top of the dataset's `README.md`, and the file
//! `.huggingface.yaml`, whose keys replace those of the card.
//!
//! ```yaml
//! configs:
//! - config_name: default
//!   sep: ";"
//!   data_files:
//!   - split: train
//!     path: data/train-*
//! ```

use super::data_files::card_path;
use super::{patterns, read};
use crate::Error;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use std::sync::LazyLock;

/// One configuration of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredConfig {
    pub(super) name: String,
    /// The folder of the files. Without `splits`, the names of the files in it decide.
    pub(super) folder: Option<String>,
    /// The names of the splits and the patterns for their files, in order. Empty if the card
    /// declares none.
    pub(super) splits: Vec<(String, Vec<String>)>,
    /// Options of the reader.
    pub(super) options: Map<String, Value>,
}

/// The configurations of a dataset, in order.
#[derive(Debug, Default)]
pub(super) struct Configurations(Vec<(String, Map<String, Value>)>);

#[derive(Deserialize)]
struct Card {
    configs: Option<Value>,
}

/// Keys of a configuration that are no options of a reader.
const OTHER_KEYS: [&str; 7] = ["config_name", "default", "data_files", "data_dir", "version", "description", "name"];

/// The block of YAML at the start of a card, as `huggingface_hub` finds it.
static FRONT_MATTER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\A(\s*---(?:\r\n|\r|\n))([\S\s]*?)(?:(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\z))").ok());

impl Configurations {
    /// Reads the text of a card. `None` if it declares no configurations.
    pub(super) fn of_card(readme: &str) -> Result<Option<Self>, String> {
        let readme = readme.trim_start_matches('\u{feff}');
        let Some(found) = FRONT_MATTER.as_ref().and_then(|pattern| pattern.captures(readme)) else { return Ok(None) };
        let (Some(before), Some(yaml)) = (found.get(1), found.get(2)) else { return Ok(None) };
        Self::of_yaml(yaml.as_str(), before.as_str().matches('\n').count())
    }

    /// Reads YAML that comes after `lines_before` lines of its file.
    pub(super) fn of_yaml(yaml: &str, lines_before: usize) -> Result<Option<Self>, String> {
        // PyYAML keeps the last of two values.
        let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
        let card: Option<Card> = serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
            let line = error.location().map(|location| location.line() + lines_before as u64);
            let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
            let text = error.without_snippet().to_string();
            format!("is not valid YAML{line}: {}", text.lines().next().unwrap_or_default())
        })?;
        let configs = match card.and_then(|card| card.configs) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(configs)) if configs.is_empty() => return Ok(None),
            Some(Value::Array(configs)) => configs,
            Some(_) => return Err("`configs` is not a list of configurations".to_owned()),
        };
        let mut named: Vec<(String, Map<String, Value>)> = Vec::new();
        for config in configs {
            let Value::Object(config) = config else {
                return Err(format!("`configs` has {config}, which is no configuration"));
            };
            let name = config.get("config_name").map(read::plain).ok_or("a configuration has no `config_name`")?;
            match named.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = config,
                None => named.push((name, config)),
            }
        }
        Ok(Some(Self(named)))
    }

    /// The configuration `wanted`, or the default one. `None` if there are no configurations.
    pub(super) fn choose(&self, wanted: Option<&str>) -> Result<Option<DeclaredConfig>, ChooseError> {
        let Self(configs) = self;
        let is_default =
            |(name, config): &&(String, Map<String, Value>)| name == "default" || is_true(config.get("default"));
        let config = match wanted {
            Some(wanted) => configs.iter().find(|(name, _)| name == wanted),
            None if configs.len() < 2 => configs.first(),
            None => {
                let mut defaults = configs.iter().filter(is_default);
                if let (Some((first, _)), Some((second, _))) = (defaults.next(), defaults.next()) {
                    let problem = format!("two configurations are the default: `{first}` and `{second}`");
                    return Err(ChooseError::Card(problem));
                }
                configs.iter().find(is_default)
            }
        };
        match config {
            Some((name, config)) => declared(name, config)
                .map(Some)
                .map_err(|problem| ChooseError::Card(format!("configuration `{name}`: {problem}"))),
            None if wanted.is_none() && configs.is_empty() => Ok(None),
            None => {
                let fix = match configs.is_empty() {
                    true => "none, as the dataset's card declares no configurations".to_owned(),
                    false => {
                        let names = configs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                        format!("one of the dataset's configurations: {names}")
                    }
                };
                Err(ChooseError::Wanted(Error::config("dataset_config", wanted.unwrap_or("none"), fix)))
            }
        }
    }
}

/// Why no configuration is chosen.
#[derive(Debug)]
pub(super) enum ChooseError {
    /// The card is malformed, or declares what is not supported.
    Card(String),
    /// There is no such configuration.
    Wanted(Error),
}

fn declared(name: &str, config: &Map<String, Value>) -> Result<DeclaredConfig, String> {
    let folder = match config.get("data_dir") {
        None | Some(Value::Null) => None,
        Some(Value::String(folder)) => Some(card_path(folder)).filter(|folder| !folder.is_empty()),
        Some(other) => return Err(format!("`data_dir` is {other}, not a folder")),
    };
    let place = |pattern: &Value| match (pattern, &folder) {
        (Value::String(pattern), Some(folder)) => Ok(format!("{folder}/{}", card_path(pattern))),
        (Value::String(pattern), None) => Ok(card_path(pattern)),
        (other, _) => Err(format!("`data_files` has {other}, not a pattern for files")),
    };
    let place_all = |patterns: &Value| match patterns {
        Value::Array(patterns) => patterns.iter().map(place).collect::<Result<Vec<_>, _>>(),
        pattern => place(pattern).map(|pattern| vec![pattern]),
    };
    let splits = match config.get("data_files") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) if items.iter().any(Value::is_object) => {
            let mut splits: Vec<(String, Vec<String>)> = Vec::new();
            for item in items {
                let (Some(split), Some(path), Some(2)) =
                    (item.get("split"), item.get("path"), item.as_object().map(Map::len))
                else {
                    return Err(format!("`data_files` has {item}, where `split` and `path` are expected"));
                };
                let split = read::plain(split);
                if splits.iter().any(|(known, _)| *known == split) {
                    return Err(format!("`data_files` has the split `{split}` twice"));
                }
                splits.push((split, place_all(path)?));
            }
            splits
        }
        Some(patterns @ (Value::Array(_) | Value::String(_))) => vec![("train".to_owned(), place_all(patterns)?)],
        Some(other) => return Err(format!("`data_files` is {other}, not patterns or a list of splits")),
    };
    let options = config.iter().filter(|(key, _)| !OTHER_KEYS.contains(&key.as_str()));
    let options = options.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(DeclaredConfig { name: name.to_owned(), folder, splits, options })
}

/// Whether Python takes a value for true.
fn is_true(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty() && !matches!(text.to_ascii_lowercase().as_str(), "no" | "off"),
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(_) => true,
    }
}

impl DeclaredConfig {
    /// The patterns that are plain names. These files must exist.
    pub(super) fn named_files(&self) -> impl Iterator<Item = &str> {
        self.splits
            .iter()
            .flat_map(|(_, patterns)| patterns)
            .map(String::as_str)
            .filter(|name| !patterns::is_pattern(name))
    }
}

/// What the card declares for the configuration `wanted`, or for the default one.
#[cfg(test)]
pub(super) fn declared_config(readme: &str, wanted: Option<&str>) -> Result<Option<DeclaredConfig>, Error> {
    let bad = |problem| Error::BadFile { path: "README.md".into(), problem };
    let configurations = Configurations::of_card(readme).map_err(bad)?.unwrap_or_default();
    configurations.choose(wanted).map_err(|error| match error {
        ChooseError::Card(problem) => bad(problem),
        ChooseError::Wanted(error) => error,
    })
}

#[cfg(test)]
mod tests;
