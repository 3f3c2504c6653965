//! The state of a run: `trainer_state.json`, in HF's schema.

use crate::{Result, json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// One entry of the log history: figures by name. An entry has the key `loss` for a log of training
/// steps, `eval_loss` for an evaluation, and `train_loss` for the summary of a run.
pub type LogEntry = Map<String, Value>;

/// The state of a run, as callbacks see it and as checkpoints hold it. Keys are in HF's order.
/// Unknown keys in a file are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainerState {
    /// The optimizer step of the best evaluation.
    pub best_global_step: Option<u64>,
    /// The metric of the best evaluation.
    pub best_metric: Option<f64>,
    /// The checkpoint of the best evaluation, when it is complete.
    pub best_model_checkpoint: Option<PathBuf>,
    /// Epochs done, including the part of the current one.
    pub epoch: f64,
    /// Optimizer steps between evaluations.
    pub eval_steps: u64,
    /// Optimizer steps done.
    pub global_step: u64,
    /// Always false; for compatibility with HF.
    pub is_hyper_param_search: bool,
    /// Whether this is the first process of its host.
    pub is_local_process_zero: bool,
    /// Whether this is the first process of all.
    pub is_world_process_zero: bool,
    /// All logs and evaluations since the run began.
    pub log_history: Vec<LogEntry>,
    /// Optimizer steps between logs.
    pub logging_steps: u64,
    /// Optimizer steps in the run.
    pub max_steps: u64,
    /// Tokens trained on, without padding.
    pub num_input_tokens_seen: u64,
    /// Epochs in the run, rounded up.
    pub num_train_epochs: u64,
    /// Optimizer steps between checkpoints.
    pub save_steps: u64,
    /// The states of the callbacks, by name.
    pub stateful_callbacks: Map<String, Value>,
    /// Always 0: operations are not counted.
    pub total_flos: f64,
    /// Rows in a training micro-batch.
    pub train_batch_size: Option<usize>,
    /// Always none; for compatibility with HF.
    pub trial_name: Option<String>,
    /// Always none; for compatibility with HF.
    pub trial_params: Option<Map<String, Value>>,
}

impl Default for TrainerState {
    fn default() -> Self {
        Self {
            best_global_step: None,
            best_metric: None,
            best_model_checkpoint: None,
            epoch: 0.0,
            eval_steps: 500,
            global_step: 0,
            is_hyper_param_search: false,
            is_local_process_zero: true,
            is_world_process_zero: true,
            log_history: Vec::new(),
            logging_steps: 500,
            max_steps: 0,
            num_input_tokens_seen: 0,
            num_train_epochs: 0,
            save_steps: 500,
            stateful_callbacks: Map::new(),
            total_flos: 0.0,
            train_batch_size: None,
            trial_name: None,
            trial_params: None,
        }
    }
}

impl TrainerState {
    /// The file's name, in a checkpoint and in the output folder.
    pub const FILE_NAME: &'static str = "trainer_state.json";

    /// Reads a state from a file.
    ///
    /// # Errors
    ///
    /// [`Error::File`](crate::Error::File) when the file cannot be read, and
    /// [`Error::Json`](crate::Error::Json) when it holds no state.
    pub fn load(path: &Path) -> Result<Self> {
        json::read(path)
    }

    /// Writes the state to a file. An earlier file is replaced as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::File`](crate::Error::File) when the file cannot be written, and
    /// [`Error::Json`](crate::Error::Json) when a path in the state is not UTF-8.
    pub fn save(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }

    /// The last evaluation at optimizer step `step`.
    pub fn evaluation_at(&self, step: u64) -> Option<&LogEntry> {
        let at_step = |entry: &&LogEntry| entry.get("step").and_then(Value::as_u64) == Some(step);
        self.log_history.iter().rev().filter(at_step).find(|entry| entry.contains_key("eval_loss"))
    }

    /// The evaluation with `best_metric`.
    pub fn best_evaluation(&self) -> Option<&LogEntry> {
        self.best_global_step.and_then(|step| self.evaluation_at(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by transformers 5.17.0 (`TrainerState.save_to_json`), with one unknown key added.
    const FROM_HF: &str = include_str!("../goldens/trainer_state.json");

    #[test]
    fn reads_what_hf_writes_and_writes_the_same_keys() {
        let state: TrainerState = serde_json::from_str(FROM_HF).unwrap();
        assert_eq!(state.global_step, 6);
        assert_eq!(state.best_model_checkpoint.as_deref(), Some(Path::new("out/checkpoint-3")));
        assert_eq!(state.log_history.len(), 3);

        let mut from_hf: Map<String, Value> = serde_json::from_str(FROM_HF).unwrap();
        from_hf.shift_remove("some_later_key");
        let ours = serde_json::to_value(&state).unwrap();
        let ours = ours.as_object().unwrap();
        assert_eq!(ours.keys().collect::<Vec<_>>(), from_hf.keys().collect::<Vec<_>>());
        for (key, value) in from_hf {
            let same = ours[&key] == value || ours[&key].as_f64().is_some_and(|ours| Some(ours) == value.as_f64());
            assert!(same, "{key}: {} is not {value}", ours[&key]);
        }
    }

    #[test]
    fn round_trips_every_bit_of_a_float() {
        let state = TrainerState { best_metric: Some(0.1 + 0.2), epoch: 1.0 / 3.0, ..Default::default() };
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<TrainerState>(&text).unwrap(), state);
    }

    #[test]
    fn finds_the_best_evaluation() {
        let state: TrainerState = serde_json::from_str(FROM_HF).unwrap();
        assert_eq!(state.best_evaluation().unwrap()["eval_loss"], 2.5);
        assert_eq!(TrainerState::default().best_evaluation(), None);
    }

    #[test]
    fn a_truncated_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TrainerState::FILE_NAME);
        std::fs::write(&path, &FROM_HF[..40]).unwrap();
        let message = TrainerState::load(&path).unwrap_err().to_string();
        assert!(message.contains("trainer_state.json") && message.contains("line"), "{message}");
    }
}
