//! A lock that keeps two runs out of one output folder.

use crate::output_dir::check_writable;
use crate::recover::recover_locked;
use crate::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

mod holder;
pub use holder::LockHolder;

/// The name of the lock file. The file exists only while a run holds the lock.
pub(crate) const LOCK_FILE_NAME: &str = ".lock";

/// The right to write to an output folder. One run has it at a time. It ends on drop, and the
/// system ends it when the process dies for whatever reason.
///
/// The lock is the system's, on a file in the folder. The file says which process on which host
/// holds it, for the message to another run. What a file says that nobody has locked does not
/// matter.
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
    /// [`Error::OutputDirLocked`] when another run holds the lock; [`Error::OutputDirIsAFile`] and
    /// [`Error::OutputDirNotWritable`]; [`Error::File`] when the disk fails, or when something that
    /// is not a file has the name of the lock file.
    pub fn take(output_dir: &Path) -> Result<Self> {
        check_writable(output_dir)?;
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let created = output_dir.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        fs::create_dir_all(output_dir).map_err(Error::file("create", output_dir))?;
        let path = output_dir.join(LOCK_FILE_NAME);
        let mut file = loop {
            let file = open(&path).map_err(Error::file("create", &path))?;
            match file.try_lock() {
                Ok(()) if is_still_at(&file, &path)? => break file,
                // The run that held the lock removed the file after it was opened here: try again.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = LockHolder::read_from(&file);
                    return Err(Error::OutputDirLocked { path: output_dir.to_owned(), holder });
                }
                // Some file systems have no locks. A run may still write to them.
                Err(TryLockError::Error(source)) if source.kind() == ErrorKind::Unsupported => {
                    warn_without_lock(output_dir, LockHolder::read_from(&file).as_ref());
                    break file;
                }
                Err(TryLockError::Error(source)) => return Err(Error::file("lock", &path)(source)),
            }
        };
        LockHolder::this_process().write_to(&mut file);
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

/// Opens the lock file, or makes it. It must be a file of the folder: writing through a link would
/// change a file elsewhere, and opening a pipe would wait.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is not a regular file")) }
}

/// Says that nothing keeps another run out of the folder, and who may be in it.
fn warn_without_lock(output_dir: &Path, holder: Option<&LockHolder>) {
    let shown = output_dir.display();
    match holder {
        None => tracing::warn!(
            "the file system of output_dir {shown} has no locks, so make sure that no other run uses this folder"
        ),
        Some(holder) => tracing::warn!(
            "the file system of output_dir {shown} has no locks, and {holder}, may be using this folder; make sure that it has ended"
        ),
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
    use crate::testing::with_events;

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
    fn the_refusal_says_who_holds_the_lock_and_since_when() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE_NAME);
        fs::write(&path, r#"{"process_id":1,"host":"of-a-dead-run","since":0}"#).unwrap();
        let _lock = OutputDirLock::take(dir.path()).unwrap();
        let refused = || OutputDirLock::take(dir.path()).unwrap_err();
        let Error::OutputDirLocked { holder: Some(holder), .. } = refused() else { panic!("{}", refused()) };
        assert_eq!(holder.process_id, std::process::id());
        let message = refused().to_string();
        let who = format!("is in use by another run (process {} on {}, since 20", std::process::id(), holder.host);
        assert!(message.contains(&who) && message.contains(" UTC); wait until it ends"), "{message}");

        fs::write(&path, "\u{1b}[2J not what a run writes").unwrap();
        let message = refused().to_string();
        assert!(message.contains("is in use by another run; wait until it ends"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_file_that_is_no_file_is_named_and_unchanged() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join(LOCK_FILE_NAME), dir.path().join("notes.txt"));
        fs::write(&other, "kept").unwrap();
        symlink(&other, &path).unwrap();
        let message = || OutputDirLock::take(dir.path()).unwrap_err().to_string();
        assert!(message().starts_with(&format!("cannot create {}: ", path.display())), "{}", message());
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
        fs::remove_file(&path).unwrap();

        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(message().starts_with(&format!("cannot create {}: ", path.display())), "{}", message());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(message().starts_with(&format!("cannot create {}: ", path.display())), "{}", message());
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_named_as_such() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let refused = OutputDirLock::take(&dir.path().join("file/out"));
        assert!(matches!(refused, Err(Error::OutputDirIsAFile { .. })), "{refused:?}");
    }

    #[test]
    fn a_folder_without_locks_is_told_with_the_run_that_may_use_it() {
        let holder = LockHolder { process_id: 7, host: "node-3".to_owned(), since: 0 };
        let ((), told) = with_events(|| warn_without_lock(Path::new("out"), Some(&holder)));
        assert!(told[0].contains("process 7 on node-3, since 1970-01-01 00:00:00 UTC, may be using"), "{told:?}");
        let ((), told) = with_events(|| warn_without_lock(Path::new("out"), None));
        assert!(told[0].starts_with("WARN: the file system of output_dir out has no locks"), "{told:?}");
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
