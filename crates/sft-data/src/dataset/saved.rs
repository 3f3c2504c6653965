//! Datasets as `save_to_disk` of the `datasets` library leaves them: a folder with `state.json`,
//! which names the Arrow files in their order, or one such folder for each split and
//! `dataset_dict.json`, which names the splits.

use super::data_files::card_path;
use super::read::plain;
use super::split_files::SplitFiles;
use crate::Error;
use serde_json::Value;
use std::path::PathBuf;

const SPLITS: &str = "dataset_dict.json";
const STATE: &str = "state.json";
/// The file that is beside every `state.json`, so that another `state.json` is not taken for one.
const INFO: &str = "dataset_info.json";

/// Reads a file of JSON of the dataset.
type JsonOf<'a> = dyn Fn(&str) -> Result<Option<(PathBuf, Value)>, Error> + 'a;

/// The files of each split. `None` if the dataset was not saved in this way.
pub(super) fn splits(names: &[String], json_of: &JsonOf<'_>) -> Result<Option<SplitFiles>, Error> {
    let has = |name: &str| names.iter().any(|known| known == name);
    if has(STATE) && has(INFO) {
        return Ok(Some(vec![("train".to_owned(), files_of("", names, json_of)?)]));
    }
    if !has(SPLITS) {
        return Ok(None);
    }
    let Some((path, dict)) = json_of(SPLITS)? else { return Ok(None) };
    let Some(splits) = dict.get("splits").and_then(Value::as_array) else {
        return Err(Error::BadFile { path, problem: "has no list `splits`; save the dataset again".to_owned() });
    };
    let mut found = SplitFiles::new();
    for split in splits {
        let Some(name) = split.as_str().filter(|name| is_name(name)) else {
            return Err(Error::BadFile { path, problem: format!("names {}, which is no split", plain(split)) });
        };
        found.push((name.to_owned(), files_of(&format!("{name}/"), names, json_of)?));
    }
    Ok(Some(found))
}

/// The files of the split in a folder.
fn files_of(folder: &str, names: &[String], json_of: &JsonOf<'_>) -> Result<Vec<String>, Error> {
    let state = format!("{folder}{STATE}");
    let Some((path, state)) = json_of(&state)? else {
        let problem = "is missing; save the dataset again, or copy all of its folder".to_owned();
        return Err(Error::BadFile { path: state.into(), problem });
    };
    let bad = |problem: String| Error::BadFile { path: path.clone(), problem };
    if state.get("_indices_files").and_then(Value::as_array).is_some_and(|files| !files.is_empty()) {
        let problem = "selects rows of its files (`_indices_files`); save the dataset with datasets 2 or later";
        return Err(bad(problem.to_owned()));
    }
    let declared = |key: &str| state.get(key).is_some_and(|value| !value.is_null());
    if ["_format_type", "_format_columns"].into_iter().any(declared) {
        tracing::warn!("{}: the dataset was saved with a format; all of its columns are read", path.display());
    }
    let files = state.get("_data_files").and_then(Value::as_array);
    let files = files.ok_or_else(|| bad("has no list `_data_files`; save the dataset again".to_owned()))?;
    let mut found = Vec::new();
    for file in files {
        let Some(name) = file.get("filename").and_then(Value::as_str).filter(|name| is_name(name)) else {
            return Err(bad(format!("names the file {file}, which is no name; save the dataset again")));
        };
        let name = card_path(&format!("{folder}{name}"));
        if !names.contains(&name) {
            return Err(bad(format!("names {name}, which is not there; copy all of its folder")));
        }
        found.push(name);
    }
    if found.is_empty() { Err(bad("names no files, so there are no rows".to_owned())) } else { Ok(found) }
}

/// Whether this is the name of a file beside the one that names it.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\']) && name != ".."
}
