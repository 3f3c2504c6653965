use super::*;
use crate::{find_checkpoints, verify};

/// All but the lock, which is there while the store is.
fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

fn save(store: &mut DirectoryStore, step: u64, content: &str) -> Result<PathBuf, BoxError> {
    store.save(step, &mut |dir| Ok(fs::write(dir.join("model"), content)?))
}

#[test]
fn a_saved_checkpoint_is_whole() {
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
fn the_final_name_appears_only_when_all_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    let final_path = store.path(7);
    let mut write = |staging: &Path| -> Result<(), BoxError> {
        fs::write(staging.join("model"), "half")?;
        assert!(!final_path.exists());
        assert_eq!(staging.parent(), final_path.parent(), "a rename must stay on one file system");
        Ok(())
    };
    store.save(7, &mut write).unwrap();
}

#[test]
fn a_failed_save_leaves_nothing_and_keeps_the_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    save(&mut store, 7, "good").unwrap();
    let mut fail = |staging: &Path| -> Result<(), BoxError> {
        fs::write(staging.join("model"), "half")?;
        Err("no space left".into())
    };
    for step in [7, 8] {
        assert_eq!(store.save(step, &mut fail).unwrap_err().to_string(), "no space left");
        assert_eq!(entries(dir.path()), ["checkpoint-7"]);
    }
    assert_eq!(fs::read_to_string(store.path(7).join("model")).unwrap(), "good");
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
fn opening_clears_up_after_any_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    for step in [1, 2, 3] {
        save(&mut store, step, "good").unwrap();
    }
    // Interrupted: while 4 was written; between the two renames that replace 2; after them, for 3; while 1 was deleted.
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
fn a_second_store_is_refused_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(dir.path()).unwrap();
    let mut while_writing = |staging: &Path| -> Result<(), BoxError> {
        fs::write(staging.join("model"), "half")?;
        assert!(matches!(DirectoryStore::open(dir.path()), Err(Error::OutputDirLocked { .. })));
        Ok(())
    };
    let path = store.save(7, &mut while_writing).unwrap();
    verify(&path).unwrap();
    drop(store);
    assert!(!dir.path().join(".lock").exists());
    DirectoryStore::open(dir.path()).unwrap();
}
