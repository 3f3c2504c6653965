//! The checkpoints of an output folder.

use crate::manifest::verify;
use crate::names::parse_checkpoint;
use crate::{Error, Result, recover};
use std::fs;
use std::path::{Path, PathBuf};

/// A checkpoint folder. It may be damaged; [`verify`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of optimizer steps done when it was saved.
    pub global_step: u64,
    /// The folder.
    pub path: PathBuf,
}

/// All folders `checkpoint-<step>` in `output_dir`, sorted by step. Empty if `output_dir` does not
/// exist.
///
/// # Errors
/// [`Error::File`] when the folder cannot be listed.
pub fn find_checkpoints(output_dir: &Path) -> Result<Vec<Checkpoint>> {
    let entries = match fs::read_dir(output_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::file("list", output_dir))?,
    };
    let mut checkpoints = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file("list", output_dir))?.path();
        let global_step = path.file_name().and_then(|name| parse_checkpoint(name.to_str()?));
        if let Some(global_step) = global_step.filter(|_| path.is_dir()) {
            checkpoints.push(Checkpoint { global_step, path });
        }
    }
    checkpoints.sort_by_key(|checkpoint| checkpoint.global_step);
    Ok(checkpoints)
}

/// What [`newest_complete`] found.
#[derive(Debug)]
pub struct Newest {
    /// The newest complete checkpoint, if there is one.
    pub checkpoint: Option<Checkpoint>,
    /// Newer checkpoints that are damaged, newest first.
    pub skipped: Vec<Skipped>,
}

/// A damaged checkpoint.
#[derive(Debug)]
pub struct Skipped {
    /// Where it is.
    pub checkpoint: Checkpoint,
    /// What is wrong with it.
    pub error: Error,
}

/// Finds the newest complete checkpoint in `output_dir`. Does what [`recover`] does first, and then
/// [`verify`]s the checkpoints from the newest on until one is complete.
///
/// # Errors
/// [`Error::File`] when the folder cannot be listed, and those of [`recover`]. A damaged checkpoint
/// is not an error but in [`Newest::skipped`].
pub fn newest_complete(output_dir: &Path) -> Result<Newest> {
    recover(output_dir)?;
    let mut skipped = Vec::new();
    for checkpoint in find_checkpoints(output_dir)?.into_iter().rev() {
        match verify(&checkpoint.path) {
            Ok(()) => return Ok(Newest { checkpoint: Some(checkpoint), skipped }),
            Err(error) => skipped.push(Skipped { checkpoint, error }),
        }
    }
    Ok(Newest { checkpoint: None, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirectoryStore;
    use crate::testing::save;
    use trainer_core::CheckpointStore;

    #[test]
    fn only_checkpoint_folders_are_found_sorted_by_number() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["checkpoint-9", "checkpoint-10", "checkpoint-100", "checkpoint-x", ".checkpoint-5.partial", "logs"]
        {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("checkpoint-7"), "a file").unwrap();
        let steps: Vec<u64> = find_checkpoints(dir.path()).unwrap().iter().map(|found| found.global_step).collect();
        assert_eq!(steps, [9, 10, 100]);
        assert_eq!(find_checkpoints(&dir.path().join("none")).unwrap(), []);
    }

    #[test]
    fn the_newest_complete_checkpoint_is_found_and_damaged_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DirectoryStore::open(dir.path()).unwrap();
        for step in [1, 2, 3] {
            save(&mut store, step, "weights").unwrap();
        }
        fs::write(store.path(3).join("model"), "weight").unwrap();
        fs::create_dir(store.path(4)).unwrap();

        let newest = newest_complete(dir.path()).unwrap();
        assert_eq!(newest.checkpoint.unwrap().global_step, 2);
        let reasons: Vec<String> = newest.skipped.iter().map(|skipped| skipped.error.to_string()).collect();
        assert!(reasons[0].contains("checkpoint-4") && reasons[0].contains("manifest.json"), "{reasons:?}");
        assert!(reasons[1].contains("checkpoint-3") && reasons[1].contains("6 bytes and should have 7"), "{reasons:?}");

        let empty = tempfile::tempdir().unwrap();
        assert!(newest_complete(empty.path()).unwrap().checkpoint.is_none());
    }
}
