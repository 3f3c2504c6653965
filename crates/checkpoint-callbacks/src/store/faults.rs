//! Makes every disk operation fail in turn. What is left is the old state or the new one, and a run
//! can resume from it.

use super::*;
use crate::publish::publish_on;
use crate::testing::faults::{Fault, FaultyDisk, healthy};
use crate::testing::{files, folder_in_memory};
use crate::{Publication, Rotation, find_checkpoints, newest_complete, verify};
use std::fs;
use std::path::Path;
use trainer_core::{Callback, CallbackContext, Requests, TrainerState, TrainingArguments};

/// A checkpoint in which each file contains its step and edition.
fn checkpoint_of(step: u64, edition: &str) -> WriteCheckpoint {
    let text = content(step, edition);
    let names = ["config.json", "tokenizer.json", "model.safetensors", "optimizer.safetensors", "templates/chat.jinja"];
    files(&names.map(|name| (name, text.as_str())))
}

fn content(step: u64, edition: &str) -> String {
    format!("{edition} {step} of some length")
}

/// Rotates after a save. The best checkpoint is that of step 2.
fn rotate(rotation: &mut Rotation, output_dir: &Path, checkpoint: &Path) {
    let state = TrainerState {
        best_model_checkpoint: Some(checkpoint_path(output_dir, 2)),
        global_step: 100, // the run has already gone further
        ..Default::default()
    };
    let context =
        CallbackContext { arguments: &TrainingArguments::documented_recipe(), state: &state, resumed_from: None };
    rotation.on_save(&context, checkpoint, &mut Requests::default()).unwrap();
    rotation.on_train_end(&context, &mut Requests::default()).unwrap();
}

fn save_on(store: &mut DirectoryStore, step: u64, edition: &str) -> Result<PathBuf, BoxError> {
    store.save(step, checkpoint_of(step, edition));
    store.wait().unwrap().outcome
}

/// A folder with the best checkpoint, 2, the newest one, 4, and an earlier model.
fn prepared() -> tempfile::TempDir {
    let dir = folder_in_memory();
    let mut store = DirectoryStore::open_on(healthy(), OutputDirLock::take(dir.path()).unwrap()).unwrap();
    for step in [2, 4] {
        save_on(&mut store, step, "first").unwrap();
    }
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::write(dir.path().join(name), content(0, "earlier")).unwrap();
    }
    dir
}

/// What a run does with its folder: saves 6, rotates, saves 6 again, rotates, and publishes the
/// best. Returns which saves succeeded and whether the model was published.
fn work(output_dir: &Path, disk: &Arc<FaultyDisk>) -> (Vec<bool>, bool) {
    let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
    let mut store = DirectoryStore::open_on(Arc::clone(&disk), OutputDirLock::take(output_dir).unwrap()).unwrap();
    let mut rotation = Rotation::on(Arc::clone(&disk), 1);
    let saves = ["first", "second"].map(|edition| {
        let saved = save_on(&mut store, 6, edition);
        if let Ok(path) = &saved {
            verify(path).unwrap();
            rotate(&mut rotation, output_dir, path);
        }
        saved.is_ok()
    });
    let published = publish_on(&*disk, &store.path(2), output_dir, Publication::default()).is_ok();
    (saves.to_vec(), published)
}

/// Asserts that all files of `folder` have the same content, and that it is one of `allowed`.
/// Returns the content.
fn ensure_one_edition(folder: &Path, names: &[&str], allowed: &[String], context: &str) -> String {
    let texts: Vec<String> = names.iter().map(|name| fs::read_to_string(folder.join(name)).unwrap()).collect();
    assert!(allowed.contains(&texts[0]), "{context}: {texts:?}");
    assert!(texts.iter().all(|text| *text == texts[0]), "{context}: {texts:?} in {}", folder.display());
    texts[0].clone()
}

fn check(fault: Fault, at: usize) -> bool {
    let context = format!("{fault:?} at {at}");
    let dir = prepared();
    let disk = FaultyDisk::new(fault, at);
    let (saves, published) = work(dir.path(), &disk);
    let names = ["config.json", "tokenizer.json", "model.safetensors", "optimizer.safetensors"];

    // After the fault, every folder with a checkpoint's name is complete, and old or new.
    let newest_before = find_checkpoints(dir.path()).unwrap();
    for found in &newest_before {
        verify(&found.path).unwrap_or_else(|error| panic!("{context}: {error}"));
        let allowed = ["first", "second"].map(|edition| content(found.global_step, edition));
        ensure_one_edition(&found.path, &names, &allowed, &context);
    }
    // Each published file is complete and of the earlier model or of the new one. If publishing
    // succeeded, all are of the new one. If the disk was full, all are of the earlier one.
    let (earlier, new) = (content(0, "earlier"), content(2, "first"));
    for name in &names[..3] {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text == new || (!published && text == earlier), "{context}: {name} is {text}");
    }
    if fault == Fault::DiskFull && !published && fs::read_to_string(dir.path().join(names[2])).unwrap() == earlier {
        ensure_one_edition(dir.path(), &names[..3], std::slice::from_ref(&earlier), &context);
    }

    // The next run finds the best and a newest checkpoint, and can save, rotate and publish.
    let newest = newest_complete(dir.path()).unwrap();
    assert!(newest.skipped.is_empty(), "{context}: {:?}", newest.skipped);
    let newest = newest.checkpoint.unwrap();
    let expected: &[u64] = if saves.contains(&true) { &[6] } else { &[4, 6] };
    assert!(expected.contains(&newest.global_step), "{context}: {newest:?} after {saves:?}");
    if saves[1] {
        ensure_one_edition(&newest.path, &names, &[content(6, "second")], &context);
    }
    verify(&checkpoint_path(dir.path(), 2)).unwrap();

    assert_eq!(work(dir.path(), &healthy()), (vec![true, true], true), "{context}");
    let mut left: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".lock")
        .collect();
    left.sort();
    let expected = ["checkpoint-2", "checkpoint-6", "config.json", "model.safetensors", "templates", "tokenizer.json"];
    assert_eq!(left, expected, "{context}");
    disk.count() > at
}

fn check_all(fault: Fault) {
    let mut num_faults = 0;
    while check(fault, num_faults) {
        num_faults += 1;
    }
    assert!(num_faults > 80, "{fault:?}: only {num_faults} operations");
}

#[test]
fn when_one_operation_fails_the_old_or_the_new_state_is_complete() {
    check_all(Fault::Once);
}

#[test]
fn when_the_machine_dies_the_old_or_the_new_state_is_complete() {
    check_all(Fault::FromThenOn);
}

#[test]
fn when_the_disk_is_full_the_old_or_the_new_state_is_complete() {
    check_all(Fault::DiskFull);
}

#[test]
fn a_full_disk_is_named_with_the_file() {
    let dir = prepared();
    let disk = FaultyDisk::new(Fault::DiskFull, 0);
    let lock = OutputDirLock::take(dir.path()).unwrap();
    let mut store = DirectoryStore::open_on(disk, lock).unwrap();
    let message = save_on(&mut store, 6, "first").unwrap_err().to_string();
    assert!(message.contains(".checkpoint-6.partial: no storage space"), "{message}");
}
