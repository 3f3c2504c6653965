//! The trait of what keeps checkpoints.
//!
//! ```text
//! Learner::snapshot ─┐ owned, Send
//! state, position ───┴▶ WriteCheckpoint ─▶ CheckpointStore::save   training continues
//!                                            │ write, flush, rename (on another thread, if it likes)
//!                  on_save ◀── poll, wait ───┘ Saved
//! ```

use crate::BoxError;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes the files of a checkpoint. It owns everything that it needs. The store calls it once, on
/// any thread, and training may continue in the meantime.
pub type WriteCheckpoint = Box<dyn FnOnce(&mut dyn CheckpointFolder) -> Result<(), BoxError> + Send>;

/// Writes the content of one file.
pub type WriteContent<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(), BoxError>;

/// The folder of a checkpoint that is being written. Every file goes through it, so the store can
/// flush and hash each file.
pub trait CheckpointFolder {
    /// Writes the file `path`, which is relative to the folder. Folders in `path` are made.
    ///
    /// # Errors
    ///
    /// `content` fails, or the file cannot be written.
    fn write_file(&mut self, path: &Path, content: WriteContent<'_>) -> Result<(), BoxError>;
}

/// A place for checkpoints.
///
/// Saving has two parts, so that training can continue while a store writes. [`save`](Self::save)
/// starts a checkpoint. [`poll`](Self::poll) and [`wait`](Self::wait) return its outcome, once. The
/// loop polls between steps, and it always takes the outcome before it starts the next checkpoint,
/// so at most one is under way. A store that writes at once keeps the outcome for the next `poll`.
///
/// `testing::PlainStore` (feature `testing`) is a minimal store without any guarantees. A store for
/// real runs must make a checkpoint all or nothing, even when the process is killed or the disk is
/// full.
pub trait CheckpointStore {
    /// Starts the checkpoint of `global_step`, with the files that `write` writes. It replaces an
    /// earlier checkpoint of the same step. Errors are part of the outcome.
    fn save(&mut self, global_step: u64, write: WriteCheckpoint);

    /// Returns the outcome of the checkpoint under way, if there is one and it has finished. Does
    /// not wait.
    fn poll(&mut self) -> Option<Saved>;

    /// Waits for the checkpoint under way, if there is one, and returns its outcome.
    fn wait(&mut self) -> Option<Saved>;

    /// The path that the checkpoint of a step has when it is complete. The loop asks for it before
    /// the checkpoint exists: the state in a checkpoint names the best checkpoint, which can be
    /// that checkpoint itself.
    fn path(&self, global_step: u64) -> PathBuf;
}

/// The outcome of a checkpoint.
#[derive(Debug)]
pub struct Saved {
    /// The optimizer step that was saved.
    pub global_step: u64,
    /// The path of the checkpoint, which is complete and flushed to the disk, or why it failed.
    pub outcome: Result<PathBuf, BoxError>,
}
