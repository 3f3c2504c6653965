//! The disk operations of this crate, behind a trait, so that tests can make each of them fail.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{Result, Write};
use std::path::Path;

/// Every operation that changes a file system. Reads do not go through this trait.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Creates a folder and its missing parents.
    fn create_folder(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path)
    }

    /// Creates a file, or empties an existing one.
    fn create_file(&self, path: &Path) -> Result<File> {
        File::create(path)
    }

    /// Writes some of `bytes` and returns how many it wrote.
    fn write(&self, file: &mut File, bytes: &[u8]) -> Result<usize> {
        file.write(bytes)
    }

    /// Waits until the content of a file, or the entries of a folder, are on the disk.
    fn sync(&self, file: &File) -> Result<()> {
        file.sync_all()
    }

    /// Renames a file or folder.
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

/// The real file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {}
