//! Deletes old checkpoints. Which ones is decided apart from deleting them.

use crate::disk::{Disk, RealDisk};
use crate::names::{Sibling, checkpoint_path, parse_checkpoint};
use crate::output_dir::is_inside;
use crate::recover::siblings;
use crate::{Checkpoint, Error, Result, durable, find_checkpoints};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use trainer_core::{Callback, Context, EventResult, Requests};

/// Keeps the newest checkpoints, as many as `save_total_limit` says, and the best one besides.
///
/// Checkpoints beyond the step just saved are deleted only when the run goes on from a checkpoint
/// of the same folder: then they are its own, of a time it was resumed from before. Those of
/// anybody else are left alone.
///
/// A checkpoint goes at once by name, and its files go on a thread of their own: training does not
/// wait for gigabytes to be given back. What cannot be deleted is no reason to end a run: the user
/// is told, and the next save tries again.
///
/// HF's limit counts the best among them when it is above 1; with a limit of 1 both keep the best
/// and the newest.
#[derive(Debug)]
pub struct Rotation {
    limit: usize,
    disk: Arc<dyn Disk>,
    deleting: Option<JoinHandle<Vec<NotDeleted>>>,
}

/// An old checkpoint that is still there, and why.
#[derive(Debug)]
struct NotDeleted {
    global_step: u64,
    error: Error,
}

impl Rotation {
    /// Keeps `limit` checkpoints (at least 1) besides the best.
    pub fn new(limit: usize) -> Self {
        Self::on(Arc::new(RealDisk), limit)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, limit: usize) -> Self {
        Self { limit: limit.max(1), disk, deleting: None }
    }

    /// Deletes what is due after a save.
    fn rotate(&mut self, context: &Context<'_>, checkpoint: &Path) -> Result<Vec<NotDeleted>> {
        let output_dir = checkpoint.parent().unwrap_or(checkpoint);
        let state = context.state;
        // The run may have gone on since.
        let newest = step_of(checkpoint).unwrap_or(state.global_step);
        let mut existing: Vec<u64> = find_checkpoints(output_dir)?.iter().map(|found| found.global_step).collect();
        if !context.resumed_from.is_some_and(|origin| is_inside(origin, output_dir)) {
            existing.retain(|step| *step <= newest);
        }
        // A best evaluation that was not saved has no checkpoint: what is recorded counts, not the
        // best step.
        let best = state.best_model_checkpoint.as_deref().and_then(step_of);
        self.delete(output_dir, &which_to_delete(&existing, newest, self.limit, best))
    }

    /// Deletes checkpoints, and what is left of earlier ones. Those that are renamed look like
    /// checkpoints no more, so none is ever half deleted. Returns what could not be renamed; what
    /// becomes of the files is told by [`finish`](Self::finish).
    fn delete(&mut self, output_dir: &Path, steps: &[u64]) -> Result<Vec<NotDeleted>> {
        let mut not_deleted = Vec::new();
        let mut going: Vec<Checkpoint> = siblings(output_dir)?
            .into_iter()
            .filter(|(sibling, leftover)| *sibling == Sibling::Deleted && !steps.contains(&leftover.global_step))
            .map(|(_, leftover)| leftover)
            .collect();
        for &global_step in steps {
            let path = Sibling::Deleted.path(output_dir, global_step);
            let removed = durable::remove_folder(&*self.disk, &path);
            match removed.and_then(|()| durable::rename(&*self.disk, &checkpoint_path(output_dir, global_step), &path))
            {
                Ok(()) => going.push(Checkpoint { global_step, path }),
                Err(error) => not_deleted.push(NotDeleted { global_step, error }),
            }
        }
        let disk = Arc::clone(&self.disk);
        let work = move || {
            let delete = |Checkpoint { global_step, path }| {
                let error = durable::remove_folder(&*disk, &path).err()?;
                Some(NotDeleted { global_step, error })
            };
            going.into_iter().filter_map(delete).collect()
        };
        // Without a thread to be had, the next save tries again.
        self.deleting = std::thread::Builder::new().name("rotation".to_owned()).spawn(work).ok();
        Ok(not_deleted)
    }

