//! What a report tells of a run, from its callbacks or from its folder.

use crate::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use trainer_core::{LogEntry, MetricsFile, TRAINING_ARGS_FILE_NAME, TrainerState};

/// Longest file that is read, in bytes. A log of a million steps is 200 MB.
const LONGEST_FILE: u64 = 512 << 20;

/// The figures and settings of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRecord {
    /// What it is called: the name of its folder, unless it has another.
    pub name: String,
    /// All logs and evaluations.
    pub log_history: Vec<LogEntry>,
    /// Optimizer steps done and to do.
    pub steps: (u64, u64),
    /// The step of the best evaluation.
    pub best_step: Option<u64>,
    /// The options of the run by name.
    pub settings: Map<String, Value>,
    /// Those of them that are not as in the recipe.
    pub differences: Map<String, Value>,
    /// Lines about the rows.
    pub data: Vec<String>,
    /// The figures of the whole run.
    pub results: Map<String, Value>,
    /// What no file of Hugging Face's has.
    pub(crate) chronicle: Chronicle,
}

/// What only a callback sees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chronicle {
    /// Steps and the tokens a second since the log before.
    #[serde(default)]
    pub(crate) tokens_per_second: Vec<(u64, f64)>,
    /// Steps of complete checkpoints, those deleted since too.
    #[serde(default)]
    pub(crate) saves: Vec<u64>,
    /// See [`RunRecord::settings`].
    #[serde(default)]
    pub(crate) settings: Map<String, Value>,
    /// See [`RunRecord::differences`].
    #[serde(default)]
    pub(crate) differences: Map<String, Value>,
    /// See [`RunRecord::data`].
    #[serde(default)]
    pub(crate) data: Vec<String>,
    /// The name of the run, if it was given one.
    #[serde(default)]
    pub(crate) run_name: Option<String>,
}

impl RunRecord {
    /// Reads the folder of a run, of Hugging Face's Trainer too: `trainer_state.json` there or in
    /// its newest checkpoint, and what else there is. The run may still be going on.
    ///
    /// # Errors
    ///
    /// [`Error::NoRun`] for a folder without a state and without `metrics.jsonl`, [`Error::File`]
    /// for a file that cannot be read or is not what its name says.
    pub fn read(output_dir: &Path) -> Result<Self, Error> {
        let checkpoints = checkpoints(output_dir)?;
        let newest = checkpoints.last().map(|(_, path)| path.as_path());
        let folders = [Some(output_dir), newest];
        let state = folders.into_iter().flatten().map(|folder| folder.join(TrainerState::FILE_NAME));
        let state = state.into_iter().find(|path| path.is_file()).map(|path| object(&path)).transpose()?;
        let metrics = output_dir.join(MetricsFile::FILE_NAME);
        let metrics = if metrics.is_file() { Some(lines(&metrics)?) } else { None };
        if state.is_none() && metrics.is_none() {
            let problem = "there is no trainer_state.json and no metrics.jsonl: name the output_dir of a run";
            return Err(Error::NoRun { path: output_dir.to_owned(), problem: problem.to_owned() });
        }
        let state = state.unwrap_or_default();
        let history = state.get("log_history").and_then(Value::as_array).into_iter().flatten();
        let history: Vec<LogEntry> = history.filter_map(|entry| entry.as_object().cloned()).collect();
        // While a run goes on, its lines are ahead of its last state.
        let log_history = metrics.filter(|lines| lines.len() >= history.len()).unwrap_or(history);
        let chronicle = state.get("stateful_callbacks").and_then(chronicle_in).cloned();
        let chronicle: Chronicle = chronicle.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
        let number = |name: &str| state.get(name).and_then(Value::as_u64);
        let last = log_history.iter().filter_map(|entry| entry.get("step")?.as_u64()).max().unwrap_or(0);
        let results = output_dir.join("all_results.json");
        let folder_name = std::path::absolute(output_dir).unwrap_or_else(|_| output_dir.to_owned());
        let mut record = Self {
            name: folder_name.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            steps: (last.max(number("global_step").unwrap_or(0)), number("max_steps").unwrap_or(0)),
            best_step: number("best_global_step"),
            log_history,
            results: if results.is_file() { object(&results)? } else { Map::new() },
            settings: newest.map_or_else(Map::new, settings_of),
            ..Self::default()
        };
        record.take(chronicle);
        for (step, _) in checkpoints {
            if !record.chronicle.saves.contains(&step) {
                record.chronicle.saves.push(step);
            }
        }
        Ok(record)
    }

