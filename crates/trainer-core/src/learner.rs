//! The trait of what the loop trains.

use crate::{BatchInfo, BoxError, WriteCheckpoint};
use serde_json::{Map, Value};
use std::path::Path;

/// A model with its optimizer. The loop trains it through this trait and knows nothing else about
/// it.
///
/// For one optimizer step the loop makes these calls:
///
/// ```text
/// forward_backward    once for each micro-batch: gradients add up
/// window_figures      unless max_bad_steps is 0: loss and gradient norm, before the update
/// optimizer_step      the update; or discard_window when a figure is not finite
/// ```
///
/// `forward_backward` and `optimizer_step` only have to queue work on the device. Figures come to
/// the host later, all at once: [`take_step_records`](Self::take_step_records) returns those of all
/// steps since its last call. The loop calls it when a log, an evaluation or a save is due.
///
/// An evaluation is a call of [`evaluate`](Self::evaluate) for each batch, and then
/// [`take_eval_sums`](Self::take_eval_sums). A save is a [`snapshot`](Self::snapshot), which owns
/// what it writes, so training continues while the checkpoint is written.
///
/// # Errors
///
/// An error of any method ends the run, and the loop's error names the action and the step. There
/// are two exceptions. A failed `snapshot` is a failed save: the loop logs it, and training
/// continues. And a learner that runs out of memory in `forward_backward` or `evaluate` returns an
/// [`OutOfMemory`](crate::OutOfMemory): with
/// [`auto_find_batch_size`](crate::TrainingArguments::auto_find_batch_size) the loop continues with
/// smaller batches.
pub trait Learner {
    /// One micro-batch.
    type Batch: BatchInfo;

    /// Runs forward and backward for one micro-batch, and adds to the gradients.
    ///
    /// The loss is the sum over the target tokens of the batch, divided by `window_target_tokens`:
    /// the number of target tokens in the whole accumulation window, at least 1. So the result does
    /// not depend on how the window is divided into micro-batches.
    ///
    /// # Errors
    ///
    /// An [`OutOfMemory`](crate::OutOfMemory) makes the loop try smaller micro-batches, if the
    /// arguments allow it; it calls [`discard_window`](Self::discard_window) first. Any other error
    /// ends the run.
    fn forward_backward(&mut self, batch: &Self::Batch, window_target_tokens: u64) -> Result<(), BoxError>;

    /// The loss and the gradient norm of the current accumulation window, before the update. The
    /// host waits for the device here. The loop calls it before each optimizer step, unless
    /// [`max_bad_steps`](crate::TrainingArguments::max_bad_steps) is 0.
    ///
    /// Default: `None`. The loop then finds a bad step in its [`StepRecord`] only, after the
    /// update, and ends the run.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn window_figures(&mut self) -> Result<Option<WindowFigures>, BoxError> {
        Ok(None)
    }

    /// Discards the gradients and figures of the current accumulation window. Weights and optimizer
    /// stay as they are. The loop calls it instead of [`optimizer_step`](Self::optimizer_step) for
    /// a bad step, and when memory ran out in [`forward_backward`](Self::forward_backward).
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn discard_window(&mut self) -> Result<(), BoxError>;

    /// Clips the gradients, updates the weights, and clears the gradients.
    ///
    /// # Errors
    ///
    /// An error ends the run, because some weights may have been updated and others not. An
    /// [`OutOfMemory`](crate::OutOfMemory) becomes
    /// [`Error::OutOfMemoryInUpdate`](crate::Error::OutOfMemoryInUpdate).
    fn optimizer_step(&mut self, request: StepRequest) -> Result<(), BoxError>;

    /// Returns one record for each optimizer step since the last call, in order. The host waits for
    /// the device here. A step whose update failed has a record too. A step that was discarded has
    /// none.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn take_step_records(&mut self) -> Result<Vec<StepRecord>, BoxError>;

    /// Adds one evaluation batch to the sums of [`take_eval_sums`](Self::take_eval_sums). Weights,
    /// gradients and random state must stay as they are. It does not have to wait for the device.
    ///
    /// # Errors
    ///
    /// A call that fails must add nothing to the sums. An [`OutOfMemory`](crate::OutOfMemory) makes
    /// the loop try smaller batches, if the arguments allow it. Any other error ends the run.
    fn evaluate(&mut self, batch: &Self::Batch) -> Result<(), BoxError>;

    /// Returns the sums over the evaluation batches since the last call. The host waits for the
    /// device here.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn take_eval_sums(&mut self) -> Result<EvalSums, BoxError>;

    /// Copies the current state, and returns a function that writes the copy: the files of the
    /// model and the tokenizer, as `from_pretrained` loads them, and everything else that an exact
    /// resume needs (optimizer state, hidden bits, random state). Training continues while the
    /// store writes, so the copy must not share anything that changes.
    ///
    /// # Errors
    ///
    /// An error is a failed save. The loop logs it with the key `save_error`, and training
    /// continues.
    fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError>;

    /// Loads what [`snapshot`](Self::snapshot) wrote into the checkpoint folder `dir`.
    ///
    /// # Errors
    ///
    /// The checkpoint cannot be read, or it does not fit this learner. The run does not start, or
    /// ends if the best checkpoint was to be loaded at the end.
    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), BoxError>;

    /// Checks that all weights are finite. The loop calls it before each save and at the end of the
    /// run, so that a broken model is never saved. Default: no check.
    ///
    /// # Errors
    ///
    /// A weight is not finite, and the error names it. The run ends with
    /// [`Error::NonFiniteModel`](crate::Error::NonFiniteModel).
    fn check_finite(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Returns more figures for `train_results.json`. The loop calls it once, at the end of the
    /// run. Default: none.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn report(&mut self) -> Result<Map<String, Value>, BoxError> {
        Ok(Map::new())
    }

    /// Waits until the device has finished all queued work, so that step times are correct.
    /// Default: does not wait.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn synchronize(&mut self) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The parameters of one optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRequest {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// A gradient with a larger norm is scaled down to this norm, which is above 0. `None`: no
    /// clipping.
    pub max_grad_norm: Option<f64>,
}

/// The figures of an accumulation window before its update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowFigures {
    /// Mean loss over the target tokens of the accumulation window.
    pub loss: f64,
    /// Norm of the gradient, before clipping.
    pub grad_norm: f64,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationProgress {
    /// Batches that were evaluated.
    pub batches_done: u64,
    /// Batches of the evaluation split.
    pub num_batches: u64,
}

/// The figures of one optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRecord {
    /// Mean loss over the target tokens of the accumulation window.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Target tokens that the model ranked first.
    pub correct_tokens: u64,
    /// Target tokens in the window.
    pub target_tokens: u64,
}

/// Sums over evaluation batches. The loop makes metrics of the sums, so the metrics do not depend
/// on the batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EvalSums {
    /// Sum of the losses of all target tokens.
    pub loss_sum: f64,
    /// Target tokens that the model ranked first.
    pub correct_tokens: u64,
    /// The number of target tokens.
    pub target_tokens: u64,
}

impl std::ops::AddAssign for EvalSums {
    fn add_assign(&mut self, other: Self) {
        self.loss_sum += other.loss_sum;
        self.correct_tokens += other.correct_tokens;
        self.target_tokens += other.target_tokens;
    }
}
