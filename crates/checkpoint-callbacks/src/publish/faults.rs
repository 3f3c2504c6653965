//! Publishes over an earlier model while every disk operation fails in turn. Whoever loads the
//! folder at any instant finds the complete weights of one model.

use super::*;
use crate::testing::faults::{Fault, FaultyDisk};
use crate::testing::{folder_in_memory, write_manifest};
use std::collections::BTreeMap;

const MODEL_FILES: &[&str] = &["tokenizer.json", "vocab.txt"];
const FAULTS: [Fault; 3] = [Fault::Once, Fault::FromThenOn, Fault::DiskFull];

/// The files of a model with `num_shards` weight files. Each contains the edition of the model.
fn model(edition: &str, num_shards: usize) -> BTreeMap<String, String> {
    let mut files = BTreeMap::from([("config.json".to_owned(), edition.to_owned())]);
    if num_shards == 1 {
        files.insert(SINGLE_FILE.to_owned(), edition.to_owned());
    } else {
        let names: Vec<String> =
            (1..=num_shards).map(|shard| format!("model-{shard:05}-of-{num_shards:05}.safetensors")).collect();
        let weight_map = names.iter().map(|name| (format!("weight in {name}"), Value::from(name.as_str()))).collect();
        files.insert(INDEX.to_owned(), serde_json::json!({"weight_map": Value::Object(weight_map)}).to_string());
        files.extend(names.into_iter().map(|name| (name, edition.to_owned())));
    }
    files
}

fn write(dir: &Path, files: &BTreeMap<String, String>) {
    for (name, content) in files {
        fs::write(dir.join(name), content).unwrap();
    }
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The edition of the weights that `from_pretrained` would load: those in the single file if there
/// is one, otherwise those that the index names.
fn loaded(dir: &Path) -> String {
    read(dir.join("config.json"));
    if dir.join(SINGLE_FILE).exists() {
        return read(dir.join(SINGLE_FILE));
    }
    let index: Value = serde_json::from_str(&read(dir.join(INDEX))).unwrap();
    let shards = index["weight_map"].as_object().unwrap().values();
    let mut editions: Vec<String> = shards.map(|shard| read(dir.join(shard.as_str().unwrap()))).collect();
    editions.dedup();
    assert_eq!(editions.len(), 1, "weights of two models");
    editions.remove(0)
}

fn names(dir: &Path) -> Vec<String> {
    durable::files_under(dir).unwrap().iter().map(|path| path.to_str().unwrap().to_owned()).collect()
}

/// Publishes with a fault. Returns whether the operation that was to fail was reached.
fn check(num_earlier: usize, num_new: usize, fault: Fault, at: usize) -> bool {
    let context = format!("{num_earlier} to {num_new} files, {fault:?} at {at}");
    let (checkpoint, output) = (folder_in_memory(), folder_in_memory());
    let mut new = model("new", num_new);
    new.insert("tokenizer.json".to_owned(), "new".to_owned());
    write(checkpoint.path(), &new);
    write_manifest(checkpoint.path(), 1);
    write(output.path(), &model("earlier", num_earlier));
    for (name, content) in [("tokenizer.json", "earlier"), ("vocab.txt", "earlier"), ("notes.txt", "kept")] {
        fs::write(output.path().join(name), content).unwrap();
    }

    let publication = Publication { not_published: &[], model_files: MODEL_FILES };
    let disk = FaultyDisk::new(fault, at);
    let outcome = publish_on(&*disk, checkpoint.path(), output.path(), publication);
    let reached = disk.count() > at;
    assert!(outcome.is_err() || !reached || fault == Fault::DiskFull, "{context}: the fault is not reported");
    let edition = loaded(output.path());
    assert!(edition == "new" || (outcome.is_err() && edition == "earlier"), "{context}: {edition}");
    for name in ["config.json", "tokenizer.json"] {
        assert!(["new", "earlier"].contains(&read(output.path().join(name)).as_str()), "{context}: {name}");
    }
    if fault == Fault::DiskFull {
        // Renames still succeed on a full disk, so either all files are new or none.
        for name in ["config.json", "tokenizer.json"] {
            assert_eq!(read(output.path().join(name)), edition, "{context}: {name}");
        }
        assert!(!names(output.path()).iter().any(|name| name.ends_with(".partial")), "{context}");
    }

    // Publishing again gives the same as publishing without a fault.
    publish(checkpoint.path(), output.path(), publication).unwrap();
    assert_eq!(loaded(output.path()), "new", "{context}");
    let left = names(output.path());
    assert_eq!(left.len(), new.len() + 1, "{context}: {left:?}");
    assert!(!output.path().join("vocab.txt").exists(), "{context}");
    assert_eq!(read(output.path().join("notes.txt")), "kept");
    reached
}

#[test]
fn at_every_instant_the_weights_are_those_of_one_model() {
    for (num_earlier, num_new) in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)] {
        for fault in FAULTS {
            let num_operations = (0..).find(|at| !check(num_earlier, num_new, fault, *at)).unwrap();
            assert!(num_operations >= 15, "{num_operations}");
        }
    }
}

#[test]
fn shards_get_other_names_while_theirs_are_in_use() {
    let (checkpoint, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut layouts = Vec::new();
    for edition in ["first", "second", "third"] {
        write(checkpoint.path(), &model(edition, 2));
        write_manifest(checkpoint.path(), 1);
        publish(checkpoint.path(), output.path(), Publication::default()).unwrap();
        assert_eq!(loaded(output.path()), edition);
        layouts.push(names(output.path()));
    }
    let standard_names = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX];
    assert_eq!(layouts[0], standard_names);
    assert_eq!(layouts[2], standard_names);
    assert_eq!(layouts[1][1..3], ["model-00001-of-00002-2.safetensors", "model-00002-of-00002-2.safetensors"]);
}
