//! What this crate does to a disk, operation by operation, so that tests can have each of them
//! fail.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{Result, Write};
use std::path::Path;

/// Everything that changes a file system. Reading goes past it.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Makes a folder and those above it, where they are missing.
    fn create_folder(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path)
    }

    /// Makes a file, or empties the one that is there.
    fn create_file(&self, path: &Path) -> Result<File> {
        File::create(path)
    }

    /// Writes some of `bytes`; returns how many.
    fn write(&self, file: &mut File, bytes: &[u8]) -> Result<usize> {
        file.write(bytes)
    }

    /// Waits until a file's content, or a folder's entries, are on the disk.
    fn sync(&self, file: &File) -> Result<()> {
        file.sync_all()
    }

    /// Gives a file or folder another name.
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> Result<()> {
        fs::remove_file(path)
    }

    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> Result<()> {
        fs::remove_dir(path)
    }
}

/// The system's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {}
