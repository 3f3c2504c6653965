//! Resuming from a checkpoint.

use super::*;
use crate::json;
use crate::progress::PROGRESS_FILE_NAME;

mod check;

/// The position that a run was resumed at.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumed {
    /// Optimizer steps done before.
    pub global_step: u64,
    /// Epochs done before, including the part of the current one.
    pub epoch: f64,
    /// The best checkpoint of the earlier run, if it no longer exists. The search for the best one
    /// then starts from the beginning, and a `tracing` warning says so.
    pub lost_best_checkpoint: Option<PathBuf>,
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// Loads model, optimizer, state and position from a checkpoint. [`train`](Self::train) then
    /// continues with the next micro-batch, and the run is bit for bit the one that was not
    /// interrupted.
    ///
    /// The length of the run and its schedule come from this run's arguments, so they can change.
    /// The position in the data depends on the seed, the batch size, the accumulation steps and the
    /// number of rows and batches; these must be the same.
    ///
    /// # Errors
    ///
    /// - [`Error::File`] and [`Error::Json`]: a file of the checkpoint cannot be read.
    /// - [`Error::ResumeMismatch`] names everything that changed and must not.
    /// - [`Error::SavedValue`]: a file holds a value that no run can have written.
    /// - [`Error::Learner`]: the learner cannot load the checkpoint.
    pub fn resume_from(&mut self, checkpoint: &Path) -> Result<Resumed> {
        let saved: Progress = json::read(&checkpoint.join(PROGRESS_FILE_NAME))?;
        let mut state = TrainerState::load(&checkpoint.join(TrainerState::FILE_NAME))?;
        self.progress.data.check(&saved.data, checkpoint)?;
        check::check(&self.plan, &state, &saved, checkpoint)?;
        let outcome = self.learner.load_checkpoint(checkpoint);
        outcome.map_err(|source| Error::Learner {
            action: "loading the checkpoint",
            step: state.global_step,
            source,
        })?;

        let lost_best_checkpoint = find_best(&mut state, checkpoint);
        if let Some(lost) = &lost_best_checkpoint {
            let lost = lost.display();
            tracing::warn!("the best checkpoint {lost} no longer exists; the search for the best starts again");
        }
        self.state = state_for(&self.plan, &self.arguments, state);
        self.progress = saved;
        self.adapt_schedule();
        self.process.resumed_from = Some(checkpoint.to_owned());
        self.process.saves.last_checkpoint = Some(checkpoint.to_owned());
        let TrainerState { global_step, epoch, .. } = self.state;
        Ok(Resumed { global_step, epoch, lost_best_checkpoint })
    }

    /// Gives the callbacks of a resumed run their states back.
    pub(super) fn restore_callbacks(&mut self) -> Result<()> {
        if self.process.resumed_from.is_none() {
            return Ok(());
        }
        let states = Value::Object(self.state.stateful_callbacks.clone());
        self.callbacks.restore(&states).map_err(callback_error)
    }
}

/// Looks for the best checkpoint, and records its path in `state`. It looks at `checkpoint`, then
/// beside it, then at the recorded path. The recorded path is the last because the folder may be a
/// copy or may have been moved, and another run may use the old path now. A candidate must name
/// itself as the best checkpoint in its own state.
///
/// If there is none, the best evaluation is removed from `state`, and the recorded path is
/// returned.
fn find_best(state: &mut TrainerState, checkpoint: &Path) -> Option<PathBuf> {
    let recorded = state.best_model_checkpoint.take()?;
    let beside = recorded.file_name().and_then(|name| Some(checkpoint.parent()?.join(name)));
    let candidates = [Some(checkpoint.to_owned()), beside, Some(recorded.clone())];
    state.best_model_checkpoint = candidates.into_iter().flatten().find(|path| is_best(path, state));
    if state.best_model_checkpoint.is_none() {
        state.best_metric = None;
        state.best_global_step = None;
        return Some(recorded);
    }
    None
}

/// Whether `candidate` is the checkpoint of the best evaluation in `state`.
fn is_best(candidate: &Path, state: &TrainerState) -> bool {
    TrainerState::load(&candidate.join(TrainerState::FILE_NAME)).is_ok_and(|found| {
        let TrainerState { global_step, best_global_step, best_metric, .. } = found;
        Some(global_step) == state.best_global_step
            && best_global_step == Some(global_step)
            && best_metric == state.best_metric
    })
}
