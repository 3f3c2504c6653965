use super::*;
use crate::testing::{files, save, with_events};
use crate::{find_checkpoints, verify};
use std::fs;

/// All entries except the lock file, which exists while the store does.
fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

fn outcome(store: &mut DirectoryStore, step: u64, write: WriteCheckpoint) -> Result<PathBuf, BoxError> {
    store.save(step, write);
    store.wait().unwrap().outcome
}

#[test]
fn a_saved_checkpoint_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = dir.path().join("a/b");
    let mut store = DirectoryStore::open(&output_dir).unwrap();
    let path = save(&mut store, 7, "weights").unwrap();
    assert_eq!(path, store.path(7));
    assert_eq!(entries(&output_dir), ["checkpoint-7"]);
    assert_eq!(entries(&path), ["manifest.json", "model"]);
    verify(&path).unwrap();
}

#[test]
fn training_continues_during_a_save_and_the_name_appears_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    assert!(store.poll().is_none() && store.wait().is_none());
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let write: WriteCheckpoint = Box::new(move |folder| {
        folder.write_file(Path::new("model"), &mut |to| Ok(to.write_all(b"half")?))?;
        may_go_on.recv()?;
        folder.write_file(Path::new("other"), &mut |to| Ok(to.write_all(b"half")?))
    });
    store.save(7, write);
    assert!(store.poll().is_none());
    assert!(!store.path(7).exists());
    go_on.send(()).unwrap();
    let saved = store.wait().unwrap();
    assert_eq!((saved.global_step, saved.outcome.unwrap()), (7, store.path(7)));
    verify(&store.path(7)).unwrap();
    assert!(store.poll().is_none(), "an outcome is returned once");
}

#[test]
fn a_dropped_store_has_finished_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    let write: WriteCheckpoint = Box::new(|folder| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        files(&[("model", "weights")])(folder)
    });
    store.save(7, write);
    let path = store.path(7);
    drop(store);
    verify(&path).unwrap();
    assert_eq!(entries(dir.path()), ["checkpoint-7"]);
}

#[test]
fn a_failed_save_leaves_nothing_and_keeps_the_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    save(&mut store, 7, "good").unwrap();
    for step in [7, 8] {
        let fail: WriteCheckpoint = Box::new(|folder| {
            folder.write_file(Path::new("model"), &mut |to| Ok(to.write_all(b"half")?))?;
            Err("no space left".into())
        });
        assert_eq!(outcome(&mut store, step, fail).unwrap_err().to_string(), "no space left");
        assert_eq!(entries(dir.path()), ["checkpoint-7"]);
    }
    assert_eq!(fs::read_to_string(store.path(7).join("model")).unwrap(), "good");
}

#[test]
fn files_go_into_folders_of_the_checkpoint_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    let path = outcome(&mut store, 7, files(&[("sub/deeper/file", "text"), ("model", "weights")])).unwrap();
    assert_eq!(fs::read_to_string(path.join("sub/deeper/file")).unwrap(), "text");
    verify(&path).unwrap();
    for outside in ["../model", "/tmp/model", "sub/../../model", "."] {
        let message = outcome(&mut store, 8, files(&[(outside, "text")])).unwrap_err().to_string();
        assert_eq!(message, format!("{outside} is not a path inside a checkpoint"));
    }
    let message = outcome(&mut store, 8, files(&[("model", "one"), ("model", "two")])).unwrap_err().to_string();
    assert_eq!(message, "model was already written");
}

#[test]
fn a_second_save_of_a_step_replaces_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    save(&mut store, 7, "first").unwrap();
    let path = save(&mut store, 7, "second").unwrap();
    assert_eq!(fs::read_to_string(path.join("model")).unwrap(), "second");
    assert_eq!(entries(dir.path()), ["checkpoint-7"]);
    verify(&path).unwrap();
}

#[test]
fn opening_cleans_up_after_any_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    for step in [1, 2, 3] {
        save(&mut store, step, "good").unwrap();
    }
    // Interrupted while 4 was written; between the two renames that replace 2; after the two that
    // replace 3; while 1 was deleted.
    fs::create_dir(dir.path().join(".checkpoint-4.partial")).unwrap();
    fs::rename(store.path(2), dir.path().join(".checkpoint-2.replaced")).unwrap();
    fs::create_dir(dir.path().join(".checkpoint-3.replaced")).unwrap();
    fs::rename(store.path(1), dir.path().join(".checkpoint-1.deleted")).unwrap();
    fs::create_dir(dir.path().join(".someone-elses")).unwrap();
    drop(store);

    DirectoryStore::open(dir.path()).unwrap();
    assert_eq!(entries(dir.path()), [".someone-elses", "checkpoint-2", "checkpoint-3"]);
    for checkpoint in find_checkpoints(dir.path()).unwrap() {
        verify(&checkpoint.path).unwrap();
    }
}

#[test]
fn a_second_store_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    let output_dir = dir.path().to_owned();
    let while_writing: WriteCheckpoint = Box::new(move |folder| {
        folder.write_file(Path::new("model"), &mut |to| Ok(to.write_all(b"half")?))?;
        assert!(matches!(DirectoryStore::open(&output_dir), Err(Error::OutputDirLocked { .. })));
        Ok(())
    });
    verify(&outcome(&mut store, 7, while_writing).unwrap()).unwrap();
    drop(store);
    assert!(!dir.path().join(".lock").exists());
    DirectoryStore::open(dir.path()).unwrap();
}

#[test]
fn a_save_is_told_when_it_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    let (saved, told) = with_events(|| save(&mut store, 7, &"x".repeat(2_500_000)));
    saved.unwrap();
    let [line] = &told[..] else { panic!("{told:?}") };
    assert!(line.starts_with("INFO: saved checkpoint-7 (2.5 MB in ") && line.ends_with(" s)"), "{line}");
    let (failed, told) = with_events(|| {
        store.save(8, Box::new(|_| Err("no memory".into())));
        store.wait().unwrap().outcome
    });
    assert!(failed.is_err() && told.is_empty(), "{told:?}");
}
