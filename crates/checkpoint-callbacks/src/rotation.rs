//! Deletes old checkpoints. [`which_to_delete`] decides, [`Rotation`] deletes.

use crate::disk::{Disk, RealDisk};
use crate::names::{Sibling, checkpoint_path, parse_checkpoint};
use crate::output_dir::is_inside;
use crate::recover::siblings;
use crate::{Checkpoint, Error, Result, durable, find_checkpoints};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use trainer_core::{Callback, CallbackContext, EventResult, Requests};

/// Keeps the newest checkpoints, up to a limit, and in addition the best one.
///
/// Checkpoints of later steps than the one just saved are deleted only when the run was resumed
/// from a checkpoint of the same folder. They are then from an earlier attempt of the same run. In
/// any other case they may be someone else's, and stay.
///
/// A checkpoint is first renamed to a hidden name, and a thread of its own deletes the files, so
/// that training does not wait for gigabytes to be deleted. A checkpoint that cannot be deleted
/// does not end the run: there is a warning, and the next save tries again.
///
/// HF's limit counts the best checkpoint if the limit is above 1. With a limit of 1, both keep the
/// best and the newest.
#[derive(Debug)]
pub struct Rotation {
    limit: usize,
    disk: Arc<dyn Disk>,
    deleting: Option<JoinHandle<Vec<NotDeleted>>>,
}

/// An old checkpoint that could not be deleted.
#[derive(Debug)]
struct NotDeleted {
    global_step: u64,
    error: Error,
}

impl Rotation {
    /// Keeps the `limit` newest checkpoints (at least 1), and the best.
    pub fn new(limit: usize) -> Self {
        Self::on(Arc::new(RealDisk), limit)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, limit: usize) -> Self {
        Self { limit: limit.max(1), disk, deleting: None }
    }

    /// Deletes the checkpoints that a save has made unnecessary.
    fn rotate(&mut self, context: &CallbackContext<'_>, checkpoint: &Path) -> Result<Vec<NotDeleted>> {
        let output_dir = checkpoint.parent().unwrap_or(checkpoint);
        let state = context.state;
        // The checkpoint may be of an earlier step than the run has reached by now.
        let newest = step_of(checkpoint).unwrap_or(state.global_step);
        let mut existing: Vec<u64> = find_checkpoints(output_dir)?.iter().map(|found| found.global_step).collect();
        if !context.resumed_from.is_some_and(|origin| is_inside(origin, output_dir)) {
            existing.retain(|step| *step <= newest);
        }
        // Not `best_global_step`: the best evaluation may have no checkpoint.
        let best = state.best_model_checkpoint.as_deref().and_then(step_of);
        self.delete(output_dir, &which_to_delete(&existing, newest, self.limit, best))
    }

    /// Deletes the checkpoints of `steps`, and what earlier deletions left. Each gets a hidden name
    /// first, so that no checkpoint is ever half deleted. Returns those that could not be renamed;
    /// [`finish`](Self::finish) returns those whose files could not be deleted.
    fn delete(&mut self, output_dir: &Path, steps: &[u64]) -> Result<Vec<NotDeleted>> {
        let mut not_deleted = Vec::new();
        let mut to_delete: Vec<Checkpoint> = siblings(output_dir)?
            .into_iter()
            .filter(|(sibling, leftover)| *sibling == Sibling::Deleted && !steps.contains(&leftover.global_step))
            .map(|(_, leftover)| leftover)
            .collect();
        for &global_step in steps {
            let path = Sibling::Deleted.path(output_dir, global_step);
            let removed = durable::remove_folder(&*self.disk, &path);
            match removed.and_then(|()| durable::rename(&*self.disk, &checkpoint_path(output_dir, global_step), &path))
            {
                Ok(()) => to_delete.push(Checkpoint { global_step, path }),
                Err(error) => not_deleted.push(NotDeleted { global_step, error }),
            }
        }
        let disk = Arc::clone(&self.disk);
        let work = move || {
            let delete = |Checkpoint { global_step, path }| {
                let error = durable::remove_folder(&*disk, &path).err()?;
                Some(NotDeleted { global_step, error })
            };
            to_delete.into_iter().filter_map(delete).collect()
        };
        // If the system cannot start a thread, the next save tries again.
        self.deleting = std::thread::Builder::new().name("rotation".to_owned()).spawn(work).ok();
        Ok(not_deleted)
    }

