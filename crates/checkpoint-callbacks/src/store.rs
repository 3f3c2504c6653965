//! The store for production: a checkpoint is there whole, or not at all.

use crate::disk::{Disk, RealDisk};
use crate::durable::{self, NewFile};
use crate::manifest::{FileEntry, Manifest};
use crate::names::{Sibling, checkpoint_path};
use crate::recover::siblings;
use crate::{Error, OutputDirLock, Result, inside};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use trainer_core::{BoxError, CheckpointFolder, CheckpointStore, Saved, WriteCheckpoint, WriteContent};

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

/// Keeps checkpoints as `output_dir/checkpoint-<global_step>`, and writes them while training goes
/// on.
///
/// A checkpoint is written into a hidden sibling folder; its files are flushed to the disk and
/// listed with sizes and SHA-256 in `manifest.json`; then the folder is renamed and the rename
/// flushed. Whatever is interrupted, no folder of the final name is ever half full, and the earlier
/// checkpoints are untouched.
///
/// All of that happens on a thread of its own, one checkpoint at a time. Dropping the store waits
/// for it.
#[derive(Debug)]
pub struct DirectoryStore {
    output_dir: PathBuf,
    disk: Arc<dyn Disk>,
    on_its_way: Option<OnItsWay>,
    /// Nobody else writes here meanwhile.
    _lock: OutputDirLock,
}

#[derive(Debug)]
struct OnItsWay {
    global_step: u64,
    /// An error where the system had no thread to give.
    thread: std::io::Result<JoinHandle<Result<PathBuf, BoxError>>>,
}

impl DirectoryStore {
    /// Opens an output folder, making it if need be, and clears up after an interrupted run. The
    /// folder is locked before anything in it is touched, for as long as the store lives.
    pub fn open(output_dir: &Path) -> Result<Self> {
        Self::open_locked(OutputDirLock::take(output_dir)?)
    }

    /// Opens the output folder whose lock was taken earlier.
    pub fn open_locked(lock: OutputDirLock) -> Result<Self> {
        Self::open_on(Arc::new(RealDisk), lock)
    }

    fn open_on(disk: Arc<dyn Disk>, lock: OutputDirLock) -> Result<Self> {
        // Taking the lock has put back what is a checkpoint still; the rest is on its way out.
        for (_, leftover) in siblings(lock.output_dir())? {
            durable::remove_folder(&*disk, &leftover.path)?;
        }
        Ok(Self { output_dir: lock.output_dir().to_owned(), disk, on_its_way: None, _lock: lock })
    }
}

impl CheckpointStore for DirectoryStore {
    fn save(&mut self, global_step: u64, write: WriteCheckpoint) {
        // The outcome of one that nobody asked about is lost.
        drop(self.wait());
        let (disk, output_dir) = (Arc::clone(&self.disk), self.output_dir.clone());
        let work = move || save(&*disk, &output_dir, global_step, write);
        let thread = std::thread::Builder::new().name(format!("checkpoint-{global_step}")).spawn(work);
        self.on_its_way = Some(OnItsWay { global_step, thread });
    }

    fn poll(&mut self) -> Option<Saved> {
        let is_running = |on_its_way: &OnItsWay| on_its_way.thread.as_ref().is_ok_and(|thread| !thread.is_finished());
        if self.on_its_way.as_ref().is_some_and(is_running) { None } else { self.wait() }
    }

    fn wait(&mut self) -> Option<Saved> {
        let OnItsWay { global_step, thread } = self.on_its_way.take()?;
        let outcome = match thread.map(JoinHandle::join) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the thread that wrote it panicked".into()),
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

/// A checkpoint's whole way.
fn save(disk: &dyn Disk, output_dir: &Path, global_step: u64, write: WriteCheckpoint) -> Result<PathBuf, BoxError> {
    let staging = Sibling::Partial.path(output_dir, global_step);
    let outcome = write_whole(disk, &staging, global_step, write)
        .and_then(|()| Ok(put_into_place(disk, output_dir, &staging, global_step)?));
    if outcome.is_err() {
        // The first error is the one to report.
        let _ = durable::remove_folder(disk, &staging);
    }
    outcome
}

fn write_whole(disk: &dyn Disk, staging: &Path, global_step: u64, write: WriteCheckpoint) -> Result<(), BoxError> {
    durable::remove_folder(disk, staging)?;
    disk.create_folder(staging).map_err(Error::file("create", staging))?;
    let mut folder = Folder { disk, path: staging, files: Vec::new() };
    write(&mut folder)?;
    let mut files = folder.files;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Manifest { global_step, files }.write(disk, staging)?;
    Ok(durable::sync_folders(disk, staging)?)
}

fn put_into_place(disk: &dyn Disk, output_dir: &Path, staging: &Path, global_step: u64) -> Result<PathBuf> {
    let path = checkpoint_path(output_dir, global_step);
    let replaced = Sibling::Replaced.path(output_dir, global_step);
    let replaces = path.exists();
    if replaces {
        // A folder cannot be renamed over another; `recover` brings this one back if it comes to
        // nothing.
        durable::remove_folder(disk, &replaced)?;
        durable::rename(disk, &path, &replaced)?;
    }
    let renamed = durable::rename(disk, staging, &path);
    if renamed.is_err() && replaces {
        // Else the next run does it.
        let _ = durable::rename(disk, &replaced, &path);
    }
    renamed?;
    durable::sync(disk, output_dir)?;
    // What is left of it is cleared up by the next run.
    let _ = durable::remove_folder(disk, &replaced);
    Ok(path)
}

/// Writes a checkpoint's files and lists them.
struct Folder<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    files: Vec<FileEntry>,
}

impl CheckpointFolder for Folder<'_> {
    fn write_file(&mut self, path: &Path, content: WriteContent<'_>) -> Result<(), BoxError> {
        if !inside::is_plain(path) {
            return Err(format!("{} is no path inside a checkpoint", path.display()).into());
        }
        if self.files.iter().any(|file| file.path == path) {
            return Err(format!("{} was written already", path.display()).into());
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
