//! The part of a run's position that `trainer_state.json` does not hold: `training_progress.json`
//! of a checkpoint.

use crate::{BatchSource, Error, Result, StepRecord, TrainingArguments};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file of a checkpoint with the position in the data and the running sums.
pub const PROGRESS_FILE_NAME: &str = "training_progress.json";

/// The file of a checkpoint with the [`TrainingArguments`] of the run.
pub const TRAINING_ARGS_FILE_NAME: &str = "training_args.json";

/// What the loop needs for an exact resume. Sums are taken in the order of the steps, and floats
/// keep every bit in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// The current epoch, or the next one between two epochs, counted from 0.
    pub epoch: u64,
    /// Micro-batches of that epoch that are done.
    pub micro_batches_done: usize,
    /// Whether `on_epoch_end`, and the log, evaluation and save after it, were done after the last
    /// step.
    pub epoch_end_done: bool,
    /// Sum of the losses of all steps.
    pub total_loss: f64,
    /// Sums over the steps since the last log.
    pub since_log: SinceLog,
    /// Counts of the steps that were skipped because they were not finite.
    #[serde(default)]
    pub bad_steps: BadSteps,
    /// Rows in an evaluation batch, when the memory is too small for the number in the arguments.
    /// The number for training is in the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_batch_size: Option<usize>,
    /// What a resumed run must not change.
    #[serde(rename = "fixed")]
    pub data: DataIdentity,
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
    /// Steps since the last finite one.
    pub in_a_row: u64,
    /// Steps of the whole run.
    pub total: u64,
}

impl BadSteps {
    pub fn add(&mut self) {
        self.in_a_row += 1;
        self.total += 1;
    }
}

/// What the position in the data depends on. It is the same in all sessions of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataIdentity {
    pub seed: u64,
    pub per_device_train_batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub num_train_rows: usize,
    pub num_train_batches: usize,
}

impl Progress {
    pub fn new(data: DataIdentity) -> Self {
        Self {
            epoch: 0,
            micro_batches_done: 0,
            epoch_end_done: false,
            total_loss: 0.0,
            since_log: SinceLog::default(),
            bad_steps: BadSteps::default(),
            eval_batch_size: None,
            data,
        }
    }

    /// Adds the record of a step to the sums.
    pub fn add(&mut self, record: &StepRecord) {
        self.total_loss += record.loss;
        self.since_log.num_steps += 1;
        self.since_log.loss_sum += record.loss;
        self.since_log.last_grad_norm = record.grad_norm;
        self.since_log.correct_tokens += record.correct_tokens;
        self.since_log.target_tokens += record.target_tokens;
    }

    /// Records that the end of an epoch is done. The next epoch is then the current one, unless the
    /// last step of the run lies within the epoch.
    pub fn end_epoch(&mut self) {
        self.epoch_end_done = true;
        if self.micro_batches_done >= self.data.num_train_batches {
            self.epoch += 1;
            self.micro_batches_done = 0;
        }
    }
}

impl DataIdentity {
    pub fn new(arguments: &TrainingArguments, train: &impl BatchSource) -> Self {
        Self {
            seed: arguments.row_order_seed(),
            per_device_train_batch_size: arguments.per_device_train_batch_size,
            gradient_accumulation_steps: arguments.gradient_accumulation_steps,
            num_train_rows: train.num_rows(),
            num_train_batches: train.num_batches(),
        }
    }

    /// Returns an error that names all differences between the checkpoint and this run.
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
