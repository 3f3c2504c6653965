//! What a run leaves in its output folder.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Keys of log entries whose values are times and differ from run to run.
pub const TIME_KEYS: [&str; 7] = [
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "eval_runtime",
    "eval_samples_per_second",
    "eval_steps_per_second",
    "total_flos",
];

/// An output folder, or a checkpoint in it.
#[derive(Debug, Clone)]
pub struct Results {
    folder: PathBuf,
}

impl Results {
    /// The results in a folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Reads a JSON file of the folder.
    ///
    /// # Errors
    /// When the file does not exist or is not JSON.
    pub fn json(&self, name: &str) -> Result<Value> {
        let path = self.folder.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The entries of `log_history` in trainer_state.json.
    ///
    /// # Errors
    /// When there are none.
    pub fn log_history(&self) -> Result<Vec<Map<String, Value>>> {
        let state = self.json("trainer_state.json")?;
        let entries = state["log_history"].as_array().context("no log_history")?;
        entries.iter().map(|entry| entry.as_object().cloned().context("a log entry is no object")).collect()
    }

    /// The numbers under `key` in the log history, in order.
    ///
    /// # Errors
    /// When there is no log history.
    pub fn logged(&self, key: &str) -> Result<Vec<f64>> {
        Ok(self.log_history()?.iter().filter_map(|entry| entry.get(key)?.as_f64()).collect())
    }

    /// Reads the bytes of a file of the folder.
    ///
    /// # Errors
    /// When the file does not exist.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    }
}

/// Log entries without the keys whose values differ from run to run.
pub fn without_times(entries: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    let keep = |(key, _): &(String, Value)| !TIME_KEYS.contains(&key.as_str());
    entries.into_iter().map(|entry| entry.into_iter().filter(keep).collect()).collect()
}

/// The sorted names in a folder, including hidden ones.
///
/// # Errors
/// When it cannot be listed.
pub fn file_names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
