use super::*;
use crate::testing::faults::{Fault, FaultyDisk};
use crate::testing::{files, folder_in_memory, with_events};
use std::fs;

const NAMES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

fn model(edition: &str) -> WriteCheckpoint {
    files(&NAMES.map(|name| (name, edition)))
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn a_model_without_a_checkpoint_is_published_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, told) = with_events(|| publish_final(dir.path(), 7, model("new"), Publication::default()).unwrap());
    assert_eq!((paths.len(), told), (NAMES.len(), Vec::new()), "it is no checkpoint, and is not told as one");
    for name in NAMES {
        assert_eq!(read(dir.path(), name), "new");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), NAMES.len());
}

#[test]
fn a_model_that_cannot_be_written_leaves_the_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "earlier").unwrap();
    let fails: WriteCheckpoint = Box::new(|_| Err("no memory".into()));
    let message = publish_final(dir.path(), 7, fails, Publication::default()).unwrap_err().to_string();
    assert_eq!(message, "cannot write the final model: no memory");
    assert_eq!(read(dir.path(), "config.json"), "earlier");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_folder_of_a_killed_run_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    remove_final_model(dir.path()).unwrap();
    fs::create_dir_all(dir.path().join(".final-model/checkpoint-7")).unwrap();
    fs::write(dir.path().join(".final-model/checkpoint-7/model.safetensors"), "half").unwrap();
    remove_final_model(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Publishes over an earlier model with a fault. Returns whether the operation that was to fail was
/// reached.
fn check(fault: Fault, at: usize) -> bool {
    let context = format!("{fault:?} at {at}");
    let dir = folder_in_memory();
    publish_final(dir.path(), 1, model("earlier"), Publication::default()).unwrap();
    let faulty = FaultyDisk::new(fault, at);
    let disk = Arc::<FaultyDisk>::clone(&faulty);
    let outcome = publish_final_on(disk, dir.path(), 2, model("new"), Publication::default());
    for name in NAMES {
        let found = read(dir.path(), name);
        assert!(found == "new" || (outcome.is_err() && found == "earlier"), "{context}: {name} is {found}");
    }
    if fault == Fault::DiskFull {
        assert!(!dir.path().join(FINAL_MODEL).exists(), "{context}");
    }
    publish_final(dir.path(), 2, model("new"), Publication::default()).unwrap();
    assert_eq!(read(dir.path(), "model.safetensors"), "new", "{context}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), NAMES.len(), "{context}");
    faulty.count() > at
}

#[test]
fn whichever_operation_fails_each_file_is_of_the_earlier_or_the_new_model() {
    for fault in [Fault::Once, Fault::FromThenOn, Fault::DiskFull] {
        let num_operations = (0..).find(|at| !check(fault, *at)).unwrap();
        assert!(num_operations >= 30, "{fault:?}: only {num_operations} operations");
    }
}
