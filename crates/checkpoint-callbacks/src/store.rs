//! The store for real runs: a checkpoint exists completely or not at all.

use crate::disk::{Disk, RealDisk};
use crate::durable::{self, NewFile};
use crate::manifest::{FileEntry, Manifest};
use crate::names::{Sibling, checkpoint_path};
use crate::recover::siblings;
use crate::units::in_units;
use crate::untrusted::contained_path;
use crate::{Error, OutputDirLock, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use trainer_core::{BoxError, CheckpointFolder, CheckpointStore, Saved, WriteCheckpoint, WriteContent};

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

/// Keeps checkpoints as `output_dir/checkpoint-<global_step>`, and writes them while training
/// continues.
///
/// A checkpoint is written into a hidden sibling folder. Its files are flushed to the disk and
/// listed with sizes and SHA-256 in `manifest.json`. Then the folder is renamed, and the rename is
/// flushed. Wherever this is interrupted, a folder with the final name is complete, and earlier
/// checkpoints are unchanged.
///
/// A thread of the store does this, for one checkpoint at a time. Dropping the store waits for it.
/// When a checkpoint is complete, a `tracing` event tells its size and how long it took.
#[derive(Debug)]
pub struct DirectoryStore {
    output_dir: PathBuf,
    disk: Arc<dyn Disk>,
    pending: Option<PendingSave>,
    /// Whether complete checkpoints are told. Their user does not know of those that are only a
    /// step on the way to something else.
    tells: bool,
    /// Held while the store exists.
    _lock: OutputDirLock,
}

#[derive(Debug)]
struct PendingSave {
    global_step: u64,
    /// An error when the system could not start a thread.
    thread: std::io::Result<JoinHandle<Result<Written, BoxError>>>,
}

/// A checkpoint that is complete.
#[derive(Debug)]
struct Written {
    path: PathBuf,
    /// Of its files.
    num_bytes: u64,
    /// From its snapshot until it was flushed to the disk.
    time: Duration,
}

impl Written {
    fn tell(&self) {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        tracing::info!("saved {name} ({} in {:.1} s)", in_units(self.num_bytes), self.time.as_secs_f64());
    }
}

impl DirectoryStore {
    /// Opens an output folder, creates it if it does not exist, and removes what an interrupted run
    /// left half written or half deleted. The folder is locked first, for as long as the store
    /// exists.
    ///
    /// # Errors
    /// [`Error::OutputDirLocked`] when another run holds the lock, [`Error::File`] when the disk
    /// fails.
    pub fn open(output_dir: &Path) -> Result<Self> {
        Self::open_locked(OutputDirLock::take(output_dir)?)
    }

    /// Opens the output folder of a lock that was taken earlier.
    ///
    /// # Errors
    /// [`Error::File`] when the disk fails.
    pub fn open_locked(lock: OutputDirLock) -> Result<Self> {
        Self::open_on(Arc::new(RealDisk), lock)
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, lock: OutputDirLock) -> Result<Self> {
        // Taking the lock recovered what is still a checkpoint. The rest can go.
        for (_, leftover) in siblings(lock.output_dir())? {
            durable::remove_folder(&*disk, &leftover.path)?;
        }
        Ok(Self { output_dir: lock.output_dir().to_owned(), disk, pending: None, tells: true, _lock: lock })
    }

    /// Does not tell of its checkpoints.
    pub(crate) fn quiet(mut self) -> Self {
        self.tells = false;
        self
    }
}

impl CheckpointStore for DirectoryStore {
    fn save(&mut self, global_step: u64, write: WriteCheckpoint) {
        // The caller did not ask for the outcome of the previous save, so it is dropped.
        drop(self.wait());
        let (disk, output_dir) = (Arc::clone(&self.disk), self.output_dir.clone());
        let work = move || save(&*disk, &output_dir, global_step, write);
        let thread = std::thread::Builder::new().name(format!("checkpoint-{global_step}")).spawn(work);
        self.pending = Some(PendingSave { global_step, thread });
    }

    fn poll(&mut self) -> Option<Saved> {
        let is_running = |pending: &PendingSave| pending.thread.as_ref().is_ok_and(|thread| !thread.is_finished());
        if self.pending.as_ref().is_some_and(is_running) { None } else { self.wait() }
    }

    fn wait(&mut self) -> Option<Saved> {
        let PendingSave { global_step, thread } = self.pending.take()?;
        let outcome = match thread.map(JoinHandle::join) {
            Ok(Ok(outcome)) => outcome.map(|written| {
                if self.tells {
                    written.tell();
                }
                written.path
            }),
            Ok(Err(_)) => Err("the thread that wrote the checkpoint panicked".into()),
            Err(error) => Err(format!("cannot start a thread: {error}").into()),
        };
        Some(Saved { global_step, outcome })
    }

    fn path(&self, global_step: u64) -> PathBuf {
        checkpoint_path(&self.output_dir, global_step)
    }
}

impl Drop for DirectoryStore {
    fn drop(&mut self) {
        drop(self.wait());
    }
}

/// Writes a checkpoint and gives it its name. After an error nothing of it is left.
fn save(disk: &dyn Disk, output_dir: &Path, global_step: u64, write: WriteCheckpoint) -> Result<Written, BoxError> {
    let started = Instant::now();
    let staging = Sibling::Partial.path(output_dir, global_step);
    let outcome = write_files(disk, &staging, global_step, write)
        .and_then(|num_bytes| Ok((num_bytes, move_into_place(disk, output_dir, &staging, global_step)?)));
    if outcome.is_err() {
        // The first error is the one to report.
        let _ = durable::remove_folder(disk, &staging);
    }
    let (num_bytes, path) = outcome?;
    Ok(Written { path, num_bytes, time: started.elapsed() })
}

/// Returns the bytes of the files.
fn write_files(disk: &dyn Disk, staging: &Path, global_step: u64, write: WriteCheckpoint) -> Result<u64, BoxError> {
    durable::remove_folder(disk, staging)?;
    disk.create_folder(staging).map_err(Error::file("create", staging))?;
    let mut folder = Folder { disk, path: staging, files: Vec::new() };
    write(&mut folder)?;
    let mut files = folder.files;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let num_bytes = files.iter().map(|file| file.size).sum();
    Manifest { global_step, files }.write(disk, staging)?;
    durable::sync_folders(disk, staging)?;
    Ok(num_bytes)
}

fn move_into_place(disk: &dyn Disk, output_dir: &Path, staging: &Path, global_step: u64) -> Result<PathBuf> {
    let path = checkpoint_path(output_dir, global_step);
    let replaced = Sibling::Replaced.path(output_dir, global_step);
    let replaces = path.exists();
    if replaces {
        // A folder cannot be renamed over another one. If the run dies before the next rename,
        // `recover` gives the old checkpoint its name back.
        durable::remove_folder(disk, &replaced)?;
        durable::rename(disk, &path, &replaced)?;
    }
    let renamed = durable::rename(disk, staging, &path);
    if renamed.is_err() && replaces {
        // If this fails too, the next run recovers it.
        let _ = durable::rename(disk, &replaced, &path);
    }
    renamed?;
    durable::sync(disk, output_dir)?;
    // If this fails, the next run removes the rest.
    let _ = durable::remove_folder(disk, &replaced);
    Ok(path)
}

/// A checkpoint that is being written, with a list of its files.
struct Folder<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    files: Vec<FileEntry>,
}

impl CheckpointFolder for Folder<'_> {
    fn write_file(&mut self, path: &Path, content: WriteContent<'_>) -> Result<(), BoxError> {
        if !contained_path::is_contained(path) {
            return Err(format!("{} is not a path inside a checkpoint", path.display()).into());
        }
        if self.files.iter().any(|file| file.path == path) {
            return Err(format!("{} was already written", path.display()).into());
        }
        let full = self.path.join(path);
        if let Some(folder) = full.parent().filter(|folder| *folder != self.path) {
            self.disk.create_folder(folder).map_err(Error::file("create", folder))?;
        }
        let mut file = NewFile::create(self.disk, &full)?;
        content(&mut file).map_err(|error| file.failure().map_or(error, Into::into))?;
        let (size, sha256) = file.finish()?;
        self.files.push(FileEntry { path: path.to_owned(), size, sha256 });
        Ok(())
    }
}
