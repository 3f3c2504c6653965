//! Which files belong to which split, by the rules of the `datasets` library
//! (`datasets/data_files.py`).
//!
//! The first of these rules that finds a file is used: files named `data/<split>-00000-of-00001.*`;
//! folders named after a split; files named after a split; all files, as the training split. For
//! example, `train.jsonl` and `test.jsonl`, `data/train/*.parquet` or `my-dev_set.csv` are found.

use super::card::DeclaredConfig;
use super::format::Format;
use super::patterns::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// The files of each split in the order in which they are read. The splits are in the order train,
/// validation, test, others.
pub(super) type SplitFiles = Vec<(String, Vec<String>)>;

/// Splits, and the words that stand for them in file names.
const SPLIT_KEYWORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];
/// Number of missing shards that are named.
const NUM_QUOTED: usize = 5;
const SHARDED: &str = "data/*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*";
/// The set of characters that may be next to a keyword.
const SEPARATORS: &str = "[-._ 0-9]";

/// Files that hold no rows, in any folder.
const IGNORED_FILES: [&str; 6] =
    ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "dataset_dict.json"];

/// Finds the splits among file names. If the dataset card declares them, the names are not used to
/// guess.
pub(super) fn find(names: &[String], declared: Option<&DeclaredConfig>) -> SplitFiles {
    let mut names: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_data(name)).collect();
    names.sort_unstable();
    match declared {
        Some(declared) if !declared.splits.is_empty() => {
            by_patterns(&names, declared.splits.iter().map(|(split, patterns)| (split.as_str(), patterns.clone())))
        }
        Some(DeclaredConfig { folder: Some(folder), .. }) => guess_in(folder, &names),
        _ => guess(&names),
    }
}

/// Finds the splits among the files below a folder by their names alone.
pub(super) fn find_in(folder: &str, names: &[String]) -> SplitFiles {
    let mut names: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_data(name)).collect();
    names.sort_unstable();
    guess_in(folder, &names)
}

/// Guesses from the names below a folder.
fn guess_in(folder: &str, names: &[&str]) -> SplitFiles {
    let below = |name: &&str| name.strip_prefix(folder)?.strip_prefix('/').map(str::len);
    let names: Vec<&str> =
        names.iter().filter_map(|name| below(name).map(|length| &name[name.len() - length..])).collect();
    let mut splits = guess(&names);
    for name in splits.iter_mut().flat_map(|(_, files)| files) {
        *name = format!("{folder}/{name}");
    }
    splits
}

/// Says which shards are missing among the files of a split. `None` if none is. In a name such as
/// `train-00001-of-00003.parquet`, the second number is that of all shards.
pub(super) fn missing_shards(files: &[String]) -> Option<String> {
    let mut sets: BTreeMap<(&str, u64, &str), BTreeSet<u64>> = BTreeMap::new();
    for file in files {
        if let Some((before, number, total, after)) = shard(file) {
            sets.entry((before, total, after)).or_default().insert(number);
        }
    }
    let missing: Vec<String> = sets
        .iter()
        .filter(|((_, total, _), numbers)| (numbers.len() as u64) < *total)
        .map(|((before, total, after), numbers)| {
            let missing = (0..*total).filter(|number| !numbers.contains(number));
            let named: Vec<String> = missing.take(NUM_QUOTED).map(|number| format!("{number:05}")).collect();
            let num_missing = total - numbers.len() as u64;
            let more = if num_missing > NUM_QUOTED as u64 { ", …" } else { "" };
            format!(
                "{num_missing} of {total} files {before}-*-of-{total:05}{after} missing ({}{more})",
                named.join(", ")
            )
        })
        .collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// What comes before the number of a shard, the two numbers, and the rest.
fn shard(name: &str) -> Option<(&str, u64, u64, &str)> {
    let at = name.rfind("-of-")?;
    let digits =
        |text: &str| (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?;
    let (before, number) = name[..at].rsplit_once('-')?;
    let total = name.get(at + 4..at + 9)?;
    let (number, total) = (digits(number)?, digits(total)?);
    (number < total).then(|| (before, number, total, &name[at + 9..]))
}

/// Reduces all splits to the files of the most common format. `None` if no file has a known format.
pub(super) fn choose_format(splits: SplitFiles) -> Option<(Format, SplitFiles)> {
    let mut count: BTreeMap<Format, usize> = BTreeMap::new();
    for format in splits.iter().flat_map(|(_, files)| files).filter_map(|name| Format::of(name)) {
        *count.entry(format).or_default() += 1;
    }
    // `max_by_key` returns the last of equal keys, so the reversed order picks the format declared
    // first.
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

pub(super) fn is_data(name: &str) -> bool {
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

/// A file that matches several patterns of a split is taken once.
fn by_patterns<'a>(names: &[&str], splits: impl IntoIterator<Item = (&'a str, Vec<String>)>) -> SplitFiles {
    let mut found = SplitFiles::new();
    for (split, patterns) in splits {
        let mut files: Vec<String> = Vec::new();
        for pattern in patterns.iter().filter_map(|pattern| Pattern::new(pattern)) {
            for name in names.iter().filter(|name| pattern.matches(name)) {
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
    let sharded = Pattern::new(SHARDED);
    for &name in names.iter().filter(|name| sharded.as_ref().is_some_and(|sharded| sharded.matches(name))) {
        let file = name.trim_start_matches("data/");
        // The name of a split may contain `-of-` too, so the last one is between the two numbers.
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
