//! What the tests of this crate share.

use crate::disk::RealDisk;
use crate::manifest::{FileEntry, Manifest};
use crate::{DirectoryStore, durable};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use trainer_core::{BoxError, CheckpointStore, WriteCheckpoint};

pub(crate) mod faults;

/// A checkpoint with these files, given as name and text.
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

/// Turns a folder with files into a checkpoint.
pub(crate) fn write_manifest(dir: &Path, global_step: u64) {
    let entry = |path: PathBuf| {
        let (size, sha256) = durable::digest(dir, &path).unwrap();
        FileEntry { path, size, sha256 }
    };
    let files = durable::files_under(dir).unwrap().into_iter().map(entry).collect();
    Manifest { global_step, files }.write(&RealDisk, dir).unwrap();
}

/// A checkpoint of step 12 with the files `model.safetensors`, of 3 MiB, and `sub/empty`.
pub(crate) fn checkpoint() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), vec![7; 3 << 20]).unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/empty"), "").unwrap();
    write_manifest(dir.path(), 12);
    dir
}

/// A temporary folder, in memory where the system has such a place: some tests make hundreds of
/// folders.
pub(crate) fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Runs `work` and returns its result and the messages of all events of this thread meanwhile, each
/// with its level in front.
pub(crate) fn with_events<R>(work: impl FnOnce() -> R) -> (R, Vec<String>) {
    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone());
    let result = tracing::subscriber::with_default(subscriber, work);
    let messages = std::mem::take(&mut *events.0.lock().unwrap());
    (result, messages)
}

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(format!("{}: {}", event.metadata().level(), message.0));
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
