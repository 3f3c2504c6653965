//! Going on from a checkpoint.

use super::*;
use crate::json;
use crate::progress::PROGRESS_FILE_NAME;

mod saved;

/// What a checkpoint brought back.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumed {
    /// Optimizer steps already done.
    pub global_step: u64,
    /// Epochs already done, with the part of the current one.
    pub epoch: f64,
    /// The best checkpoint of the earlier run, when it cannot be found any more. The search for the
    /// best then starts anew.
    pub lost_best_checkpoint: Option<PathBuf>,
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// Takes model, optimizer, state and position from a checkpoint, so that [`train`](Self::train)
    /// goes on with the next micro-batch. The length of the run and its schedule are those of this
    /// run's arguments; what the position in the data depends on must be unchanged.
    pub fn resume_from(&mut self, checkpoint: &Path) -> Result<Resumed> {
        let saved: Progress = json::read(&checkpoint.join(PROGRESS_FILE_NAME))?;
        let mut state = TrainerState::load(&checkpoint.join(TrainerState::FILE_NAME))?;
        self.progress.fixed.check(&saved.fixed, checkpoint)?;
        saved::check(&self.plan, &state, &saved, checkpoint)?;
        let outcome = self.learner.load_checkpoint(checkpoint);
        outcome.map_err(|source| Error::Learner {
            action: "loading the checkpoint",
            step: state.global_step,
            source,
        })?;

        let lost_best_checkpoint = find_best(&mut state, checkpoint);
        self.state = state_for(&self.plan, &self.arguments, state);
        self.progress = saved;
        self.session.resumed_from = Some(checkpoint.to_owned());
        self.session.saves.last_checkpoint = Some(checkpoint.to_owned());
        let TrainerState { global_step, epoch, .. } = self.state;
        Ok(Resumed { global_step, epoch, lost_best_checkpoint })
    }

    /// Gives callbacks their states back; they may have been registered after
    /// [`resume_from`](Self::resume_from).
    pub(super) fn restore_callbacks(&mut self) -> Result<()> {
        if self.session.resumed_from.is_none() {
            return Ok(());
        }
        let states = Value::Object(self.state.stateful_callbacks.clone());
        self.callbacks.restore(&states).map_err(callback_error)
    }
}

/// Looks for the best checkpoint: it may be the one resumed from, be beside it, or be where it was.
/// A copied or moved folder brings its own best along, so the recorded path, which may by now
/// belong to another run, comes last, and none counts that does not say of itself that it is the
/// one. Without it, the state forgets the best and the lost path is returned.
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

/// Whether `candidate` is the checkpoint that `state` calls the best.
fn is_best(candidate: &Path, state: &TrainerState) -> bool {
    TrainerState::load(&candidate.join(TrainerState::FILE_NAME)).is_ok_and(|found| {
        let TrainerState { global_step, best_global_step, best_metric, .. } = found;
        Some(global_step) == state.best_global_step
            && best_global_step == Some(global_step)
            && best_metric == state.best_metric
    })
}
