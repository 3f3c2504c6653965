//! Checkpoints. The store may write them while training continues.
//!
//! A checkpoint holds the state of its step. When the store reports that the checkpoint is
//! complete, the loop records the path of the best checkpoint and calls `on_save`. When the store
//! reports a failure, the loop logs it, and the next save is a new attempt.

use super::*;
use crate::progress::{PROGRESS_FILE_NAME, TRAINING_ARGS_FILE_NAME};
use crate::requests::TrainingStatus;
use crate::{CheckpointFolder, Saved, error, json};
use serde_json::Value;

/// The checkpoints of a run since it was started or resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaveReport {
    /// How many are complete.
    pub num_saved: u64,
    /// How many could not be written.
    pub num_failed: u64,
    /// Why the last one failed. `None` if it is complete.
    pub last_error: Option<String>,
    /// The newest complete checkpoint. If this run has none, the one that it was resumed from.
    pub last_checkpoint: Option<PathBuf>,
}

impl SaveReport {
    /// A message about the last save if it failed: the reason, and the checkpoint that a user can
    /// resume from.
    pub fn failure(&self) -> Option<String> {
        let error = self.last_error.as_ref()?;
        Some(format!("{error}; {}", error::last_checkpoint(self.last_checkpoint.as_ref())))
    }
}

/// The fields of the state about the best evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct BestEvaluation {
    metric: Option<f64>,
    global_step: Option<u64>,
    checkpoint: Option<PathBuf>,
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// Starts a checkpoint of this step, after the checkpoint under way is complete.
    pub(super) fn save(&mut self) -> Result<()> {
        let step = self.state.global_step;
        let _save_span = tracing::info_span!("save", step).entered();
        if self.store.is_none() {
            return Err(Error::SaveWithoutStore { step });
        }
        self.wait_for_save()?;
        self.check_finite()?;
        self.state.stateful_callbacks = match self.callbacks.state() {
            Some(Value::Object(states)) => states,
            _ => Map::new(),
        };
        let status = if step >= self.plan.max_steps { TrainingStatus::Complete } else { TrainingStatus::Underway };
        let control = self.requests.to_trainer_control(status);
        self.state.stateful_callbacks.insert("TrainerControl".to_owned(), control);
        self.process.saved_step = Some(step);

        let write = match self.snapshot() {
            Ok(write) => write,
            Err(error) => return self.take_outcome(Saved { global_step: step, outcome: Err(error) }),
        };
        if let Some(store) = &mut self.store {
            store.save(step, write);
        }
        self.poll_save()
    }

    /// The function that writes the checkpoint of this step.
    fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError> {
        let write_learner = self.learner.snapshot()?;
        let recorded = self.state.best_model_checkpoint.clone();
        if self.state.best_global_step == Some(self.state.global_step) {
            self.state.best_model_checkpoint = self.store.as_ref().map(|store| store.path(self.state.global_step));
        }
        // The text needs a quarter of the memory that a copy of the log history needs.
        let state = json::text(&self.state);
        self.state.best_model_checkpoint = recorded;
        let files = [
            (TrainerState::FILE_NAME, state?),
            (PROGRESS_FILE_NAME, json::text(&self.progress)?),
            (TRAINING_ARGS_FILE_NAME, json::text(&self.arguments)?),
        ];
        Ok(Box::new(move |folder| {
            write_learner(folder)?;
            files.iter().try_for_each(|(name, text)| write_file(folder, name, text))
        }))
    }

    /// Takes the outcome of the checkpoint under way, if it has one already.
    pub(super) fn poll_save(&mut self) -> Result<()> {
        let saved = self.store.as_mut().and_then(|store| store.poll());
        saved.map_or(Ok(()), |saved| self.take_outcome(saved))
    }

    /// Waits for the checkpoint under way, if there is one, and takes its outcome.
    pub(super) fn wait_for_save(&mut self) -> Result<()> {
        let saved = self.store.as_mut().and_then(|store| store.wait());
        saved.map_or(Ok(()), |saved| self.take_outcome(saved))
    }

    fn take_outcome(&mut self, Saved { global_step, outcome }: Saved) -> Result<()> {
        let is_best = self.state.best_global_step == Some(global_step);
        match outcome {
            Ok(path) => {
                self.process.saves.num_saved += 1;
                self.process.saves.last_error = None;
                self.process.saves.last_checkpoint = Some(path.clone());
                if is_best {
                    self.state.best_model_checkpoint = Some(path.clone());
                }
                self.emit(|callbacks, context, requests| callbacks.on_save(context, &path, requests))
            }
            Err(source) => {
                let message = Error::Save { step: global_step, source }.to_string();
                self.process.saves.num_failed += 1;
                self.process.saves.last_error = Some(message.clone());
                if self.process.saved_step == Some(global_step) {
                    self.process.saved_step = None;
                }
                if is_best && self.state.best_model_checkpoint.is_none() {
                    // The best model is lost with its checkpoint. The best one before counts again,
                    // so that an evaluation that is better than that one is saved.
                    self.restore_previous_best();
                }
                self.log([("save_error", message.into())]).map(drop)
            }
        }
    }

    /// Records the evaluation that was just logged as the best one.
    pub(super) fn set_best(&mut self, metric: f64) -> Result<()> {
        // `on_save` of the checkpoint under way comes while the state still names the earlier best
        // checkpoint, so no callback deletes that one.
        self.wait_for_save()?;
        let TrainerState { best_metric, best_global_step, best_model_checkpoint, global_step, .. } = &mut self.state;
        self.process.previous_best = BestEvaluation {
            metric: best_metric.replace(metric),
            global_step: best_global_step.replace(*global_step),
            // The state names the new best checkpoint when it is complete, if it is saved at all.
            checkpoint: best_model_checkpoint.take(),
        };
        Ok(())
    }

    fn restore_previous_best(&mut self) {
        let BestEvaluation { metric, global_step, checkpoint } = std::mem::take(&mut self.process.previous_best);
        self.state.best_metric = metric;
        self.state.best_global_step = global_step;
        self.state.best_model_checkpoint = checkpoint;
    }
}

fn write_file(folder: &mut dyn CheckpointFolder, name: &str, text: &[u8]) -> Result<(), BoxError> {
    folder.write_file(Path::new(name), &mut |file| Ok(file.write_all(text)?))
}
