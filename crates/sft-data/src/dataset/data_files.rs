//! The files that a user names: which ones, and for which split.

use super::format::Format;
use super::patterns::{self, Pattern};
use super::source::list;
use super::split_files::{SplitFiles, is_data};
use crate::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::path::{Component, Path, PathBuf};

/// Files and patterns for files, by split, as `load_dataset(data_files=…)` takes them.
///
/// As text it is a file or a pattern, a list of them (all for the split `train`), a map from splits
/// to these, or a list of `{split, path}`. `*` and `?` stay within a folder, `**` spans folders.
///
/// ```
/// let files: sft_data::DataFiles = serde_json::from_str(r#"{"train": ["a/*.jsonl", "b.jsonl"], "test": "t.jsonl"}"#)?;
/// assert_eq!(files.splits()[1], ("test".to_owned(), vec!["t.jsonl".to_owned()]));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataFiles {
    splits: SplitFiles,
}

impl DataFiles {
    /// The splits in their order, and the files and patterns of each.
    pub fn splits(&self) -> &[(String, Vec<String>)] {
        &self.splits
    }

    /// Files of the split `train`.
    pub(super) fn of_train(pattern: &str) -> Self {
        Self { splits: vec![("train".to_owned(), vec![pattern.to_owned()])] }
    }

    fn of_value(value: &Value) -> Result<Self, String> {
        let splits = match value {
            // A flag holds a map as text.
            Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
                let value: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
                return Self::of_value(&value);
            }
            Value::Array(items) if items.len() == 1 && items[0].as_str().is_some_and(|text| text.starts_with('{')) => {
                return Self::of_value(&items[0]);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                items.iter().map(split_and_path).collect::<Result<_, _>>()?
            }
            Value::Object(splits) => {
                let patterns = |(split, value): (&String, &Value)| Ok((split.clone(), patterns_of(value)?));
                splits.iter().map(patterns).collect::<Result<SplitFiles, String>>()?
            }
            patterns => vec![("train".to_owned(), patterns_of(patterns)?)],
        };
        if splits.is_empty() || splits.iter().any(|(_, patterns)| patterns.is_empty()) {
            return Err("a split has no files".to_owned());
        }
        if let Some((index, (split, _))) = splits
            .iter()
            .enumerate()
            .find(|(index, (split, _))| splits[..*index].iter().any(|(known, _)| known == split))
        {
            return Err(format!("the split `{split}` comes twice (also as number {})", index + 1));
        }
        Ok(Self { splits })
    }
}

fn split_and_path(item: &Value) -> Result<(String, Vec<String>), String> {
    match (item.get("split"), item.get("path"), item.as_object().map(Map::len)) {
        (Some(Value::String(split)), Some(path), Some(2)) => Ok((split.clone(), patterns_of(path)?)),
        _ => Err(format!("{item} stands where `split` and `path` are expected")),
    }
}

fn patterns_of(value: &Value) -> Result<Vec<String>, String> {
    let pattern = |value: &Value| match value {
        Value::String(pattern) if pattern.contains("://") => {
            Err(format!("{pattern} is an address: fetch the file, and name it here"))
        }
        Value::String(pattern) if !pattern.trim().is_empty() => Ok(pattern.clone()),
        other => Err(format!("{other} is not a file or a pattern for files")),
    };
    match value {
        Value::Array(patterns) => patterns.iter().map(pattern).collect(),
        value => pattern(value).map(|pattern| vec![pattern]),
    }
}

impl<'de> Deserialize<'de> for DataFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of_value(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for DataFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.splits.iter().map(|(split, patterns)| (split, patterns)))
    }
}

/// The readers that `load_dataset` knows by name, in place of a dataset: its files are then those
/// of `data_files` or `data_dir`.
pub(super) fn reader_named(name: &str) -> Option<Format> {
    Some(match name {
        "arrow" => Format::Arrow,
        "json" => Format::Json,
        "csv" => Format::Csv,
        "parquet" => Format::Parquet,
        "text" => Format::Text,
        _ => return None,
    })
}

