//! Deletes old checkpoints. Which ones is decided apart from deleting them.

use std::{path::Path, sync::Arc, thread::JoinHandle};

use trainer_core::{Callback, Context, EventResult, Requests};

use crate::{
    disk::{Disk, RealDisk},
    durable, find_checkpoints,
    names::{Sibling, checkpoint_path, parse_checkpoint},
    output_dir::is_inside,
};

/// Keeps the newest checkpoints, as many as `save_total_limit` says, and the best one besides.
///
/// Checkpoints beyond the step just saved are deleted only when the run goes on from a checkpoint of the same folder: then
/// they are its own, of a time it was resumed from before. Those of anybody else are left alone.
///
/// A checkpoint goes at once by name, and its files go on a thread of their own: training does not wait for gigabytes to be
/// given back. What cannot be deleted is no reason to end a run; the next save tries again.
///
/// HF's limit counts the best among them when it is above 1; with a limit of 1 both keep the best and the newest.
#[derive(Debug)]
pub struct Rotation {
    limit: usize,
    disk: Arc<dyn Disk>,
    deleting: Option<JoinHandle<()>>,
}

impl Rotation {
    /// Keeps `limit` checkpoints (at least 1) besides the best.
    pub fn new(limit: usize) -> Self {
        Self::on(Arc::new(RealDisk), limit)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, limit: usize) -> Self {
        Self { limit: limit.max(1), disk, deleting: None }
    }

    /// Deletes checkpoints. Those that are renamed look like checkpoints no more, so none is ever half deleted.
    fn delete(&mut self, output_dir: &Path, steps: &[u64]) {
        let mut going = Vec::new();
        for step in steps {
            let path = Sibling::Deleted.path(output_dir, *step);
            let removed = durable::remove_folder(&*self.disk, &path);
            if removed.and_then(|()| durable::rename(&*self.disk, &checkpoint_path(output_dir, *step), &path)).is_ok() {
                going.push(path);
            }
        }
        let disk = Arc::clone(&self.disk);
        let work = move || going.iter().for_each(|path| drop(durable::remove_folder(&*disk, path)));
        self.finish();
        // Without a thread to be had, the next run clears up.
        self.deleting = std::thread::Builder::new().name("rotation".to_owned()).spawn(work).ok();
    }

    fn finish(&mut self) {
        if let Some(thread) = self.deleting.take() {
            // It has no errors to tell of, and nothing in it panics.
            let _ = thread.join();
        }
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Which of the `existing` steps to delete when `newest` was just saved: all but the `limit` newest and `best`.
///
/// Steps beyond `newest` were left by an earlier run that was resumed from before them, so they count as the oldest.
pub fn which_to_delete(existing: &[u64], newest: u64, limit: usize, best: Option<u64>) -> Vec<u64> {
    let mut by_age = existing.to_vec();
    by_age.sort_by_key(|step| (*step <= newest, *step));
    let num_older = by_age.len().saturating_sub(limit.max(1));
    by_age.truncate(num_older);
    by_age.retain(|step| *step != newest && Some(*step) != best);
    by_age
}

impl Callback for Rotation {
    fn on_save(&mut self, context: &Context<'_>, checkpoint: &Path, _requests: &mut Requests) -> EventResult {
        let output_dir = checkpoint.parent().unwrap_or(checkpoint);
        let state = context.state;
        // The run may have gone on since.
        let newest = step_of(checkpoint).unwrap_or(state.global_step);
        let mut existing: Vec<u64> = find_checkpoints(output_dir)?.iter().map(|found| found.global_step).collect();
        if !context.resumed_from.is_some_and(|origin| is_inside(origin, output_dir)) {
            existing.retain(|step| *step <= newest);
        }
        // A best evaluation that was not saved has no checkpoint: what is recorded counts, not the best step.
        let best = state.best_model_checkpoint.as_deref().and_then(step_of);
        self.delete(output_dir, &which_to_delete(&existing, newest, self.limit, best));
        Ok(())
    }

    fn on_train_end(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        self.finish();
        Ok(())
    }
}

fn step_of(checkpoint: &Path) -> Option<u64> {
    parse_checkpoint(checkpoint.file_name()?.to_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Over all small cases: what stays is newest, best and the limit newest, nothing else, and nothing twice.
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
