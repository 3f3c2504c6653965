//! The files of each split as the dataset card declares them: in the YAML at the top of the
//! dataset's `README.md`.
//!
//! ```yaml
//! configs:
//! - config_name: default
//!   data_files:
//!   - split: train
//!     path: data/train-*
//! ```

use super::patterns;
use crate::Error;
use serde::Deserialize;

/// One configuration of a dataset: the names of its splits and the patterns for their files, in
/// order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredConfig {
    pub(super) splits: Vec<(String, Vec<String>)>,
}

#[derive(Deserialize)]
struct Card {
    #[serde(default)]
    configs: Vec<Config>,
}

#[derive(Deserialize)]
struct Config {
    config_name: String,
    #[serde(default)]
    default: bool,
    data_files: Option<DataFiles>,
    data_dir: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DataFiles {
    Pattern(String),
    Patterns(Vec<String>),
    Splits(Vec<SplitPatterns>),
}

#[derive(Deserialize)]
struct SplitPatterns {
    split: String,
    path: OneOrMany,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Returns what the card declares for the configuration `wanted`, or for the default one.
///
/// `None` if the `README.md` is not a dataset card or declares no files.
pub(super) fn declared_config(readme: &str, wanted: Option<&str>) -> Result<Option<DeclaredConfig>, Error> {
    let card: Option<Card> = front_matter(readme).and_then(|yaml| serde_saphyr::from_str(yaml).ok());
    let configs = card.map(|card| card.configs).unwrap_or_default();
    let names = || configs.iter().map(|config| config.config_name.clone()).collect::<Vec<_>>().join(", ");
    let config = match wanted {
        Some(wanted) => configs.iter().find(|config| config.config_name == wanted),
        None if configs.len() < 2 => configs.first(),
        None => configs.iter().find(|config| config.default || config.config_name == "default"),
    };
    match config {
        Some(config) => Ok(config.declared()),
        None if wanted.is_none() && configs.is_empty() => Ok(None),
        None => Err(Error::config(
            "dataset_config",
            wanted.unwrap_or("none"),
            match configs.is_empty() {
                true => "none, as the dataset's card declares no configurations".to_owned(),
                false => format!("one of the dataset's configurations: {}", names()),
            },
        )),
    }
}

fn front_matter(readme: &str) -> Option<&str> {
    let rest = readme.trim_start_matches('\u{feff}').strip_prefix("---")?;
    let end = rest.find("\n---")?;
    Some(&rest[..end])
}

impl Config {
    /// `None` if the configuration declares no files.
    fn declared(&self) -> Option<DeclaredConfig> {
        let folder = self.data_dir.as_deref().map(|folder| folder.trim_matches('/'));
        let place = |pattern: &str| {
            let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
            match folder {
                Some(folder) if !folder.is_empty() => format!("{folder}/{pattern}"),
                _ => pattern.to_owned(),
            }
        };
        let place_all = |patterns: &[String]| patterns.iter().map(|pattern| place(pattern)).collect::<Vec<_>>();
        let splits = match &self.data_files {
            None => vec![("train".to_owned(), vec![place("**")])],
            Some(DataFiles::Pattern(pattern)) => vec![("train".to_owned(), vec![place(pattern)])],
            Some(DataFiles::Patterns(patterns)) => vec![("train".to_owned(), place_all(patterns))],
            Some(DataFiles::Splits(splits)) => splits
                .iter()
                .map(|SplitPatterns { split, path }| match path {
                    OneOrMany::One(pattern) => (split.clone(), vec![place(pattern)]),
                    OneOrMany::Many(patterns) => (split.clone(), place_all(patterns)),
                })
                .collect(),
        };
        (self.data_files.is_some() || folder.is_some()).then_some(DeclaredConfig { splits })
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

#[cfg(test)]
mod tests;
