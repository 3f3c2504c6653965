//! A lock that keeps two runs out of one output folder.

use crate::recover::recover_locked;
use crate::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The name of the lock file. The file exists only while a run holds the lock.
pub(crate) const LOCK_FILE_NAME: &str = ".lock";

/// The right to write to an output folder. One run has it at a time. It ends on drop, and the
/// system ends it when the process dies for whatever reason.
#[derive(Debug)]
pub struct OutputDirLock {
    output_dir: PathBuf,
    /// The lock lasts as long as the file is open.
    _file: File,
    /// The folders that were created for the lock file, deepest first.
    created: Vec<PathBuf>,
}

impl OutputDirLock {
    /// Locks an output folder and then does what [`recover`](crate::recover) does. The folder is
    /// created if it does not exist; a folder that was created and is empty on drop is removed
    /// again.
    ///
    /// # Errors
    /// [`Error::OutputDirLocked`] when another run holds the lock, [`Error::File`] when the disk
    /// fails.
    pub fn take(output_dir: &Path) -> Result<Self> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let created = output_dir.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        fs::create_dir_all(output_dir).map_err(Error::file("create", output_dir))?;
        let path = output_dir.join(LOCK_FILE_NAME);
        let file = loop {
            let file = File::options().create(true).append(true).open(&path).map_err(Error::file("create", &path))?;
            match file.try_lock() {
                Ok(()) if is_still_at(&file, &path)? => break file,
                // The run that held the lock removed the file after it was opened here: try again.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::OutputDirLocked { path: output_dir.to_owned() }),
                // Some file systems have no locks. A run may still write to them.
                Err(TryLockError::Error(source)) if source.kind() == ErrorKind::Unsupported => break file,
                Err(TryLockError::Error(source)) => return Err(Error::file("lock", &path)(source)),
            }
        };
        let lock = Self { output_dir: output_dir.to_owned(), _file: file, created };
        recover_locked(output_dir)?;
        Ok(lock)
    }

    /// The locked folder.
    pub fn output_dir(&self) -> &Path {
        &self.output_dir
    }
}

impl Drop for OutputDirLock {
    fn drop(&mut self) {
        // The file is removed while it is locked, so it cannot be another run's. If it stays, it
        // does no harm.
        let _ = fs::remove_file(self.output_dir.join(LOCK_FILE_NAME));
        for folder in &self.created {
            if fs::remove_dir(folder).is_err() {
                break; // it is not empty
            }
        }
    }
}

/// Whether `path` is still the name of `file`.
#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = file.metadata().map_err(Error::file("read the metadata of", path))?;
    Ok(fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())))
}

/// Whether `path` is still the name of `file`: here nobody can remove an open file.
#[cfg(not(unix))]
fn is_still_at(_file: &File, _path: &Path) -> Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_refused_by_name_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let lock = OutputDirLock::take(dir.path()).unwrap();
        let message = OutputDirLock::take(dir.path()).unwrap_err().to_string();
        let expected = format!("output_dir {} is in use by another run", dir.path().display());
        assert!(message.starts_with(&expected), "{message}");
        assert!(dir.path().join(LOCK_FILE_NAME).exists(), "the refused run must not remove the other's lock");
        drop(lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        OutputDirLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_file_of_a_dead_run_does_not_lock() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK_FILE_NAME), "").unwrap();
        OutputDirLock::take(dir.path()).unwrap();
    }

    #[test]
    fn created_folders_are_removed_only_when_empty() {
        let dir = tempfile::tempdir().unwrap();
        drop(OutputDirLock::take(&dir.path().join("a/b")).unwrap());
        assert!(!dir.path().join("a").exists() && dir.path().exists());

        let lock = OutputDirLock::take(&dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/file"), "").unwrap();
        drop(lock);
        assert!(dir.path().join("a/file").exists() && !dir.path().join("a/b").exists());
    }

    /// Threads take turns at a counter. It would lose some counts if two held the lock at once.
    #[test]
    fn only_one_holds_it_however_often_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let counter = dir.path().join("counter");
        fs::write(&counter, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut turns = 0;
                    while turns < 50 {
                        let Ok(_lock) = OutputDirLock::take(dir.path()) else { continue };
                        let count: u64 = fs::read_to_string(&counter).unwrap().parse().unwrap();
                        std::thread::yield_now();
                        fs::write(&counter, (count + 1).to_string()).unwrap();
                        turns += 1;
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&counter).unwrap(), "200");
    }
}
