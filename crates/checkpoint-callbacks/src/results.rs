//! The result files in the output folder. Names and keys are those of Hugging Face.

use crate::disk::{Disk, RealDisk};
use crate::{Error, Result, durable};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;

#[cfg(test)]
mod tests;

const TRAIN_RESULTS: &str = "train_results.json";
const EVAL_RESULTS: &str = "eval_results.json";
const ALL_RESULTS: &str = "all_results.json";

/// Writes `train_results.json`, `eval_results.json` when there is an evaluation, and
/// `all_results.json` with both. Without an evaluation an `eval_results.json` in the folder is
/// removed, because it belongs to an earlier run.
///
/// The key `step` of the evaluation is left out. `epoch` in `all_results.json` is that of `train`.
/// Each file is written as [`write_json`] does.
///
/// # Errors
/// [`Error::File`] when a file cannot be written or removed.
pub fn write_results(
    output_dir: &Path,
    train: &Map<String, Value>,
    evaluation: Option<&Map<String, Value>>,
) -> Result<()> {
    write_results_on(&RealDisk, output_dir, train, evaluation)
}

fn write_results_on(
    disk: &dyn Disk,
    output_dir: &Path,
    train: &Map<String, Value>,
    evaluation: Option<&Map<String, Value>>,
) -> Result<()> {
    let mut all = train.clone();
    write_json_on(disk, output_dir, TRAIN_RESULTS, train)?;
    match evaluation {
        Some(evaluation) => {
            let mut evaluation = evaluation.clone();
            evaluation.shift_remove("step");
            write_json_on(disk, output_dir, EVAL_RESULTS, &evaluation)?;
            all.extend(evaluation.into_iter().filter(|(key, _)| key != "epoch"));
        }
        None => durable::remove_file(disk, &output_dir.join(EVAL_RESULTS))?,
    }
    write_json_on(disk, output_dir, ALL_RESULTS, &all)
}

/// Writes `value` as indented JSON to `output_dir/name`, with a line feed at the end. The text goes
/// into a file beside it, which is flushed and then renamed: the file is never half written.
///
/// # Errors
/// [`Error::Json`] when `value` cannot be turned into JSON, [`Error::File`] when the disk fails.
pub fn write_json(output_dir: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    write_json_on(&RealDisk, output_dir, name, value)
}

fn write_json_on(disk: &dyn Disk, output_dir: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let path = output_dir.join(name);
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::Json { path: path.clone(), source })?;
    text.push(b'\n');
    durable::write_file(disk, &path, &text)
}
