//! Chooses the checkpoint that a run resumes from.

use crate::{Error, Newest, Result, newest_complete, recover, verify};
use std::path::{Path, PathBuf};

/// Where a run resumes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest complete checkpoint in the output folder.
    Newest,
    /// This checkpoint.
    From(PathBuf),
}

/// Finds and verifies the checkpoint to resume from. A damaged checkpoint that [`Resume::Newest`]
/// passes over is a warning. Does what [`recover`] does first, in the folder of the checkpoint.
///
/// # Errors
/// [`Error::NoCompleteCheckpoint`], [`Error::NoSuchCheckpoint`], those of [`verify`] for
/// [`Resume::From`], and those of [`recover`].
pub fn checkpoint_to_resume(output_dir: &Path, resume: &Resume) -> Result<PathBuf> {
    match resume {
        Resume::From(path) => {
            if let Some(folder) = path.parent().filter(|folder| folder.is_dir()) {
                recover(folder)?;
            }
            if !path.is_dir() {
                return Err(Error::NoSuchCheckpoint { path: path.clone() });
            }
            verify(path)?;
            Ok(path.clone())
        }
        Resume::Newest => {
            let Newest { checkpoint, skipped } = newest_complete(output_dir)?;
            for skipped in skipped {
                tracing::warn!("{} is skipped: {}", skipped.checkpoint.path.display(), skipped.error);
            }
            let no_checkpoint = || Error::NoCompleteCheckpoint { output_dir: output_dir.to_owned() };
            checkpoint.map(|checkpoint| checkpoint.path).ok_or_else(no_checkpoint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirectoryStore;
    use crate::testing::{save, with_events};
    use std::fs;

    /// A folder with checkpoints 2 and 4.
    fn two_checkpoints() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DirectoryStore::open(dir.path()).unwrap();
        for step in [2, 4] {
            save(&mut store, step, "weights").unwrap();
        }
        dir
    }

    #[test]
    fn a_damaged_newest_checkpoint_is_skipped_with_a_warning() {
        let dir = two_checkpoints();
        let newest = || with_events(|| checkpoint_to_resume(dir.path(), &Resume::Newest));
        let (found, events) = newest();
        assert_eq!((found.unwrap(), events), (dir.path().join("checkpoint-4"), Vec::new()));

        fs::write(dir.path().join("checkpoint-4/model"), "weight").unwrap();
        let (found, events) = newest();
        assert_eq!(found.unwrap(), dir.path().join("checkpoint-2"));
        let [warning] = &events[..] else { panic!("{events:?}") };
        let path = dir.path().join("checkpoint-4");
        let start =
            format!("WARN: {0} is skipped: the checkpoint {0} is incomplete: model has 6 bytes", path.display());
        assert!(warning.starts_with(&start), "{warning}");

        fs::remove_file(dir.path().join("checkpoint-2/manifest.json")).unwrap();
        let message = newest().0.unwrap_err().to_string();
        assert_eq!(message, format!("there is no complete checkpoint in {} to resume from", dir.path().display()));
    }

    #[test]
    fn a_given_checkpoint_must_exist_and_be_complete() {
        let dir = two_checkpoints();
        let from = |name: &str| checkpoint_to_resume(Path::new("unused"), &Resume::From(dir.path().join(name)));
        assert_eq!(from("checkpoint-2").unwrap(), dir.path().join("checkpoint-2"));
        assert!(matches!(from("checkpoint-3").unwrap_err(), Error::NoSuchCheckpoint { .. }));
        fs::rename(dir.path().join("checkpoint-4"), dir.path().join(".checkpoint-4.replaced")).unwrap();
        assert_eq!(from("checkpoint-4").unwrap(), dir.path().join("checkpoint-4"), "it gets its name back");
        fs::write(dir.path().join("checkpoint-4/model"), "weightz").unwrap();
        assert!(matches!(from("checkpoint-4").unwrap_err(), Error::Incomplete { .. }));
    }
}
