//! The result files in `output_dir`: names and keys are Hugging Face's.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Writes train_results.json, eval_results.json (when something was evaluated) and all_results.json, both in one.
///
/// # Errors
/// When a file cannot be written.
pub fn write(output_dir: &Path, train: &Map<String, Value>, evaluation: Option<&Map<String, Value>>) -> Result<()> {
    let mut all = train.clone();
    write_json(output_dir, "train_results.json", train)?;
    if let Some(evaluation) = evaluation {
        let evaluation: Map<String, Value> = evaluation
            .iter()
            .filter(|(key, _)| *key != "step")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        write_json(output_dir, "eval_results.json", &evaluation)?;
        all.extend(evaluation.into_iter().filter(|(key, _)| key != "epoch"));
    }
    write_json(output_dir, "all_results.json", &all)
}

fn write_json(output_dir: &Path, name: &str, object: &Map<String, Value>) -> Result<()> {
    let path = output_dir.join(name);
    let text = serde_json::to_string_pretty(object)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
