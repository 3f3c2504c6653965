//! Checkpoints: handed to the store while training goes on, and what becomes of them afterwards.
//!
//! A checkpoint holds the state of its step. What follows from its being there (the best
//! checkpoint's path, `on_save` and so rotation) waits until the store says that it is; a
//! checkpoint that failed is logged, and the next save tries again.

use super::*;
use crate::progress::{PROGRESS_FILE_NAME, TRAINING_ARGS_FILE_NAME};
use crate::requests::Training;
use crate::{CheckpointFolder, Saved, error, json};
use serde_json::Value;

/// How long to wait for the checkpoint on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not at all.
    Poll,
    /// Until it is over.
    Wait,
}

/// What came of the checkpoints of this session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaveReport {
    /// Those that are whole.
    pub num_saved: u64,
    /// Those that could not be written.
    pub num_failed: u64,
    /// Why the last one failed, if it did.
    pub last_error: Option<String>,
    /// The newest checkpoint that is whole: of this session, or the one that it was resumed from.
    pub last_checkpoint: Option<PathBuf>,
}

impl SaveReport {
    /// Why there is no checkpoint of the last save, and the one to go on from; `None` if all is
    /// well.
    pub fn failure(&self) -> Option<String> {
        let error = self.last_error.as_ref()?;
        Some(format!("{error}; {}", error::last_checkpoint(self.last_checkpoint.as_ref())))
    }
}

/// What the state says of the best evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Best {
    metric: Option<f64>,
    global_step: Option<u64>,
    checkpoint: Option<PathBuf>,
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// Begins to save this step. A checkpoint still on its way is waited for first.
    pub(super) fn save(&mut self) -> Result<()> {
        self.settle_save(Patience::Wait)?;
        self.check_finite()?;
        let step = self.state.global_step;
        self.state.stateful_callbacks = match self.callbacks.state() {
            Some(Value::Object(states)) => states,
            _ => Map::new(),
        };
        let training = if step >= self.plan.max_steps { Training::Complete } else { Training::Underway };
        let control = self.requests.to_trainer_control(training);
        self.state.stateful_callbacks.insert("TrainerControl".to_owned(), control);
        self.session.saved_step = Some(step);

        match self.snapshot() {
            Ok(write) => self.store.save(step, write),
            Err(error) => return self.take_outcome(Saved { global_step: step, outcome: Err(error) }),
        }
        self.settle_save(Patience::Poll)
    }

    /// All that the checkpoint of this step is to hold.
    fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError> {
        let write_learner = self.learner.snapshot()?;
        let recorded = self.state.best_model_checkpoint.clone();
        if self.state.best_global_step == Some(self.state.global_step) {
            self.state.best_model_checkpoint = Some(self.store.path(self.state.global_step));
        }
        // As text, which is a quarter of the log history's memory; a copy would be as much again.
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

    /// Looks at the checkpoint on its way, or waits for it.
    pub(super) fn settle_save(&mut self, patience: Patience) -> Result<()> {
        let saved = match patience {
            Patience::Poll => self.store.poll(),
            Patience::Wait => self.store.wait(),
        };
        saved.map_or(Ok(()), |saved| self.take_outcome(saved))
    }

    fn take_outcome(&mut self, Saved { global_step, outcome }: Saved) -> Result<()> {
        let is_best = self.state.best_global_step == Some(global_step);
        match outcome {
            Ok(path) => {
                self.session.saves.num_saved += 1;
                self.session.saves.last_error = None;
                self.session.saves.last_checkpoint = Some(path.clone());
                if is_best {
                    self.state.best_model_checkpoint = Some(path.clone());
                }
                self.emit(|callbacks, context, requests| callbacks.on_save(context, &path, requests))
            }
            Err(source) => {
                let message = Error::Save { step: global_step, source }.to_string();
                self.session.saves.num_failed += 1;
                self.session.saves.last_error = Some(message.clone());
                if self.session.saved_step == Some(global_step) {
                    self.session.saved_step = None;
                }
                if is_best && self.state.best_model_checkpoint.is_none() {
                    // An evaluation between the two must be saved, or the best model would be lost
                    // with the save.
                    self.put_best_back();
                }
                self.log([("save_error", message.into())]).map(drop)
            }
        }
    }

    /// The evaluation just logged is the best.
    pub(super) fn set_best(&mut self, metric: f64) -> Result<()> {
        // Callbacks hear of the checkpoint on its way while the earlier best is still on record,
        // and so protected.
        self.settle_save(Patience::Wait)?;
        let TrainerState { best_metric, best_global_step, best_model_checkpoint, global_step, .. } = &mut self.state;
        self.session.best_before = Best {
            metric: best_metric.replace(metric),
            global_step: best_global_step.replace(*global_step),
            // The earlier best is not the best any more; the new one is on record once it is saved,
            // if it is saved at all.
            checkpoint: best_model_checkpoint.take(),
        };
        Ok(())
    }

    fn put_best_back(&mut self) {
        let Best { metric, global_step, checkpoint } = std::mem::take(&mut self.session.best_before);
        self.state.best_metric = metric;
        self.state.best_global_step = global_step;
        self.state.best_model_checkpoint = checkpoint;
    }
}

fn write_file(folder: &mut dyn CheckpointFolder, name: &str, text: &[u8]) -> Result<(), BoxError> {
    folder.write_file(Path::new(name), &mut |file| Ok(file.write_all(text)?))
}
