//! The events of a run.
//!
//! Callbacks compose: a `Box`, `&mut`, `Option` or `Vec` of callbacks is a callback. Events reach
//! them in order of registration; the first error ends the run.

use crate::{BoxError, LogEntry, Requests, TrainerState, TrainingArguments};
use serde_json::Value;
use std::path::Path;

mod compose;
pub(crate) use compose::CallbackFailure;

/// What callbacks may look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The arguments of the run.
    pub arguments: &'a TrainingArguments,
    /// The state of the run.
    pub state: &'a TrainerState,
    /// The checkpoint the run goes on from.
    pub resumed_from: Option<&'a Path>,
}

/// What an event handler returns.
pub type EventResult = Result<(), BoxError>;

/// Something that listens to a run. All methods do nothing unless overridden; names and moments are
/// those of HF's `TrainerCallback`.
///
/// ```text
/// on_train_begin
///   on_epoch_begin
///     on_step_begin                        before the first micro-batch of an optimizer step
///       on_substep_end                     after each micro-batch but the last
///       on_pre_optimizer_step              gradients are complete
///       on_optimizer_step                  weights are updated, or were left alone
///     on_step_end                          global_step and epoch count the step
///     [on_log] [on_log on_evaluate] [on_save]
///   on_epoch_end
///   [on_log] [on_log on_evaluate] [on_save]
/// on_log                                   the summary of the run
/// on_train_end                             also after an error, once
/// ```
pub trait Callback {
    /// Names the callback in errors and in `stateful_callbacks`. Default: its type's name.
    fn name(&self) -> &str {
        short_type_name::<Self>()
    }

    /// Training is about to begin, or to go on from a checkpoint (then `global_step` may be above
    /// 0).
    fn on_train_begin(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// Training has ended; called once, also after an error in the loop or in another callback.
    fn on_train_end(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// An epoch begins, or goes on from a checkpoint.
    fn on_epoch_begin(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// An epoch ended, or was left because training stops.
    fn on_epoch_end(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// The batches of an optimizer step are there; the first is about to run.
    fn on_step_begin(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// A micro-batch is done and another of the same optimizer step follows.
    fn on_substep_end(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// Gradients are complete and not yet clipped.
    fn on_pre_optimizer_step(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// The optimizer step was taken, or skipped because it is not finite; `global_step` does not
    /// count it yet.
    fn on_optimizer_step(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// The optimizer step is counted.
    fn on_step_end(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// An entry was added to the log history: a training log, an evaluation, or the summary at the
    /// end.
    fn on_log(&mut self, _context: &Context<'_>, _entry: &LogEntry, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// An evaluation is done; `metrics` is its log entry. No checkpoint of this step need exist
    /// yet, and `best_metric` is that of the evaluations before. A metric that is not finite is
    /// `null`.
    fn on_evaluate(&mut self, _context: &Context<'_>, _metrics: &LogEntry, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// A checkpoint is complete at `checkpoint`: whole, and flushed to the disk. With a store that
    /// writes while training goes on, this may be some steps after the one that was saved; `state`
    /// is that of now. A checkpoint that could not be written has no such event, but an entry in
    /// the log history with `save_error`.
    fn on_save(&mut self, _context: &Context<'_>, _checkpoint: &Path, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// A callback has something to tell the user ([`Requests::notify`]). Not an event of HF's.
    fn on_notice(&mut self, _context: &Context<'_>, _notice: &str, _requests: &mut Requests) -> EventResult {
        Ok(())
    }

    /// What to keep in `trainer_state.json` for [`restore`](Self::restore). Default: nothing.
    fn state(&self) -> Option<Value> {
        None
    }

    /// Takes back what [`state`](Self::state) gave; called before `on_train_begin` of a resumed
    /// run.
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