    /// The record of a run that goes on.
    pub(crate) fn of(state: &TrainerState, name: String, chronicle: Chronicle) -> Self {
        let mut record = Self {
            name,
            log_history: state.log_history.clone(),
            steps: (state.global_step, state.max_steps),
            best_step: state.best_global_step,
            ..Self::default()
        };
        record.take(chronicle);
        record
    }

    fn take(&mut self, mut chronicle: Chronicle) {
        for (own, kept) in [
            (&mut self.settings, std::mem::take(&mut chronicle.settings)),
            (&mut self.differences, std::mem::take(&mut chronicle.differences)),
        ] {
            if !kept.is_empty() {
                *own = kept;
            }
        }
        self.data = std::mem::take(&mut chronicle.data);
        if let Some(name) = chronicle.run_name.take() {
            self.name = name;
        }
        self.chronicle = chronicle;
    }
}

/// What [`Reports`](crate::Reports) kept among the states of callbacks. A list of callbacks has a
/// state of its own, in which they are.
fn chronicle_in(states: &Value) -> Option<&Value> {
    match states.get("Reports") {
        Some(reports) => reports.get("attributes")?.get("html"),
        None => states.as_object()?.values().find_map(chronicle_in),
    }
}

/// The checkpoints in a folder by their steps.
fn checkpoints(output_dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(output_dir).map_err(Error::file(output_dir))? {
        let entry = entry.map_err(Error::file(output_dir))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("checkpoint-")?.parse().ok());
        found.extend(step.map(|step| (step, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// What the files of a checkpoint say about options, without digests.
fn settings_of(checkpoint: &Path) -> Map<String, Value> {
    let mut settings = Map::new();
    for name in [TRAINING_ARGS_FILE_NAME, "run.json"] {
        for (name, value) in object(&checkpoint.join(name)).unwrap_or_default() {
            match value {
                Value::Object(group) => group.into_iter().for_each(|(name, value)| drop(settings.insert(name, value))),
                _ if matches!(name.as_str(), "train_rows" | "eval_rows" | "model_config") => {}
                value => drop(settings.insert(name, value)),
            }
        }
    }
    settings
}

fn text(path: &Path) -> Result<String, Error> {
    let read = || {
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        let mut text = String::new();
        File::open(path)?.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > LONGEST_FILE {
            return Err(std::io::Error::other(format!("it is longer than {LONGEST_FILE} bytes")));
        }
        Ok(text)
    };
    read().map_err(Error::file(path))
}

fn object(path: &Path) -> Result<Map<String, Value>, Error> {
    serde_json::from_str(&text(path)?).map_err(|error| Error::file(path)(error.into()))
}

/// The entries of `metrics.jsonl`. The last line may be half written.
fn lines(path: &Path) -> Result<Vec<LogEntry>, Error> {
    let text = text(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entries = whole.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    entries.map_err(|error| Error::file(path)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_folder_without_a_run_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = RunRecord::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("no trainer_state.json") && message.contains("name the output_dir"), "{message}");
        assert!(RunRecord::read(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
        std::fs::write(dir.path().join("metrics.jsonl"), "{\"loss\": 1}\nno json\n").unwrap();
        assert!(RunRecord::read(dir.path()).unwrap_err().to_string().contains("metrics.jsonl"));
    }

    #[test]
    fn a_run_of_hugging_face_and_one_that_goes_on_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("checkpoint-9"), dir.path().join("checkpoint-10"));
        for (folder, step) in [(&old, 9), (&new, 10)] {
            std::fs::create_dir(folder).unwrap();
            // As transformers writes it: with fields that are not ours.
            let state = json!({
                "stateful_callbacks": { "TrainerControl": {}, "callbacks": { "LossSpike": {}, "Reports": {
                    "args": {}, "attributes": { "html": { "saves": [3], "run_name": "kept", "from_later": 1 } },
                } } },
                "best_global_step": 9, "global_step": step, "max_steps": 20, "logging_steps": 0.5, "unknown": {},
                "log_history": [{ "loss": 2.0, "step": 1 }, { "eval_loss": 1.5, "step": 9 }],
            });
            std::fs::write(folder.join("trainer_state.json"), state.to_string()).unwrap();
        }
        let record = RunRecord::read(dir.path()).unwrap();
        assert_eq!((record.steps, record.best_step, record.log_history.len()), ((10, 20), Some(9), 2));
        assert_eq!((record.name.as_str(), record.chronicle.saves), ("kept", vec![3, 9, 10]));

        let text = "{\"loss\":2,\"step\":1}\n{\"loss\":2,\"step\":2}\n{\"loss\":2,\"step\":12}\n{\"lo";
        std::fs::write(dir.path().join("metrics.jsonl"), text).unwrap();
        let record = RunRecord::read(dir.path()).unwrap();
        assert_eq!((record.steps.0, record.log_history.len()), (12, 3));
    }
}
