//! The crate's error type. Every message is one line that names the path and says what to do.

use crate::units::in_units;
use crate::{LockHolder, MANIFEST_FILE_NAME};
use std::path::{Path, PathBuf};
use trainer_core::BoxError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a checkpoint or an output folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read, written, renamed or removed.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What was tried, as a verb: `"create"`, `"flush"`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A value could not be turned into JSON, or a weight index could not be read as JSON.
    #[error("cannot write {}: {source}", .path.display())]
    Json {
        /// The file that was to be written.
        path: PathBuf,
        /// The JSON error.
        source: serde_json::Error,
    },
    /// A checkpoint is damaged or was not completely written.
    #[error("the checkpoint {} is incomplete: {reason}; resume from another checkpoint", .path.display())]
    Incomplete {
        /// The checkpoint.
        path: PathBuf,
        /// Which file is missing or differs.
        reason: String,
    },
    /// A manifest lists a path outside of its checkpoint, or lists a file twice.
    #[error(
        "the checkpoint {} cannot be trusted: its {MANIFEST_FILE_NAME} lists {file:?}, {problem}; resume from another checkpoint",
        .path.display()
    )]
    ManifestName {
        /// The checkpoint.
        path: PathBuf,
        /// The path in the manifest.
        file: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A checkpoint contains something other than regular files of its own, such as a pipe or a
    /// link that leads out of it.
    #[error(
        "the checkpoint {} cannot be trusted: {} is {source}; resume from another checkpoint",
        .path.display(), .file.display()
    )]
    ForeignFile {
        /// The checkpoint.
        path: PathBuf,
        /// The entry, relative to the checkpoint.
        file: PathBuf,
        /// What the entry is.
        source: std::io::Error,
    },
    /// The checkpoint to resume from does not exist.
    #[error("cannot resume from {}: there is no such folder", .path.display())]
    NoSuchCheckpoint {
        /// The path that was given.
        path: PathBuf,
    },
    /// There is nothing to resume from.
    #[error("there is no complete checkpoint in {} to resume from", .output_dir.display())]
    NoCompleteCheckpoint {
        /// The folder that was searched.
        output_dir: PathBuf,
    },
    /// The final model could not be written.
    #[error("cannot write the final model: {source}")]
    FinalModel {
        /// Why it failed.
        source: BoxError,
    },
    /// A file could not be written after the last step. [`Error::after_training`] makes it.
    #[error("{source}{}", to_resume_from(newest.as_ref(), best.as_ref()))]
    AfterTraining {
        /// What failed.
        source: Box<Error>,
        /// The newest complete checkpoint. A run that is resumed from it trains no more and only
        /// publishes, if it is that of the last step.
        newest: Option<PathBuf>,
        /// The checkpoint of the best evaluation.
        best: Option<PathBuf>,
    },
    /// The output folder, or one of its parents, is a file.
    #[error("output_dir {} is a file; choose a folder", .path.display())]
    OutputDirIsAFile {
        /// The file.
        path: PathBuf,
    },
    /// The output folder cannot be written to.
    #[error(
        "output_dir {} cannot be written to: {source}; choose another folder or change its permissions",
        .path.display()
    )]
    OutputDirNotWritable {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The output folder is one that the run reads from.
    #[error("output_dir {} is the folder of the {input}; choose another output folder", .path.display())]
    OutputDirIsInput {
        /// The folder.
        path: PathBuf,
        /// What is read from it, as [`InputDir::what`](crate::InputDir::what) says.
        input: &'static str,
    },
    /// The file system of the output folder has too little free space.
    #[error(
        "output_dir {}: {} are needed, for {} at the same time and the model, and {} are free; free some space, choose another folder, or lower save_total_limit or the number of saves",
        .path.display(), in_units(*needed), checkpoints(*num_checkpoints, *checkpoint_bytes), in_units(*free)
    )]
    OutputDirFull {
        /// The folder.
        path: PathBuf,
        /// Bytes that the run still has to write, at its peak.
        needed: u64,
        /// Bytes that can be written.
        free: u64,
        /// Checkpoints that exist at the same time, at the peak.
        num_checkpoints: u64,
        /// Size of one checkpoint.
        checkpoint_bytes: u64,
    },
    /// Another run holds the lock of the output folder.
    #[error(
        "output_dir {} is in use by another run{}; wait until it ends, or choose another folder",
        .path.display(), in_brackets(holder.as_ref())
    )]
    OutputDirLocked {
        /// The folder.
        path: PathBuf,
        /// The run, as far as the lock file tells.
        holder: Option<LockHolder>,
    },
    /// The output folder contains checkpoints of another run.
    #[error(
        "output_dir {} already holds checkpoint-{newest} of an earlier run; resume that run, or choose another folder",
        .path.display()
    )]
    OutputDirInUse {
        /// The folder.
        path: PathBuf,
        /// The step of the newest checkpoint.
        newest: u64,
    },
}

impl Error {
    /// Adds to an error after the last step, such as that of [`publish`](crate::publish) on a full
    /// disk, which checkpoints there are: the newest one, to resume from, and the best one.
    #[must_use]
    pub fn after_training(self, newest: Option<&Path>, best: Option<&Path>) -> Self {
        Self::AfterTraining {
            source: Box::new(self),
            newest: newest.map(Path::to_owned),
            best: best.map(Path::to_owned),
        }
    }

    /// Turns the IO error of `action` on `path` into [`Error::File`]; for `map_err`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

/// `3 checkpoints of 1.3 GB`
fn checkpoints(count: u64, bytes: u64) -> String {
    format!("{count} {} of {}", if count == 1 { "checkpoint" } else { "checkpoints" }, in_units(bytes))
}

fn in_brackets(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" ({holder})"))
}

/// The end of a message: which checkpoints there are, and what to do with them.
fn to_resume_from(newest: Option<&PathBuf>, best: Option<&PathBuf>) -> String {
    let best = best.filter(|best| Some(*best) != newest);
    let best = best.map_or_else(String::new, |best| format!(", and the best one is {}", best.display()));
    match newest {
        None => format!("; training has ended, and there is no checkpoint to resume from{best}"),
        Some(newest) => format!(
            "; training has ended, and the newest good checkpoint is {}{best}; remove the cause, and resume to publish",
            newest.display()
        ),
    }
}
