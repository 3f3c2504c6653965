//! The store for production: a checkpoint is there whole, or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use trainer_core::{BoxError, CheckpointStore, WriteCheckpoint};

use crate::{
    Error, OutputDirLock, Result, durable,
    manifest::Manifest,
    names::{Sibling, checkpoint_path},
    recover::siblings,
};

#[cfg(test)]
mod tests;

/// Keeps checkpoints as `output_dir/checkpoint-<global_step>`.
///
/// A checkpoint is written into a hidden sibling folder; its files are flushed to the disk and listed with sizes and
/// SHA-256 in `manifest.json`; then the folder is renamed and the rename flushed. Whatever is interrupted, no folder of the
/// final name is ever half full, and the earlier checkpoints are untouched.
#[derive(Debug)]
pub struct DirectoryStore {
    output_dir: PathBuf,
    /// Nobody else writes here meanwhile.
    _lock: OutputDirLock,
}

impl DirectoryStore {
    /// Opens an output folder, making it if need be, and clears up after an interrupted run. The folder is locked before
    /// anything in it is touched, for as long as the store lives.
    pub fn open(output_dir: &Path) -> Result<Self> {
        Self::open_locked(OutputDirLock::take(output_dir)?)
    }

    /// Opens the output folder whose lock was taken earlier.
    pub fn open_locked(lock: OutputDirLock) -> Result<Self> {
        // Taking the lock has put back what is a checkpoint still; the rest is on its way out.
        for (_, leftover) in siblings(lock.output_dir())? {
            durable::remove_folder(&leftover.path)?;
        }
        Ok(Self { output_dir: lock.output_dir().to_owned(), _lock: lock })
    }

    fn put_into_place(&self, staging: &Path, global_step: u64) -> Result<PathBuf> {
        Manifest::write(staging, global_step)?;
        durable::sync_folders(staging)?;
        let (path, replaced) = (self.path(global_step), Sibling::Replaced.path(&self.output_dir, global_step));
        if path.exists() {
            // A folder cannot be renamed over another; `recover` brings this one back if it comes to nothing.
            durable::remove_folder(&replaced)?;
            durable::rename(&path, &replaced)?;
        }
        durable::rename(staging, &path)?;
        durable::sync(&self.output_dir)?;
        durable::remove_folder(&replaced)?;
        Ok(path)
    }
}

impl CheckpointStore for DirectoryStore {
    fn save(&mut self, global_step: u64, write: &mut WriteCheckpoint<'_>) -> Result<PathBuf, BoxError> {
        let staging = Sibling::Partial.path(&self.output_dir, global_step);
        durable::remove_folder(&staging)?;
        fs::create_dir_all(&staging).map_err(Error::file("create", &staging))?;
        let outcome = write(&staging).and_then(|()| Ok(self.put_into_place(&staging, global_step)?));
        if outcome.is_err() {
            // The first error is the one to report.
            let _ = durable::remove_folder(&staging);
        }
        outcome
    }

    fn path(&self, global_step: u64) -> PathBuf {
        checkpoint_path(&self.output_dir, global_step)
    }
}
