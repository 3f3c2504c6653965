//! Recovers checkpoints from an interrupted replacement.
//!
//! When a step is saved again, its old checkpoint gets a hidden name before the new one gets the
//! real name. A run that dies between the two renames leaves no checkpoint of the real name. The
//! hidden one is complete then, and gets its name back.

use crate::disk::RealDisk;
use crate::find::Checkpoint;
use crate::names::{Sibling, checkpoint_path};
use crate::{Error, OutputDirLock, Result, durable};
use std::fs;
use std::path::Path;

/// Gives a checkpoint its name back when a run was interrupted while replacing it. Changes nothing
/// in a folder without such a checkpoint.
///
/// # Errors
/// [`Error::OutputDirLocked`] when there is such a checkpoint and a run is using the folder,
/// [`Error::File`] when the disk fails.
pub fn recover(output_dir: &Path) -> Result<()> {
    if recoverable(output_dir)?.is_empty() {
        return Ok(());
    }
    OutputDirLock::take(output_dir).map(drop)
}

/// As [`recover`], for a caller that holds the lock of the folder.
pub(crate) fn recover_locked(output_dir: &Path) -> Result<()> {
    let found = recoverable(output_dir)?;
    for Checkpoint { global_step, path } in &found {
        durable::rename(&RealDisk, path, &checkpoint_path(output_dir, *global_step))?;
    }
    if found.is_empty() { Ok(()) } else { durable::sync(&RealDisk, output_dir) }
}

/// Replaced checkpoints without a successor, sorted by step.
pub(crate) fn recoverable(output_dir: &Path) -> Result<Vec<Checkpoint>> {
    let mut found = Vec::new();
    for (sibling, Checkpoint { global_step, path }) in siblings(output_dir)? {
        if sibling == Sibling::Replaced && path.is_dir() && !checkpoint_path(output_dir, global_step).exists() {
            found.push(Checkpoint { global_step, path });
        }
    }
    found.sort_by_key(|checkpoint| checkpoint.global_step);
    Ok(found)
}

/// All hidden siblings of checkpoints. Empty if the folder does not exist.
pub(crate) fn siblings(output_dir: &Path) -> Result<Vec<(Sibling, Checkpoint)>> {
    let entries = match fs::read_dir(output_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::file("list", output_dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::file("list", output_dir))?.file_name();
        if let Some((sibling, global_step)) = name.to_str().and_then(Sibling::parse) {
            found.push((sibling, Checkpoint { global_step, path: output_dir.join(&name) }));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::save;
    use crate::{DirectoryStore, OutputDirUse, check_output_dir, newest_complete};
    use trainer_core::CheckpointStore;

    /// A folder with checkpoints 2 and 4. Checkpoint 4 has the name that it gets before it is
    /// replaced.
    fn interrupted() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DirectoryStore::open(dir.path()).unwrap();
        for step in [2, 4] {
            save(&mut store, step, "weights").unwrap();
        }
        fs::rename(store.path(4), dir.path().join(".checkpoint-4.replaced")).unwrap();
        dir
    }

    #[test]
    fn the_newest_is_found_although_its_replacement_was_interrupted() {
        let dir = interrupted();
        let newest = newest_complete(dir.path()).unwrap().checkpoint.unwrap();
        assert_eq!(newest, Checkpoint { global_step: 4, path: dir.path().join("checkpoint-4") });
        assert!(!dir.path().join(".checkpoint-4.replaced").exists());
    }

    #[test]
    fn a_resume_recovers_it_and_a_new_run_is_refused() {
        let dir = interrupted();
        fs::remove_dir_all(dir.path().join("checkpoint-2")).unwrap();
        let message = check_output_dir(dir.path(), OutputDirUse::NewRun).unwrap_err().to_string();
        assert!(message.contains("checkpoint-4"), "{message}");
        assert!(dir.path().join(".checkpoint-4.replaced").exists(), "a refused run changes nothing");
        check_output_dir(dir.path(), OutputDirUse::Resume).unwrap();
        assert!(dir.path().join("checkpoint-4").exists());
    }

    #[test]
    fn a_checkpoint_with_a_successor_and_a_running_save_are_left_alone() {
        let dir = interrupted();
        let store = DirectoryStore::open(dir.path()).unwrap();
        assert!(store.path(4).exists());
        fs::create_dir(dir.path().join(".checkpoint-4.replaced")).unwrap();
        recover(dir.path()).unwrap();
        fs::rename(store.path(2), dir.path().join(".checkpoint-2.replaced")).unwrap();
        assert!(recover(dir.path()).unwrap_err().to_string().contains("another run"));
        drop(store);
        recover(dir.path()).unwrap();
        recover(&dir.path().join("none")).unwrap();
        assert!(!dir.path().join("none").exists());
    }
}
