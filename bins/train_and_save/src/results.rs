//! The result files in `output_dir`: names and keys are Hugging Face's.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes train_results.json, eval_results.json (when something was evaluated) and
/// all_results.json, both in one.
///
/// # Errors
/// When a file cannot be written.
pub fn write(output_dir: &Path, train: &Map<String, Value>, evaluation: Option<&Map<String, Value>>) -> Result<()> {
    let mut all = train.clone();
    write_json(output_dir, "train_results.json", train)?;
    match evaluation {
        Some(evaluation) => {
            let mut evaluation = evaluation.clone();
            evaluation.shift_remove("step");
            write_json(output_dir, "eval_results.json", &evaluation)?;
            all.extend(evaluation.into_iter().filter(|(key, _)| key != "epoch"));
        }
        // One of an earlier run would be taken for this one's.
        None => remove_if_there(&output_dir.join("eval_results.json"))?,
    }
    write_json(output_dir, "all_results.json", &all)
}

/// Writes beside the place and renames, so that a file is never half there.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(output_dir: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let (path, staged) = (output_dir.join(name), output_dir.join(format!(".{name}.partial")));
    let text = serde_json::to_string_pretty(value)? + "\n";
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&staged)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&staged, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
