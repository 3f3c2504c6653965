//! Deletes old checkpoints. Which ones is decided apart from deleting them.

use std::path::Path;

use trainer_core::{Callback, Context, EventResult, Requests};

use crate::{Result, durable, find_checkpoints, names::Sibling, output_dir::is_inside};

/// Keeps the newest checkpoints, as many as `save_total_limit` says, and the best one besides.
///
/// Checkpoints beyond the step just saved are deleted only when the run goes on from a checkpoint of the same folder: then
/// they are its own, of a time it was resumed from before. Those of anybody else are left alone.
///
/// HF's limit counts the best among them when it is above 1; with a limit of 1 both keep the best and the newest.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    limit: usize,
}

impl Rotation {
    /// Keeps `limit` checkpoints (at least 1) besides the best.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1) }
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
        let mut existing: Vec<u64> = find_checkpoints(output_dir)?.iter().map(|found| found.global_step).collect();
        let state = context.state;
        if !context.resumed_from.is_some_and(|origin| is_inside(origin, output_dir)) {
            existing.retain(|step| *step <= state.global_step);
        }
        // A best evaluation that was not saved has no checkpoint: what is recorded counts, not the best step.
        let recorded = state.best_model_checkpoint.as_deref().and_then(Path::file_name);
        let recorded = recorded.and_then(|name| crate::names::parse_checkpoint(name.to_str()?));
        for step in which_to_delete(&existing, state.global_step, self.limit, recorded) {
            delete(output_dir, step)?;
        }
        Ok(())
    }
}

/// Renames first, so that no half-deleted folder looks like a checkpoint.
fn delete(output_dir: &Path, global_step: u64) -> Result<()> {
    let going = Sibling::Deleted.path(output_dir, global_step);
    durable::remove_folder(&going)?;
    durable::rename(&crate::names::checkpoint_path(output_dir, global_step), &going)?;
    durable::remove_folder(&going)
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
