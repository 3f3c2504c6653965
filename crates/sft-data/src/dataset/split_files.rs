//! Which files make up which split, told by their names as the `datasets` library tells it.
//!
//! In this order, the first that finds something: files named `data/<split>-00000-of-00001.*`;
//! folders named after a split; files named after a split; all files, as the training split. So
//! `train.jsonl` and `test.jsonl`, or `data/train/*.parquet`, or `my-dev_set.csv` are found. See
//! `datasets/data_files.py`.

use super::card::DeclaredConfig;
use super::format::Format;
use super::glob;
use std::collections::BTreeMap;

/// Files of each split, in reading order. Splits in the order train, validation, test, others.
pub(super) type SplitFiles = Vec<(String, Vec<String>)>;

/// Splits and the words in names that stand for them.
const SPLIT_KEYWORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];
const SHARDED: &str = "data/*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*";
/// Set of characters that may stand beside a keyword.
const SEPARATORS: &str = "[-._ 0-9]";

/// Names that are no data, wherever they are.
const IGNORED_FILES: [&str; 6] =
    ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "dataset_dict.json"];

/// Finds the splits among file names. `declared` is what the dataset's card says, which takes the
/// place of guessing.
pub(super) fn find(names: &[String], declared: Option<&DeclaredConfig>) -> SplitFiles {
    let mut names: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_data(name)).collect();
    names.sort_unstable();
    match declared {
        Some(declared) => {
            by_patterns(&names, declared.splits.iter().map(|(split, patterns)| (split.as_str(), patterns.clone())))
        }
        None => guess(&names),
    }
}

/// Reduces all splits to the files of one format, the most common one; `None` if no file has a
/// known format.
pub(super) fn choose_format(splits: SplitFiles) -> Option<(Format, SplitFiles)> {
    let mut count: BTreeMap<Format, usize> = BTreeMap::new();
    for format in splits.iter().flat_map(|(_, files)| files).filter_map(|name| Format::of(name)) {
        *count.entry(format).or_default() += 1;
    }
    // Of equally common ones the first declared; later keys win in `max_by_key`.
    let (&format, _) = count.iter().rev().max_by_key(|&(_, &count)| count)?;
    let splits = splits
        .into_iter()
        .map(|(split, files)| {
            (split, files.into_iter().filter(|name| Format::of(name) == Some(format)).collect::<Vec<_>>())
        })
        .filter(|(_, files)| !files.is_empty())
        .collect();
    Some((format, splits))
}

fn is_data(name: &str) -> bool {
    let mut parts = name.split('/').rev();
    let file = parts.next().unwrap_or_default();
    !file.starts_with('.')
        && !IGNORED_FILES.contains(&file)
        && parts.all(|folder| !folder.starts_with('.') && !folder.starts_with("__"))
}

fn guess(names: &[&str]) -> SplitFiles {
    let sharded = by_shards(names);
    if !sharded.is_empty() {
        return sharded;
    }
    for patterns_of in [folder_patterns, file_patterns] {
        let found = by_patterns(
            names,
            SPLIT_KEYWORDS
                .iter()
                .map(|&(split, keywords)| (split, keywords.iter().copied().flat_map(patterns_of).collect())),
        );
        if !found.is_empty() {
            return found;
        }
    }
    by_patterns(names, [("train", vec!["**".to_owned()])])
}

fn folder_patterns(keyword: &str) -> Vec<String> {
    vec![
        format!("**/{keyword}/**"),
        format!("**/{keyword}{SEPARATORS}*/**"),
        format!("**/*{SEPARATORS}{keyword}/**"),
        format!("**/*{SEPARATORS}{keyword}{SEPARATORS}*/**"),
    ]
}

fn file_patterns(keyword: &str) -> Vec<String> {
    vec![format!("**/{keyword}{SEPARATORS}*"), format!("**/*{SEPARATORS}{keyword}{SEPARATORS}*")]
}

/// A file that several patterns of a split match is taken once.
fn by_patterns<'a>(names: &[&str], splits: impl IntoIterator<Item = (&'a str, Vec<String>)>) -> SplitFiles {
    let mut found = SplitFiles::new();
    for (split, patterns) in splits {
        let mut files: Vec<String> = Vec::new();
        for pattern in &patterns {
            for name in names.iter().filter(|name| glob::matches(pattern, name)) {
                if !files.iter().any(|file| file == name) {
                    files.push((*name).to_owned());
                }
            }
        }
        if !files.is_empty() {
            found.push((split.to_owned(), files));
        }
    }
    found
}

fn by_shards(names: &[&str]) -> SplitFiles {
    let mut by_split: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for &name in names.iter().filter(|name| glob::matches(SHARDED, name)) {
        let file = name.trim_start_matches("data/");
        // The last `-of-` is the one between the two numbers: shard names are written by machines.
        if let Some(split) = file.rfind("-of-").and_then(|at| file.get(..at.checked_sub(6)?)) {
            by_split.entry(split.to_owned()).or_default().push(name.to_owned());
        }
    }
    let mut splits: SplitFiles = Vec::new();
    for (known, _) in SPLIT_KEYWORDS {
        splits.extend(by_split.remove_entry(known));
    }
    splits.extend(by_split);
    splits
}

#[cfg(test)]
mod tests;
