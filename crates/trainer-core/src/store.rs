//! Where checkpoints go.

use std::path::{Path, PathBuf};

use crate::BoxError;

/// Fills a folder with a checkpoint's files.
pub type WriteCheckpoint<'a> = dyn FnMut(&Path) -> Result<(), BoxError> + 'a;

/// A place for checkpoints. `checkpoint-callbacks` has the one for production; [`crate::testing::PlainStore`] is minimal.
pub trait CheckpointStore {
    /// Calls `write` with a staging folder, then makes that folder the checkpoint of `global_step`, all or nothing, and
    /// returns its path. An earlier checkpoint of the same step is replaced.
    fn save(&mut self, global_step: u64, write: &mut WriteCheckpoint<'_>) -> Result<PathBuf, BoxError>;

    /// The path [`save`](Self::save) would return; it is written into `trainer_state.json` before the folder is there.
    fn path(&self, global_step: u64) -> PathBuf;
}
