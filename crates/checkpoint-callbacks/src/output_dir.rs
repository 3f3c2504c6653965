//! Whether an output folder can be used, found out before anything is computed or written.

use std::{
    fs::{self, OpenOptions},
    path::Path,
};

use crate::{Error, Result, find_checkpoints};

/// What the output folder is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputDirUse {
    /// A run from the start.
    NewRun,
    /// Going on from a checkpoint.
    Resume,
}

/// Checks that `output_dir` is, or can be made, a folder that can be written to, and that a new run does not mix its
/// checkpoints with those of another. Leaves nothing behind.
pub fn check_output_dir(output_dir: &Path, wanted_for: OutputDirUse) -> Result<()> {
    check_writable(output_dir)?;
    if wanted_for == OutputDirUse::NewRun
        && let Some(newest) = find_checkpoints(output_dir)?.last()
    {
        return Err(Error::OutputDirInUse { path: output_dir.to_owned(), newest: newest.global_step });
    }
    Ok(())
}

/// Tries the nearest folder that exists: permissions alone do not tell of read-only file systems.
fn check_writable(output_dir: &Path) -> Result<()> {
    // A relative path's last ancestor is the empty path: the current folder.
    let here = Path::new(".");
    let ancestors = output_dir.ancestors().map(|path| if path.as_os_str().is_empty() { here } else { path });
    let Some(nearest) = ancestors.into_iter().find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    if nearest.metadata().is_ok_and(|found| !found.is_dir()) {
        return Err(Error::OutputDirIsAFile { path: nearest.to_owned() });
    }
    let trial = nearest.join(format!(".write-trial-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).open(&trial);
    let outcome = written.and_then(|_| fs::remove_file(&trial));
    outcome.map_err(|source| Error::OutputDirNotWritable { path: output_dir.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_or_can_be_made_is_fine_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("new/deeper")] {
            check_output_dir(&path, OutputDirUse::NewRun).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        check_output_dir(Path::new("some-new-folder"), OutputDirUse::NewRun).unwrap();
        assert!(!Path::new("some-new-folder").exists());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let message = check_output_dir(&path, OutputDirUse::NewRun).unwrap_err().to_string();
            assert_eq!(message, format!("output_dir {} is a file: give a folder", file.display()));
        }
    }

    #[test]
    fn another_runs_checkpoints_are_not_mixed_with() {
        let dir = tempfile::tempdir().unwrap();
        for step in [9, 10] {
            fs::create_dir(dir.path().join(format!("checkpoint-{step}"))).unwrap();
        }
        let message = check_output_dir(dir.path(), OutputDirUse::NewRun).unwrap_err().to_string();
        assert!(message.contains("checkpoint-10") && message.contains("--resume_from_checkpoint true"), "{message}");
        check_output_dir(dir.path(), OutputDirUse::Resume).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_refused() {
        // Not even root can write here.
        let message = check_output_dir(Path::new("/proc/self/out"), OutputDirUse::NewRun).unwrap_err().to_string();
        assert!(message.starts_with("output_dir /proc/self/out cannot be written to"), "{message}");
    }
}