    /// Waits for the thread that deletes files. Returns the checkpoints that could not be deleted.
    fn finish(&mut self) -> Vec<NotDeleted> {
        // The thread does not panic. If it did, there would be nothing to report.
        self.deleting.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

/// Warns about each. The next save tries again, and so does the next run that opens the folder.
fn warn(not_deleted: Vec<NotDeleted>) {
    for NotDeleted { global_step, error } in not_deleted {
        tracing::warn!(step = global_step, "the old checkpoint of step {global_step} could not be deleted: {error}");
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

/// Which of the `existing` steps to delete when `newest` was just saved: all except the `limit`
/// newest (at least 1) and `best`.
///
/// Steps after `newest` count as the oldest. An earlier attempt of the run left them, and the run
/// was then resumed from a step before them.
pub fn which_to_delete(existing: &[u64], newest: u64, limit: usize, best: Option<u64>) -> Vec<u64> {
    let mut by_age = existing.to_vec();
    by_age.sort_by_key(|step| (*step <= newest, *step));
    let num_older = by_age.len().saturating_sub(limit.max(1));
    by_age.truncate(num_older);
    by_age.retain(|step| *step != newest && Some(*step) != best);
    by_age
}

impl Callback for Rotation {
    fn on_save(&mut self, context: &CallbackContext<'_>, checkpoint: &Path, _requests: &mut Requests) -> EventResult {
        warn(self.finish());
        match self.rotate(context, checkpoint) {
            Ok(not_deleted) => warn(not_deleted),
            Err(error) => tracing::warn!("no old checkpoint was deleted: {error}"),
        }
        Ok(())
    }

    fn on_train_end(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        warn(self.finish());
        Ok(())
    }
}

fn step_of(checkpoint: &Path) -> Option<u64> {
    parse_checkpoint(checkpoint.file_name()?.to_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirectoryStore;
    use crate::testing::faults::{Fault, FaultyDisk};
    use crate::testing::with_events;
    use trainer_core::testing::{ToyLearner, ToySource};
    use trainer_core::{Trainer, TrainingArguments};

    /// Tells of every save, so that the events of a run show after how many saves a warning came.
    struct TellSaves;

    const SAVED: &str = "INFO: saved";

    impl Callback for TellSaves {
        fn on_save(&mut self, _: &CallbackContext<'_>, _: &Path, _: &mut Requests) -> EventResult {
            tracing::info!("saved");
            Ok(())
        }
    }

    /// The warnings about checkpoints, each with the number of saves before it.
    fn warnings(events: Vec<String>) -> Vec<(usize, String)> {
        let mut num_saves = 0;
        let mut warnings = Vec::new();
        for event in events {
            if event == SAVED {
                num_saves += 1;
            } else if event.contains("old checkpoint") {
                warnings.push((num_saves, event));
            }
        }
        warnings
    }

    /// Saves at steps 2, 4 and 6 and keeps one checkpoint. The disk of the rotation fails at the
    /// operation `at`. Returns the warnings, each with the number of saves before it, and the names
    /// that are left in the folder.
    fn run(fault: Fault, at: usize) -> (Vec<(usize, String)>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let arguments = TrainingArguments {
            output_dir: dir.path().to_owned(),
            num_train_epochs: 3.0,
            eval_strategy: trainer_core::IntervalStrategy::No,
            ..TrainingArguments::documented_recipe()
        };
        let train = ToySource::new(16, 8);
        let mut learner = ToyLearner::default();
        let mut store = DirectoryStore::open(dir.path()).unwrap();
        let trainer = Trainer::builder(arguments, &mut learner, &train)
            .store(&mut store)
            .callback(TellSaves)
            .callback(Rotation::on(FaultyDisk::new(fault, at), 1))
            .build()
            .unwrap();
        let (_, events) = with_events(|| trainer.train().unwrap());
        drop(store);
        let names = || {
            let entries = std::fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let left = names();
        drop(DirectoryStore::open(dir.path()).unwrap());
        assert!(!names().iter().any(|name| name.ends_with(".deleted")), "the next run deletes the rest");
        (warnings(events), left)
    }

    #[test]
    fn what_cannot_be_deleted_is_reported_and_tried_again() {
        assert_eq!(run(Fault::Once, usize::MAX), (Vec::new(), vec!["checkpoint-6".to_owned()]));
        // The rename fails, or the deletion of a file, which is reported at the next save.
        for (at, num_saves) in [(0, 2), (1, 3)] {
            let (warnings, left) = run(Fault::Once, at);
            assert_eq!(left, ["checkpoint-6"]);
            let [(warned_after, warning)] = &warnings[..] else { panic!("{warnings:?}") };
            assert_eq!(*warned_after, num_saves, "{warning}");
            let start = "WARN: the old checkpoint of step 2 could not be deleted: cannot ";
            assert!(warning.starts_with(start) && warning.contains("checkpoint-2.deleted"), "{warning}");
        }
    }

    #[test]
    fn a_run_continues_when_nothing_can_be_deleted() {
        let (warnings, left) = run(Fault::FromThenOn, 0);
        assert_eq!(left, ["checkpoint-2", "checkpoint-4", "checkpoint-6"]);
        assert_eq!(warnings.iter().map(|(num_saves, _)| *num_saves).collect::<Vec<_>>(), [2, 3, 3]);
        let (warnings, left) = run(Fault::FromThenOn, 1);
        assert_eq!(left, [".checkpoint-2.deleted", "checkpoint-4", "checkpoint-6"]);
        let of_step_2: Vec<bool> = warnings.iter().map(|(_, warning)| warning.contains("of step 2")).collect();
        assert_eq!(of_step_2, [true, false, true]);
    }

    #[test]
    fn the_newest_and_the_best_stay() {
        let delete = which_to_delete;
        assert_eq!(delete(&[10, 20, 30], 30, 1, None), [10, 20]);
        assert_eq!(delete(&[10, 20, 30], 30, 1, Some(10)), [20]);
        assert_eq!(delete(&[10, 20, 30], 30, 1, Some(30)), [10, 20]);
        assert_eq!(delete(&[10, 20, 30, 40], 40, 2, Some(10)), [20]);
        assert_eq!(delete(&[10, 20, 30, 40], 40, 2, Some(30)), [10, 20]);
        assert_eq!(delete(&[10, 20], 20, 5, None), [0; 0]);
        assert_eq!(delete(&[10], 10, 0, None), [0; 0], "a limit of 0 would delete what was just saved");
    }

    #[test]
    fn what_an_earlier_attempt_left_is_deleted_first() {
        // The run was resumed from 10, and 30 and 40 are from the attempt before.
        assert_eq!(which_to_delete(&[10, 20, 30, 40], 20, 1, Some(10)), [30, 40]);
        assert_eq!(which_to_delete(&[10, 20, 30, 40], 20, 2, None), [30, 40]);
    }

    /// Over all small cases: the newest and the best stay, at most `limit` others stay, and as many
    /// as possible do.
    #[test]
    fn the_newest_the_best_and_no_more_than_the_limit_stay() {
        for subset in 0u32..1 << 6 {
            let existing: Vec<u64> = (0..6).filter(|step| subset >> step & 1 == 1).collect();
            for newest in existing.iter().copied() {
                for limit in 1..=4 {
                    for best in existing.iter().copied().map(Some).chain([None]) {
                        let deleted = which_to_delete(&existing, newest, limit, best);
                        let kept: Vec<u64> = existing.iter().copied().filter(|step| !deleted.contains(step)).collect();
                        assert!(kept.contains(&newest) && best.is_none_or(|best| kept.contains(&best)));
                        assert_eq!(kept.len() + deleted.len(), existing.len());
                        let others = kept.iter().filter(|step| Some(**step) != best).count();
                        assert!(others <= limit);
                        assert!(kept.len() >= limit.min(existing.len()));
                    }
                }
            }
        }
    }
}