    /// Waits until the files are gone; returns what is still there.
    fn finish(&mut self) -> Vec<NotDeleted> {
        // Nothing in it panics.
        self.deleting.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

/// What is tried again by the next save, and cleared up at last by the next run in the folder.
fn tell(requests: &mut Requests, not_deleted: Vec<NotDeleted>) {
    for NotDeleted { global_step, error } in not_deleted {
        requests.notify(format!("warning: the old checkpoint of step {global_step} could not be deleted: {error}"));
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

/// Which of the `existing` steps to delete when `newest` was just saved: all but the `limit` newest
/// and `best`.
///
/// Steps beyond `newest` were left by an earlier run that was resumed from before them, so they
/// count as the oldest.
pub fn which_to_delete(existing: &[u64], newest: u64, limit: usize, best: Option<u64>) -> Vec<u64> {
    let mut by_age = existing.to_vec();
    by_age.sort_by_key(|step| (*step <= newest, *step));
    let num_older = by_age.len().saturating_sub(limit.max(1));
    by_age.truncate(num_older);
    by_age.retain(|step| *step != newest && Some(*step) != best);
    by_age
}

impl Callback for Rotation {
    fn on_save(&mut self, context: &Context<'_>, checkpoint: &Path, requests: &mut Requests) -> EventResult {
        tell(requests, self.finish());
        match self.rotate(context, checkpoint) {
            Ok(not_deleted) => tell(requests, not_deleted),
            Err(error) => requests.notify(format!("warning: no old checkpoint was deleted: {error}")),
        }
        Ok(())
    }

    fn on_train_end(&mut self, _context: &Context<'_>, requests: &mut Requests) -> EventResult {
        tell(requests, self.finish());
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
    use std::cell::RefCell;
    use std::rc::Rc;
    use trainer_core::testing::{ToyLearner, ToySource};
    use trainer_core::{Trainer, TrainingArguments};

    /// What the user is told, and after how many saves.
    #[derive(Clone, Default)]
    struct Told {
        notices: Rc<RefCell<Vec<(usize, String)>>>,
        num_saves: usize,
    }

    impl Callback for Told {
        fn on_save(&mut self, _: &Context<'_>, _: &Path, _: &mut Requests) -> EventResult {
            self.num_saves += 1;
            Ok(())
        }

        fn on_notice(&mut self, _: &Context<'_>, notice: &str, _: &mut Requests) -> EventResult {
            self.notices.borrow_mut().push((self.num_saves, notice.to_owned()));
            Ok(())
        }
    }

    /// Saves at steps 2, 4 and 6 and keeps one; rotation fails at the operation. Returns what was
    /// told, after how many saves, and what is left.
    fn run(fault: Fault, at: usize) -> (Vec<(usize, String)>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let arguments = TrainingArguments {
            output_dir: dir.path().to_owned(),
            num_train_epochs: 3.0,
            eval_strategy: trainer_core::IntervalStrategy::No,
            ..Default::default()
        };
        let train = ToySource::new(16, 8);
        let (mut learner, told) = (ToyLearner::default(), Told::default());
        let mut store = DirectoryStore::open(dir.path()).unwrap();
        Trainer::new(arguments, &mut learner, &train, None, &mut store)
            .unwrap()
            .with_callback(Rotation::on(FaultyDisk::new(fault, at), 1))
            .with_callback(told.clone())
            .train()
            .unwrap();
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
        assert!(!names().iter().any(|name| name.ends_with(".deleted")), "the next run clears up");
        (told.notices.take(), left)
    }

    #[test]
    fn what_cannot_be_deleted_is_told_and_tried_again() {
        assert_eq!(run(Fault::Once, usize::MAX), (Vec::new(), vec!["checkpoint-6".to_owned()]));
        // To rename it fails, or to delete a file of it, which is told with the next save.
        for (at, num_saves) in [(0, 2), (1, 3)] {
            let (told, left) = run(Fault::Once, at);
            assert_eq!(left, ["checkpoint-6"]);
            let [(told_after, notice)] = &told[..] else { panic!("{told:?}") };
            assert_eq!(*told_after, num_saves, "{notice}");
            let start = "warning: the old checkpoint of step 2 could not be deleted: cannot ";
            assert!(notice.starts_with(start) && notice.contains("checkpoint-2.deleted"), "{notice}");
        }
    }

    #[test]
    fn a_run_goes_on_when_nothing_can_be_deleted() {
        let (told, left) = run(Fault::FromThenOn, 0);
        assert_eq!(left, ["checkpoint-2", "checkpoint-4", "checkpoint-6"]);
        assert_eq!(told.iter().map(|(num_saves, _)| *num_saves).collect::<Vec<_>>(), [2, 3, 3]);
        let (told, left) = run(Fault::FromThenOn, 1);
        assert_eq!(left, [".checkpoint-2.deleted", "checkpoint-4", "checkpoint-6"]);
        let told: Vec<bool> = told.iter().map(|(_, notice)| notice.contains("of step 2")).collect();
        assert_eq!(told, [true, false, true]);
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
        assert_eq!(delete(&[10], 10, 0, None), [0; 0], "0 would delete what was just saved");
    }

    #[test]
    fn what_an_abandoned_run_left_goes_first() {
        // Resumed from 10; 30 and 40 are of the run that was abandoned.
        assert_eq!(which_to_delete(&[10, 20, 30, 40], 20, 1, Some(10)), [30, 40]);
        assert_eq!(which_to_delete(&[10, 20, 30, 40], 20, 2, None), [30, 40]);
    }

    /// Over all small cases: what stays is newest, best and the limit newest, nothing else, and
    /// nothing twice.
    #[test]
    fn invariants() {
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
