//! Checks before training that the disk has room for what a run will write.

use crate::{Error, Result, durable, find_checkpoints};
use std::path::Path;
use trainer_core::{IntervalStrategy, Plan, SaveStrategy, TrainingArguments};

/// With [`SaveStrategy::Best`] each better evaluation is a save. How many there will be is unknown;
/// this many checkpoints at the same time are assumed.
const SAVES_OF_BEST: u64 = 3;

/// The size of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSize {
    /// Bytes of the files that are published: model and tokenizer.
    pub model_bytes: u64,
    /// Bytes of the files that only a resumed run needs, such as the optimizer's state.
    pub state_bytes: u64,
}

/// How much a run writes into its output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceNeeded {
    /// Size of a checkpoint.
    pub checkpoint_bytes: u64,
    /// The largest number of checkpoints that exist at the same time, including the one that is
    /// being written.
    pub num_checkpoints: u64,
    /// Size of the model that the run leaves in the output folder, and of its temporary copies.
    pub model_bytes: u64,
}

impl SpaceNeeded {
    /// What a run with these arguments needs at its peak. `plan` is the plan of the same arguments.
    ///
    /// A run that saves and evaluates publishes its best checkpoint. Any other run publishes its
    /// final model, as [`publish_final`](crate::publish_final) does, which takes the model twice.
    pub fn for_run(arguments: &TrainingArguments, plan: &Plan, size: CheckpointSize) -> Self {
        let num_saves = match arguments.save_strategy {
            SaveStrategy::No => 0,
            SaveStrategy::Epoch => plan.num_train_epochs,
            SaveStrategy::Steps => plan.max_steps.div_ceil(plan.save_steps.max(1)),
            SaveStrategy::Best => SAVES_OF_BEST,
        };
        let CheckpointSize { model_bytes, state_bytes } = size;
        let publishes_best = num_saves > 0 && arguments.eval_strategy != IntervalStrategy::No;
        let needed = Self {
            checkpoint_bytes: model_bytes.saturating_add(state_bytes),
            num_checkpoints: 0,
            model_bytes: if publishes_best { model_bytes } else { model_bytes.saturating_mul(2) },
        };
        needed.with_rotation(num_saves, arguments.save_total_limit)
    }

    /// The need of a run that saves `num_saves` checkpoints, when rotation keeps the `limit` newest
    /// (`None`: all) and the best.
    #[must_use]
    pub fn with_rotation(self, num_saves: u64, limit: Option<usize>) -> Self {
        // The newest ones, the best one, and the one that is written before an old one is deleted.
        let at_once = limit.map_or(u64::MAX, |limit| (limit.max(1) as u64).saturating_add(2));
        Self { num_checkpoints: num_saves.min(at_once), ..self }
    }

    fn bytes(&self) -> u64 {
        self.checkpoint_bytes.saturating_mul(self.num_checkpoints).saturating_add(self.model_bytes)
    }
}

/// Checks that the file system of `output_dir` has room for `needed`. Existing checkpoints in
/// `output_dir` count as room, because they are among those that rotation keeps or deletes. Quotas
/// and other writers are not considered. If the system does not report the free space, nothing is
/// checked.
///
/// # Errors
/// [`Error::OutputDirFull`]; [`Error::File`] when `output_dir` cannot be listed.
pub fn check_space(output_dir: &Path, needed: &SpaceNeeded) -> Result<()> {
    let Some(free) = free_bytes(output_dir) else { return Ok(()) };
    let used: u64 = find_checkpoints(output_dir)?.iter().map(|found| size(&found.path)).sum();
    let missing = needed.bytes().saturating_sub(used);
    if missing <= free {
        return Ok(());
    }
    Err(Error::OutputDirFull {
        path: output_dir.to_owned(),
        needed: missing,
        free,
        num_checkpoints: needed.num_checkpoints,
        checkpoint_bytes: needed.checkpoint_bytes,
    })
}

/// The size of the files in a folder. A file whose size cannot be read counts as empty.
fn size(folder: &Path) -> u64 {
    let size_of = |path| folder.join(path).metadata().map_or(0, |found| found.len());
    durable::files_under(folder).unwrap_or_default().into_iter().map(size_of).sum()
}

