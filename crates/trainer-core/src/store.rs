//! Where checkpoints go.
//!
//! ```text
//! Learner::snapshot ─┐ owned, Send
//! state, position ───┴▶ WriteCheckpoint ─▶ CheckpointStore::save   training goes on
//!                                            │ write, flush, rename (on a thread of the store's, if it likes)
//!                  on_save ◀── poll, wait ───┘ Saved
//! ```

use crate::BoxError;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes the files of a checkpoint. It owns all it needs and is called once, maybe on another
/// thread and maybe long after training has gone on.
pub type WriteCheckpoint = Box<dyn FnOnce(&mut dyn CheckpointFolder) -> Result<(), BoxError> + Send>;

/// Writes the content of one file.
pub type WriteContent<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(), BoxError>;

/// The folder of a checkpoint that is being written. Every file goes through here, so that a store
/// can flush and hash it on its way.
pub trait CheckpointFolder {
    /// Writes the file `path`, relative to the folder; folders in it are made.
    fn write_file(&mut self, path: &Path, content: WriteContent<'_>) -> Result<(), BoxError>;
}

/// A place for checkpoints. `checkpoint-callbacks` has the one for production;
/// [`crate::testing::PlainStore`] is minimal.
///
/// At most one checkpoint is on its way: after [`save`](Self::save) the loop takes its outcome, by
/// [`poll`](Self::poll) between steps or by [`wait`](Self::wait), before it saves the next.
pub trait CheckpointStore {
    /// Begins to make what `write` writes the checkpoint of `global_step`, all or nothing. An
    /// earlier checkpoint of the same step is replaced. Returns when the store has taken over; what
    /// goes wrong is the outcome's.
    fn save(&mut self, global_step: u64, write: WriteCheckpoint);

    /// The outcome of the checkpoint on its way, if there is one and it is over. Told once.
    fn poll(&mut self) -> Option<Saved>;

    /// The outcome of the checkpoint on its way, if there is one, as soon as it is over. Told once.
    fn wait(&mut self) -> Option<Saved>;

    /// Where the checkpoint of a step is once it is saved; it is written into `trainer_state.json`
    /// before the folder is there.
    fn path(&self, global_step: u64) -> PathBuf;
}

/// What came of a checkpoint.
#[derive(Debug)]
pub struct Saved {
    /// The optimizer step it is of.
    pub global_step: u64,
    /// Where it is, whole and flushed to the disk, or why it is not.
    pub outcome: Result<PathBuf, BoxError>,
}
