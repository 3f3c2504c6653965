//! Where a run stands beyond `trainer_state.json`: `training_progress.json` of a checkpoint.

use crate::{BatchSource, Error, Result, StepRecord, TrainingArguments};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The position and the running sums, in a checkpoint.
pub const PROGRESS_FILE_NAME: &str = "training_progress.json";

/// The [`TrainingArguments`] of the run, in a checkpoint.
pub const TRAINING_ARGS_FILE_NAME: &str = "training_args.json";

/// What an exact resume needs of the loop. All sums are in the order of the steps, and floats are
/// written losslessly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// The epoch the run is in, or the next one, counted from 0.
    pub epoch: u64,
    /// Micro-batches of that epoch that are done.
    pub micro_batches_done: usize,
    /// Whether `on_epoch_end` and what follows it are done since the last step.
    pub epoch_end_done: bool,
    /// Sum of the losses of all steps.
    pub total_loss: f64,
    /// Since the last log.
    pub since_log: SinceLog,
    /// Steps that were not finite and were skipped.
    #[serde(default)]
    pub bad_steps: BadSteps,
    /// Rows in an evaluation batch, when memory allowed for less than was asked for. That of
    /// training is in the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_batch_size: Option<usize>,
    /// What must not change.
    pub fixed: Fixed,
}

/// Sums over the steps since the last log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SinceLog {
    pub num_steps: u64,
    pub loss_sum: f64,
    pub last_grad_norm: f64,
    pub correct_tokens: u64,
    pub target_tokens: u64,
}

/// Counts steps that updated nothing because they were not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BadSteps {
    /// Since the last step that was finite.
    pub in_a_row: u64,
    /// In the whole run.
    pub total: u64,
}

impl BadSteps {
    pub fn add(&mut self) {
        self.in_a_row += 1;
        self.total += 1;
    }
}

/// What the position in the data depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fixed {
    pub seed: u64,
    pub per_device_train_batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub num_train_rows: usize,
    pub num_train_batches: usize,
}

impl Progress {
    pub fn new(fixed: Fixed) -> Self {
        Self {
            epoch: 0,
            micro_batches_done: 0,
            epoch_end_done: false,
            total_loss: 0.0,
            since_log: SinceLog::default(),
            bad_steps: BadSteps::default(),
            eval_batch_size: None,
            fixed,
        }
    }

    /// Adds a step's record to the sums.
    pub fn add(&mut self, record: &StepRecord) {
        self.total_loss += record.loss;
        self.since_log.num_steps += 1;
        self.since_log.loss_sum += record.loss;
        self.since_log.last_grad_norm = record.grad_norm;
        self.since_log.correct_tokens += record.correct_tokens;
        self.since_log.target_tokens += record.target_tokens;
    }

    /// Counts an epoch that was walked to its end.
    pub fn end_epoch(&mut self) {
        self.epoch_end_done = true;
        if self.micro_batches_done >= self.fixed.num_train_batches {
            self.epoch += 1;
            self.micro_batches_done = 0;
        }
    }
}

impl Fixed {
    pub fn new(arguments: &TrainingArguments, train: &impl BatchSource) -> Self {
        Self {
            seed: arguments.seed,
            per_device_train_batch_size: arguments.per_device_train_batch_size,
            gradient_accumulation_steps: arguments.gradient_accumulation_steps,
            num_train_rows: train.num_rows(),
            num_train_batches: train.num_batches(),
        }
    }

    /// An error naming what changed between the checkpoint and this run.
    pub fn check(&self, saved: &Self, checkpoint: &Path) -> Result<()> {
        let pairs = [
            ("seed", saved.seed, self.seed),
            (
                "per_device_train_batch_size",
                saved.per_device_train_batch_size as u64,
                self.per_device_train_batch_size as u64,
            ),
            (
                "gradient_accumulation_steps",
                saved.gradient_accumulation_steps as u64,
                self.gradient_accumulation_steps as u64,
            ),
            ("the number of training rows", saved.num_train_rows as u64, self.num_train_rows as u64),
            ("the number of training batches", saved.num_train_batches as u64, self.num_train_batches as u64),
        ];
        let changes: Vec<String> = pairs
            .into_iter()
            .filter(|(_, was, is)| was != is)
            .map(|(what, was, is)| format!("{what} was {was} and is now {is}; set it back"))
            .collect();
        if changes.is_empty() { Ok(()) } else { Err(Error::ResumeMismatch { path: checkpoint.to_owned(), changes }) }
    }
}