/// The bytes that this user can still write to the file system of a path, or of its nearest
/// existing parent. `None` where the system does not say.
#[cfg(unix)]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let here = Path::new(".");
    let above = path.ancestors().map(|path| if path.as_os_str().is_empty() { here } else { path });
    let found = above.into_iter().find_map(|path| rustix::fs::statvfs(path).ok())?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// The bytes that can still be written: unknown here.
#[cfg(not(unix))]
pub fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirectoryStore;
    use crate::testing::save;

    #[test]
    fn the_arguments_decide_how_many_checkpoints_and_models_there_are() {
        let arguments = TrainingArguments {
            num_train_epochs: 3.0,
            save_steps: 4.0,
            save_total_limit: None,
            save_strategy: SaveStrategy::Epoch,
            eval_strategy: IntervalStrategy::Epoch,
            gradient_accumulation_steps: 1,
            ..Default::default()
        };
        let needed = |change: fn(&mut TrainingArguments)| {
            let mut arguments = arguments.clone();
            change(&mut arguments);
            let size = CheckpointSize { model_bytes: 100, state_bytes: 30 };
            let needed = SpaceNeeded::for_run(&arguments, &Plan::new(&arguments, 6), size);
            assert_eq!(needed.checkpoint_bytes, 130);
            (needed.num_checkpoints, needed.model_bytes)
        };
        assert_eq!(needed(|_| {}), (3, 100), "an epoch's end each");
        assert_eq!(needed(|arguments| arguments.save_strategy = SaveStrategy::Steps), (5, 100), "18 steps, by 4");
        assert_eq!(needed(|arguments| arguments.save_strategy = SaveStrategy::Best), (3, 100));
        assert_eq!(needed(|arguments| arguments.save_strategy = SaveStrategy::No), (0, 200));
        assert_eq!(needed(|arguments| arguments.eval_strategy = IntervalStrategy::No), (3, 200));
        let limited = |arguments: &mut TrainingArguments| {
            (arguments.save_total_limit, arguments.num_train_epochs) = (Some(1), 9.0);
        };
        assert_eq!(needed(limited), (3, 100));
    }

    #[test]
    fn rotation_decides_how_many_checkpoints_exist_at_once() {
        let needed = SpaceNeeded { checkpoint_bytes: 100, num_checkpoints: 0, model_bytes: 7 };
        let bytes = |num_saves, limit| needed.with_rotation(num_saves, limit).bytes();
        assert_eq!(bytes(0, Some(1)), 7);
        assert_eq!(bytes(2, Some(1)), 207, "no more than are saved");
        assert_eq!(bytes(1000, Some(1)), 307, "the newest, the best, and the next one");
        assert_eq!(bytes(1000, Some(4)), 607);
        assert_eq!(bytes(1000, None), 100_007);
        assert_eq!(bytes(u64::MAX, None), u64::MAX);
    }

    #[test]
    fn too_little_room_is_refused_with_figures() {
        let dir = tempfile::tempdir().unwrap();
        let room = |num_checkpoints| SpaceNeeded { checkpoint_bytes: 1 << 50, num_checkpoints, model_bytes: 10 };
        let output_dir = dir.path().join("new/out");
        check_space(&output_dir, &room(0)).unwrap();
        let message = check_space(&output_dir, &room(2)).unwrap_err().to_string();
        assert!(
            message.contains(": 2.3 PB are needed, for 2 checkpoints of 1.1 PB at") && message.contains("B are free"),
            "{message}"
        );

        let mut store = DirectoryStore::open(dir.path()).unwrap();
        save(&mut store, 7, "some weights").unwrap();
        let free = free_bytes(dir.path()).unwrap();
        let needed = |model_bytes| SpaceNeeded { checkpoint_bytes: 12, num_checkpoints: 1, model_bytes };
        check_space(dir.path(), &needed(free / 2)).unwrap();
        assert!(check_space(dir.path(), &needed(2 * free)).is_err());
    }
}
