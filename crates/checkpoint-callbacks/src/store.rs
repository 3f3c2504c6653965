//! The store for production: a checkpoint is there whole, or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use trainer_core::{BoxError, CheckpointStore, WriteCheckpoint};

use crate::{
    Error, Result, durable,
    manifest::Manifest,
    names::{Sibling, checkpoint_path},
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
}

impl DirectoryStore {
    /// Opens an output folder, making it if need be, and clears up after an interrupted run.
    pub fn open(output_dir: &Path) -> Result<Self> {
        fs::create_dir_all(output_dir).map_err(Error::file("create", output_dir))?;
        for entry in fs::read_dir(output_dir).map_err(Error::file("list", output_dir))? {
            let name = entry.map_err(Error::file("list", output_dir))?.file_name();
            let Some((sibling, global_step)) = name.to_str().and_then(Sibling::parse) else { continue };
            let (path, checkpoint) = (output_dir.join(&name), checkpoint_path(output_dir, global_step));
            if sibling == Sibling::Replaced && !checkpoint.exists() {
                durable::rename(&path, &checkpoint)?;
            } else {
                durable::remove_folder(&path)?;
            }
        }
        Ok(Self { output_dir: output_dir.to_owned() })
    }

    fn put_into_place(&self, staging: &Path, global_step: u64) -> Result<PathBuf> {
        Manifest::write(staging, global_step)?;
        durable::sync_folders(staging)?;
        let (path, replaced) = (self.path(global_step), Sibling::Replaced.path(&self.output_dir, global_step));
        if path.exists() {
            // A folder cannot be renamed over another; `open` brings this one back if it comes to nothing.
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
