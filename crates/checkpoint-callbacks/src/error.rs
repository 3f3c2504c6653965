//! The crate's error type; every variant is one line that names the path and says what to do.

use crate::MANIFEST_FILE_NAME;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a checkpoint or an output folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read, written, renamed or removed.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A manifest could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: serde_json::Error,
    },
    /// A checkpoint is not whole.
    #[error("the checkpoint {} is incomplete: {reason}; resume from another one", .path.display())]
    Incomplete {
        /// The checkpoint.
        path: PathBuf,
        /// What is missing or differs.
        reason: String,
    },
    /// A manifest names something that is no file of its checkpoint, or a file twice.
    #[error(
        "the checkpoint {} is not one of ours: its {MANIFEST_FILE_NAME} names {file:?}, {problem}; resume from another one",
        .path.display()
    )]
    ManifestName {
        /// The checkpoint.
        path: PathBuf,
        /// What is named.
        file: PathBuf,
        /// What is wrong with the name.
        problem: &'static str,
    },
    /// A checkpoint has something in it that is not a file of its own.
    #[error("the checkpoint {} cannot be trusted: {} is {source}; resume from another one", .path.display(), .file.display())]
    NoFileOfCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is in it.
        file: PathBuf,
        /// What it is.
        source: std::io::Error,
    },
    /// The output folder is a file.
    #[error("output_dir {} is a file: give a folder", .path.display())]
    OutputDirIsAFile {
        /// The file, or a file among its parents.
        path: PathBuf,
    },
    /// The output folder cannot be written to.
    #[error("output_dir {} cannot be written to: {source}; choose another folder or change its permissions", .path.display())]
    OutputDirNotWritable {
        /// The folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The output folder's file system has too little room.
    #[error(
        "output_dir {}: {needed} bytes are needed, for {num_checkpoints} checkpoints of {checkpoint_bytes} bytes beside one another and the model, and {free} bytes are free; make room, choose another folder, or lower save_total_limit or the number of saves",
        .path.display()
    )]
    OutputDirFull {
        /// The folder.
        path: PathBuf,
        /// Bytes that the run will write and not delete, at its fullest.
        needed: u64,
        /// Bytes that can be written.
        free: u64,
        /// Checkpoints beside one another.
        num_checkpoints: u64,
        /// Size of one.
        checkpoint_bytes: u64,
    },
    /// Another run holds the output folder's lock.
    #[error("output_dir {} is in use by another run: wait for its end, or choose another --output_dir", .path.display())]
    OutputDirLocked {
        /// The folder.
        path: PathBuf,
    },
    /// The output folder holds checkpoints of another run.
    #[error(
        "output_dir {} already holds checkpoint-{newest} of an earlier run: go on from it with --resume_from_checkpoint true, or choose another --output_dir",
        .path.display()
    )]
    OutputDirInUse {
        /// The folder.
        path: PathBuf,
        /// The newest checkpoint's step.
        newest: u64,
    },
}

impl Error {
    /// For `map_err` on an IO result.
    pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}
