//! One run an output folder.

use crate::recover::put_back;
use crate::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The lock file's name; it is there only while a run is.
pub(crate) const LOCK_FILE_NAME: &str = ".lock";

/// The right to write to an output folder, which one run has at a time. It is given back on drop,
/// and by the system when the process dies, however it does.
#[derive(Debug)]
pub struct OutputDirLock {
    output_dir: PathBuf,
    /// Locked for as long as it is open.
    _file: File,
    /// The folders made to have somewhere to put the lock, deepest first.
    made: Vec<PathBuf>,
}

impl OutputDirLock {
    /// Locks an output folder, making it if need be, and puts back what an interrupted run was
    /// about to replace. Fails if another run holds it. A folder that was made and has nothing in
    /// it on drop is removed again.
    pub fn take(output_dir: &Path) -> Result<Self> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = output_dir.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        fs::create_dir_all(output_dir).map_err(Error::file("create", output_dir))?;
        let path = output_dir.join(LOCK_FILE_NAME);
        let file = loop {
            let file = File::options().create(true).append(true).open(&path).map_err(Error::file("create", &path))?;
            match file.try_lock() {
                Ok(()) if is_still_at(&file, &path)? => break file,
                // The run that held it removed it since it was opened here.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::OutputDirLocked { path: output_dir.to_owned() }),
                // A file system without locks is one to write to all the same.
                Err(TryLockError::Error(source)) if source.kind() == ErrorKind::Unsupported => break file,
                Err(TryLockError::Error(source)) => return Err(Error::file("lock", &path)(source)),
            }
        };
        let lock = Self { output_dir: output_dir.to_owned(), _file: file, made };
        put_back(output_dir)?;
        Ok(lock)
    }

    /// The folder.
    pub fn output_dir(&self) -> &Path {
        &self.output_dir
    }
}

impl Drop for OutputDirLock {
    fn drop(&mut self) {
        // Removed while it is locked, so that nobody else's is. A file that stays does no harm.
        let _ = fs::remove_file(self.output_dir.join(LOCK_FILE_NAME));
        for folder in &self.made {
            if fs::remove_dir(folder).is_err() {
                break; // it has something in it
            }
        }
    }
}

/// Whether `path` is still the name of `file`.
#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = file.metadata().map_err(Error::file("look at", path))?;
    Ok(fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())))
}

/// Whether `path` is still the name of `file`: an open file cannot be removed.
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
        assert!(dir.path().join(LOCK_FILE_NAME).exists(), "the refused one must not remove the other's lock");
        drop(lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        OutputDirLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_dead_runs_lock_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK_FILE_NAME), "").unwrap();
        OutputDirLock::take(dir.path()).unwrap();
    }

    #[test]
    fn folders_made_for_nothing_go_and_used_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        drop(OutputDirLock::take(&dir.path().join("a/b")).unwrap());
        assert!(!dir.path().join("a").exists() && dir.path().exists());

        let lock = OutputDirLock::take(&dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/file"), "").unwrap();
        drop(lock);
        assert!(dir.path().join("a/file").exists() && !dir.path().join("a/b").exists());
    }

    /// Many take turns; the counter would lose some if two ever held it together.
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
