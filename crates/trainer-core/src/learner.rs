//! What the loop drives.

use crate::{BatchInfo, BoxError, WriteCheckpoint};
use serde_json::{Map, Value};
use std::path::Path;

/// A model with its optimizer.
///
/// For one optimizer step the loop calls [`forward_backward`](Self::forward_backward) once a
/// micro-batch, then [`optimizer_step`](Self::optimizer_step). Neither has to wait for the device:
/// figures come to the host in [`take_step_records`](Self::take_step_records), which the loop calls
/// when a log, an evaluation or a save is due, and before that in
/// [`window_figures`](Self::window_figures), when steps that are not finite are to be skipped.
///
/// A learner that runs out of memory says so with an [`OutOfMemory`](crate::OutOfMemory); the loop
/// can then go on with smaller batches.
pub trait Learner {
    /// One micro-batch.
    type Batch: BatchInfo;

    /// Forward and backward of one micro-batch, adding to the gradients.
    ///
    /// The loss is the sum over the batch's target tokens divided by `window_target_tokens`, the
    /// number of target tokens in the whole accumulation window (at least 1), so that accumulation
    /// does not change the result.
    fn forward_backward(&mut self, batch: &Self::Batch, window_target_tokens: u64) -> Result<(), BoxError>;

    /// Loss and gradient norm of the micro-batches since the last optimizer step, before anything
    /// is updated. The host waits for the device here. Called before each optimizer step unless
    /// `max_bad_steps` is 0. Default: `None`, which leaves a step that is not finite to be found in
    /// its record.
    fn window_figures(&mut self) -> Result<Option<WindowFigures>, BoxError> {
        Ok(None)
    }

    /// Forgets the micro-batches since the last optimizer step, as if they had never been:
    /// gradients and figures are those of before, and weights and optimizer are left alone. Called
    /// in place of an optimizer step, and after running out of memory in a forward or backward.
    fn discard_window(&mut self) -> Result<(), BoxError>;

    /// Clips, updates, and clears the gradients. An error ends the run, as the update may be half
    /// done; of an [`OutOfMemory`](crate::OutOfMemory) the user is told so.
    fn optimizer_step(&mut self, request: StepRequest) -> Result<(), BoxError>;

    /// One record for each optimizer step since the last call, in order. This is where the host
    /// waits for the device. A step has its record even when its update failed.
    fn take_step_records(&mut self) -> Result<Vec<StepRecord>, BoxError>;

    /// Adds one evaluation batch to the sums of [`take_eval_sums`](Self::take_eval_sums), or
    /// nothing if it fails. Must leave weights, gradients and random state as they are, and need
    /// not wait for the device.
    fn evaluate(&mut self, batch: &Self::Batch) -> Result<(), BoxError>;

    /// The sums over the evaluation batches since the last call.
    fn take_eval_sums(&mut self) -> Result<EvalSums, BoxError>;

    /// A copy of this moment that writes itself: model and tokenizer files, as `from_pretrained`
    /// loads them, and what an exact resume needs besides (optimizer state, hidden bits, random
    /// state). Training goes on while it is written, so it shares nothing that changes.
    fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError>;

    /// Restores what [`snapshot`](Self::snapshot) wrote into a checkpoint folder.
    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), BoxError>;

    /// Fails when a weight is not finite; the error says which. Called before each save and at the
    /// end, so that a model that was destroyed is never saved. Default: not checked.
    fn check_finite(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Further figures for `train_results.json`, asked for once at the end. Default: none.
    fn report(&mut self) -> Result<Map<String, Value>, BoxError> {
        Ok(Map::new())
    }

    /// Waits until the device has done all work queued so far, so that step times are real.
    /// Default: nothing to wait for.
    fn synchronize(&mut self) -> Result<(), BoxError> {
        Ok(())
    }
}

/// How one optimizer step is to be taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRequest {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// Scale gradients down to this norm; `None`: leave them. Never 0 or less.
    pub max_grad_norm: Option<f64>,
}

/// What is known of a step before it updates anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowFigures {
    /// Mean loss over the target tokens of the accumulation window.
    pub loss: f64,
    /// Norm of the gradient.
    pub grad_norm: f64,
}

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRecord {
    /// Mean loss over the target tokens of the accumulation window.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Target tokens the model ranked first.
    pub correct_tokens: u64,
    /// Target tokens in the window.
    pub target_tokens: u64,
}

/// Sums over evaluation batches; they add up, so the metrics do not depend on the batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EvalSums {
    /// Sum of the losses of all target tokens.
    pub loss_sum: f64,
    /// Target tokens the model ranked first.
    pub correct_tokens: u64,
    /// Target tokens.
    pub target_tokens: u64,
}

impl std::ops::AddAssign for EvalSums {
    fn add_assign(&mut self, other: Self) {
        self.loss_sum += other.loss_sum;
        self.correct_tokens += other.correct_tokens;
        self.target_tokens += other.target_tokens;
    }
}
