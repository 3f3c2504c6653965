//! The events of a run.

use crate::{BoxError, EvaluationProgress, LogEntry, Requests, TrainerState, TrainingArguments, WindowFigures};
use serde_json::Value;
use std::path::Path;

mod compose;
pub(crate) use compose::CallbackFailure;

/// What a callback can look at during an event.
#[derive(Clone, Copy, Debug)]
pub struct CallbackContext<'a> {
    /// The arguments of the run.
    pub arguments: &'a TrainingArguments,
    /// The state of the run.
    pub state: &'a TrainerState,
    /// The checkpoint that the run was resumed from. `None` if it started from the beginning.
    pub resumed_from: Option<&'a Path>,
}

/// What an event handler returns.
pub type EventResult = Result<(), BoxError>;

/// A listener of a run. Early stopping, the choice of the best checkpoint, the deletion of old
/// checkpoints, progress bars and reports are callbacks.
///
/// The events have the names and the moments of HF's `TrainerCallback`. All methods do nothing
/// unless they are overridden. This is the order of events; those in brackets happen when they are
/// due:
///
/// ```text
/// on_train_begin
///   on_epoch_begin
///     on_step_begin                        before the first micro-batch of an optimizer step
///       on_substep_end                     after each micro-batch except the last
///       on_pre_optimizer_step              gradients are complete
///       on_window_figures                  loss and gradient norm are known, unless max_bad_steps is 0
///       on_optimizer_step                  weights are updated, or the step was skipped
///     on_step_end                          global_step and epoch count the step
///     [on_log] [on_prediction_step … on_log on_evaluate] [on_save]
///   on_epoch_end
///   [on_log] [on_prediction_step … on_log on_evaluate] [on_save]
/// on_log                                   the summary of the run
/// on_train_end                             once, also after an error
/// ```
///
/// A callback sees the state of the run in the [`CallbackContext`] and cannot change it. It acts
/// through [`Requests`]: it can ask for a log, an evaluation, a checkpoint, or the end of the run.
///
/// Callbacks compose: a `Box`, a `&mut`, an `Option` and a `Vec` of callbacks are callbacks. Events
/// reach callbacks in the order of registration.
///
/// ```
/// use trainer_core::{Callback, CallbackContext, EventResult, Requests};
///
/// /// Ends the run after some steps, with a checkpoint.
/// struct StopAfter(u64);
///
/// impl Callback for StopAfter {
///     fn on_step_end(&mut self, context: &CallbackContext<'_>, requests: &mut Requests) -> EventResult {
///         if context.state.global_step >= self.0 {
///             requests.request_save();
///             requests.request_stop();
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// # Errors
///
/// The first error of an event handler ends the run. The callbacks after the failing one do not see
/// the event, but `on_train_end` still reaches all callbacks once.
/// [`Error::Callback`](crate::Error::Callback) names the callback and the event. A callback that
/// can do without something, such as a line on the terminal, should emit a `tracing` warning
/// instead of an error.
pub trait Callback {
    /// The name of the callback in errors and in `stateful_callbacks` of the state. Default: the
    /// name of its type.
    fn name(&self) -> &str {
        short_type_name::<Self>()
    }

    /// Training is about to begin, or to continue from a checkpoint. `global_step` is above 0 when
    /// it continues.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_train_begin(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// Training has ended. Every callback sees this event once, also after an error in the loop or
    /// in another callback.
    ///
    /// # Errors
    ///
    /// The run reports the error, unless an earlier error ended it. The other callbacks still see
    /// the event.
    fn on_train_end(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// An epoch begins, or continues from a checkpoint.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_epoch_begin(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// An epoch has ended, or is left early because training stops.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_epoch_end(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// The batches of an optimizer step are ready, and the first one is about to run.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_step_begin(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// A micro-batch is done, and another one of the same optimizer step follows.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_substep_end(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// The gradients are complete and not yet clipped.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_pre_optimizer_step(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// The loss and the gradient norm of the step are known, before its update. They may be NaN or
    /// infinite; the step is then skipped. There is no such event if
    /// [`max_bad_steps`](TrainingArguments::max_bad_steps) is 0, or if the learner does not know
    /// the figures yet. HF has no such event.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_window_figures(
        &mut self,
        _context: &CallbackContext<'_>,
        _figures: WindowFigures,
        _requests: &mut Requests,
    ) -> EventResult {
        Ok(())
    }

    /// The optimizer step was taken, or it was skipped because its loss or gradient is not finite.
    /// `global_step` does not count it yet.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_optimizer_step(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// The optimizer step is counted.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_step_end(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// An entry was added to the log history: a log of training steps, an evaluation, a notice of
    /// the loop (such as `save_error`), or the summary at the end.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_log(&mut self, _context: &CallbackContext<'_>, _entry: &LogEntry, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// An evaluation batch was given to the learner. The device may not have finished it.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_prediction_step(
        &mut self,
        _context: &CallbackContext<'_>,
        _progress: EvaluationProgress,
        _requests: &mut Requests,
    ) -> EventResult {
        Ok(())
    }

    /// An evaluation is done, and `metrics` is its log entry. A metric that is not finite is
    /// `null`. There may be no checkpoint of this step yet, and `best_metric` does not count this
    /// evaluation yet.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_evaluate(
        &mut self,
        _context: &CallbackContext<'_>,
        _metrics: &LogEntry,
        _requests: &mut Requests,
    ) -> EventResult {
        Ok(())
    }

    /// The checkpoint in the folder `checkpoint` is complete: all files are written and flushed to
    /// the disk. A store may write while training continues, so this event can come some steps
    /// after the step that was saved; `state` is the current one. A checkpoint that fails has no
    /// such event. It has an entry with the key `save_error` in the log history.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_save(&mut self, _context: &CallbackContext<'_>, _checkpoint: &Path, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// What to keep in `trainer_state.json` for [`restore`](Self::restore). Default: nothing.
    fn state(&self) -> Option<Value> {
        None
    }

    /// Takes back what [`state`](Self::state) returned. The loop calls it before `on_train_begin`
    /// of a resumed run.
    ///
    /// # Errors
    ///
    /// The value is not one that [`state`](Self::state) returns. The run does not start.
    fn restore(&mut self, _state: &Value) -> EventResult {
        Ok(())
    }
}

/// `a::b::Name<c::D>` → `Name`.
fn short_type_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}
