//! What the tests of this crate share.

use std::path::{Path, PathBuf};

pub(crate) mod faults;

use crate::disk::RealDisk;
use crate::manifest::{FileEntry, Manifest};
use crate::{DirectoryStore, durable};
use trainer_core::{BoxError, CheckpointStore, WriteCheckpoint};

/// A checkpoint of these files.
pub(crate) fn files(files: &[(&str, &str)]) -> WriteCheckpoint {
    let files: Vec<(PathBuf, String)> = files.iter().map(|(path, text)| (path.into(), (*text).to_owned())).collect();
    Box::new(move |folder| {
        files.iter().try_for_each(|(path, text)| folder.write_file(path, &mut |to| Ok(to.write_all(text.as_bytes())?)))
    })
}

/// Saves a checkpoint of one file, `model`, and waits for it.
pub(crate) fn save(store: &mut DirectoryStore, step: u64, model: &str) -> Result<PathBuf, BoxError> {
    store.save(step, files(&[("model", model)]));
    store.wait().ok_or("nothing was saved")?.outcome
}

/// Makes a checkpoint of a folder with files.
pub(crate) fn write_manifest(dir: &Path, global_step: u64) {
    let entry = |path: PathBuf| {
        let (size, sha256) = durable::digest(dir, &path).unwrap();
        FileEntry { path, size, sha256 }
    };
    let files = durable::files_under(dir).unwrap().into_iter().map(entry).collect();
    Manifest { global_step, files }.write(&RealDisk, dir).unwrap();
}
