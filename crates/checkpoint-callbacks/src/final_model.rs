//! Publishes a model that is in no checkpoint of the run.

use crate::disk::{Disk, RealDisk};
use crate::publish::publish_on;
use crate::{DirectoryStore, Error, OutputDirLock, Publication, Result, durable};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trainer_core::{CheckpointStore, WriteCheckpoint};

#[cfg(test)]
mod tests;

/// Where the final model is written before it is published. A folder that exists at the start of a
/// run was left by a run that was killed.
const FINAL_MODEL: &str = ".final-model";

/// Publishes what `write` writes as [`publish`](crate::publish) publishes a checkpoint, and returns
/// the paths in `output_dir`. For the model at the end of a run that keeps no best checkpoint.
///
/// The model is first written completely into a hidden folder in `output_dir`, so that an earlier
/// model in `output_dir` is not left half overwritten. This needs room for the model twice.
/// `global_step` is the step of the model.
///
/// # Errors
/// [`Error::FinalModel`] when `write` or the disk fails, and those of [`publish`](crate::publish).
/// The hidden folder is removed in any case, if the disk allows.
pub fn publish_final(
    output_dir: &Path,
    global_step: u64,
    write: WriteCheckpoint,
    publication: Publication<'_>,
) -> Result<Vec<PathBuf>> {
    publish_final_on(Arc::new(RealDisk), output_dir, global_step, write, publication)
}

fn publish_final_on(
    disk: Arc<dyn Disk>,
    output_dir: &Path,
    global_step: u64,
    write: WriteCheckpoint,
    publication: Publication<'_>,
) -> Result<Vec<PathBuf>> {
    let lock = OutputDirLock::take(&output_dir.join(FINAL_MODEL))?;
    let mut store = DirectoryStore::open_on(Arc::clone(&disk), lock)?.quiet();
    store.save(global_step, write);
    let saved = store.wait().map_or_else(|| Err("nothing was saved".into()), |saved| saved.outcome);
    let published = saved
        .map_err(|source| Error::FinalModel { source })
        .and_then(|model| publish_on(&*disk, &model, output_dir, publication));
    drop(store);
    let removed = durable::remove_folder(&*disk, &output_dir.join(FINAL_MODEL));
    // The first error is the one to report.
    let published = published?;
    removed?;
    Ok(published)
}

/// Removes what [`publish_final`] left in `output_dir` when the run was killed during it.
///
/// # Errors
/// [`Error::File`] when the disk fails.
pub fn remove_final_model(output_dir: &Path) -> Result<()> {
    durable::remove_folder(&RealDisk, &output_dir.join(FINAL_MODEL))
}
