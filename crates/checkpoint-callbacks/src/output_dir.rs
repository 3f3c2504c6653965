//! Checks an output folder before anything is computed or written.

use crate::recover::recoverable;
use crate::{Error, Result, find_checkpoints, recover};
use std::fs::{self, OpenOptions};
use std::path::Path;

/// What a run wants to do with its output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputDirUse {
    /// Start a new run.
    NewRun,
    /// Resume from a checkpoint in this folder.
    Resume,
}

impl OutputDirUse {
    /// What a run that starts from `checkpoint`, or from none, does with `output_dir`. A checkpoint
    /// of another folder starts a new run here, because the checkpoints in this folder are not of
    /// the same run.
    pub fn for_checkpoint(output_dir: &Path, checkpoint: Option<&Path>) -> Self {
        if checkpoint.is_some_and(|checkpoint| is_inside(checkpoint, output_dir)) { Self::Resume } else { Self::NewRun }
    }
}

/// Whether `checkpoint` is a folder directly in `output_dir`, however the two paths are spelled.
pub(crate) fn is_inside(checkpoint: &Path, output_dir: &Path) -> bool {
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    let parent = canonical(checkpoint).and_then(|path| path.parent().map(Path::to_owned));
    parent.is_some() && parent == canonical(output_dir)
}

/// Checks that `output_dir` is a folder that can be written to, or that such a folder can be
/// created, and that a new run does not mix its checkpoints with those of another run. Changes
/// nothing, except that a resume does what [`recover`] does.
///
/// # Errors
/// [`Error::OutputDirIsAFile`], [`Error::OutputDirNotWritable`], [`Error::OutputDirInUse`], and
/// those of [`recover`].
pub fn check_output_dir(output_dir: &Path, wanted_for: OutputDirUse) -> Result<()> {
    check_writable(output_dir)?;
    if wanted_for == OutputDirUse::Resume {
        return recover(output_dir);
    }
    let mut existing = find_checkpoints(output_dir)?;
    existing.extend(recoverable(output_dir)?);
    match existing.iter().map(|checkpoint| checkpoint.global_step).max() {
        Some(newest) => Err(Error::OutputDirInUse { path: output_dir.to_owned(), newest }),
        None => Ok(()),
    }
}

/// Writes a trial file into the nearest existing folder. Permissions alone do not reveal read-only
/// file systems.
pub(crate) fn check_writable(output_dir: &Path) -> Result<()> {
    // The last ancestor of a relative path is the empty path, which stands for the current folder.
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
    fn an_existing_or_new_folder_is_accepted_and_unchanged() {
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
            assert_eq!(message, format!("output_dir {} is a file; choose a folder", file.display()));
        }
    }

    #[test]
    fn a_new_run_refuses_checkpoints_of_another() {
        let dir = tempfile::tempdir().unwrap();
        for step in [9, 10] {
            fs::create_dir(dir.path().join(format!("checkpoint-{step}"))).unwrap();
        }
        let message = check_output_dir(dir.path(), OutputDirUse::NewRun).unwrap_err().to_string();
        assert!(message.contains("checkpoint-10") && message.contains("resume that run"), "{message}");
        check_output_dir(dir.path(), OutputDirUse::Resume).unwrap();
    }

    #[test]
    fn a_checkpoint_of_another_folder_starts_a_new_run() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        for folder in [own.join("checkpoint-1"), other.join("checkpoint-1"), own.join("deeper/checkpoint-1")] {
            fs::create_dir_all(folder).unwrap();
        }
        let wanted_for = |checkpoint: &Path| OutputDirUse::for_checkpoint(&own, Some(checkpoint));
        assert_eq!(wanted_for(&own.join("checkpoint-1")), OutputDirUse::Resume);
        assert_eq!(wanted_for(&other.join("../own/./checkpoint-1/")), OutputDirUse::Resume);
        assert_eq!(wanted_for(&other.join("checkpoint-1")), OutputDirUse::NewRun);
        assert_eq!(wanted_for(&own.join("deeper/checkpoint-1")), OutputDirUse::NewRun);
        assert_eq!(OutputDirUse::for_checkpoint(&own, None), OutputDirUse::NewRun);
        let missing = dir.path().join("none");
        assert_eq!(OutputDirUse::for_checkpoint(&missing, Some(&missing.join("x"))), OutputDirUse::NewRun);
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_refused() {
        // Even root cannot write here.
        let message = check_output_dir(Path::new("/proc/self/out"), OutputDirUse::NewRun).unwrap_err().to_string();
        assert!(message.starts_with("output_dir /proc/self/out cannot be written to"), "{message}");
    }
}