/// The files of each split, wherever they are. Patterns are relative to `base`.
pub(super) fn anywhere(files: &DataFiles, base: &Path) -> Result<SplitFiles, Error> {
    let mut splits = SplitFiles::new();
    for (split, patterns) in &files.splits {
        let mut found: Vec<String> = Vec::new();
        for pattern in patterns {
            for file in matching(base, pattern)? {
                if !found.contains(&file) {
                    found.push(file);
                }
            }
        }
        splits.push((split.clone(), found));
    }
    all_found(splits, files)
}

/// The files of each split among the files of a folder or a repository. `folder` is the part of it
/// that they are in.
pub(super) fn among(
    names: &[String],
    files: &DataFiles,
    folder: Option<&str>,
    location: &str,
) -> Result<SplitFiles, Error> {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_unstable();
    let mut splits = SplitFiles::new();
    for (split, patterns) in &files.splits {
        let mut found: Vec<String> = Vec::new();
        for given in patterns {
            let path = Path::new(given);
            if path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
                let fix = format!(
                    "leads out of {location}; for files anywhere `dataset_name` is json, csv, parquet, text or arrow"
                );
                return Err(Error::config("data_files", given, fix));
            }
            let pattern = card_path(&folder.map_or(given.clone(), |folder| format!("{folder}/{given}")));
            let mut is_there = false;
            let compiled = patterns::is_pattern(&pattern).then(|| Pattern::new(&pattern)).flatten();
            for &name in &names {
                let is_wanted = *name == pattern || compiled.as_ref().is_some_and(|p| p.matches(name) && is_data(name));
                is_there |= is_wanted;
                if is_wanted && !found.contains(name) {
                    found.push(name.clone());
                }
            }
            if !is_there && !patterns::is_pattern(&pattern) {
                return Err(Error::config("data_files", given, format!("there is no such file in {location}")));
            }
        }
        splits.push((split.clone(), found));
    }
    all_found(splits, files)
}

/// A path without parts that say nothing.
pub(super) fn card_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

fn all_found(splits: SplitFiles, files: &DataFiles) -> Result<SplitFiles, Error> {
    match splits.iter().zip(&files.splits).find(|((_, found), _)| found.is_empty()) {
        Some((_, (_, patterns))) => Err(Error::config("data_files", patterns.join(", "), "no file matches")),
        None => Ok(splits),
    }
}

/// The files that a pattern matches, in the order of their names.
fn matching(base: &Path, pattern: &str) -> Result<Vec<String>, Error> {
    let path = base.join(pattern);
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    if path.is_dir() {
        return Err(Error::config(
            "data_files",
            pattern,
            "is a folder; name its files, for example with /* at the end",
        ));
    }
    // Also a name that has characters of patterns.
    if path.exists() {
        return Ok(vec![shown(&path)]);
    }
    if !patterns::is_pattern(pattern) {
        return Err(Error::config("data_files", pattern, "there is no such file"));
    }
    let is_fixed = |part: &Component<'_>| !patterns::is_pattern(&part.as_os_str().to_string_lossy());
    let folder: PathBuf = path.components().take_while(is_fixed).collect();
    let rest: PathBuf = path.components().skip_while(is_fixed).collect();
    if !folder.as_os_str().is_empty() && !folder.is_dir() {
        return Err(Error::config("data_files", pattern, format!("there is no folder {}", folder.display())));
    }
    let mut names = Vec::new();
    let start = if folder.as_os_str().is_empty() { Path::new(".") } else { folder.as_path() };
    list(start, "", &mut Vec::new(), &mut names)?;
    names.sort_unstable();
    let Some(compiled) = Pattern::new(&rest.to_string_lossy()) else { return Ok(Vec::new()) };
    let matched = names.iter().filter(|name| compiled.matches(name) && is_data(name));
    Ok(matched.map(|name| shown(&folder.join(name))).collect())
}

#[cfg(test)]
mod tests;
