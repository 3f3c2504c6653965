use super::*;
use crate::Publication;
use crate::publish::publish_on;
use crate::testing::faults::{Fault, FaultyDisk};
use crate::testing::{folder_in_memory, write_manifest};
use serde_json::json;
use std::fs;
use trainer_core::TrainerState;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn read(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()
}

#[test]
fn both_results_are_in_the_third_file() {
    let dir = tempfile::tempdir().unwrap();
    let train = map(json!({ "train_loss": 1.5, "epoch": 3.0 }));
    let evaluation = map(json!({ "eval_loss": 2.5, "epoch": 2.0, "step": 7 }));
    write_results(dir.path(), &train, Some(&evaluation)).unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join(TRAIN_RESULTS)).unwrap(),
        "{\n  \"train_loss\": 1.5,\n  \"epoch\": 3.0\n}\n"
    );
    assert_eq!(read(dir.path(), EVAL_RESULTS), json!({ "eval_loss": 2.5, "epoch": 2.0 }));
    assert_eq!(read(dir.path(), ALL_RESULTS), json!({ "train_loss": 1.5, "epoch": 3.0, "eval_loss": 2.5 }));

    write_results(dir.path(), &train, None).unwrap();
    assert!(!dir.path().join(EVAL_RESULTS).exists(), "an evaluation of an earlier run is removed");
    assert_eq!(read(dir.path(), ALL_RESULTS), Value::Object(train));
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let message = write_json(Path::new("/nowhere/at/all"), "state.json", &1).unwrap_err().to_string();
    assert!(message.starts_with("cannot create /nowhere/at/all/.state.json.partial: "), "{message}");
}

/// Writes over earlier results with a fault. Returns whether the operation that was to fail was
/// reached.
fn check(fault: Fault, at: usize, evaluates: bool) -> bool {
    let context = format!("{fault:?} at {at}");
    let dir = folder_in_memory();
    let results = |edition: &str| (map(json!({ "train_loss": edition })), map(json!({ "eval_loss": edition })));
    let (train, evaluation) = results("old");
    write_results(dir.path(), &train, Some(&evaluation)).unwrap();

    let (train, evaluation) = results("new");
    let evaluation = Some(&evaluation).filter(|_| evaluates);
    let disk = FaultyDisk::new(fault, at);
    let outcome = write_results_on(&*disk, dir.path(), &train, evaluation);
    let reached = disk.count() > at;
    for (name, key) in [(TRAIN_RESULTS, "train_loss"), (EVAL_RESULTS, "eval_loss"), (ALL_RESULTS, "train_loss")] {
        if name == EVAL_RESULTS && !dir.path().join(name).exists() {
            assert!(!evaluates, "{context}");
            continue;
        }
        let found = read(dir.path(), name)[key].clone();
        assert!(found == "new" || (outcome.is_err() && found == "old"), "{context}: {name} is {found}");
    }
    let num_files = fs::read_dir(dir.path()).unwrap().count();
    assert!(num_files <= 3 || fault == Fault::FromThenOn, "{context}: a partial file is left");

    write_results(dir.path(), &train, evaluation).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), if evaluates { 3 } else { 2 }, "{context}");
    reached
}

#[test]
fn whichever_operation_fails_each_file_is_the_old_or_the_new_one() {
    for evaluates in [true, false] {
        for fault in [Fault::Once, Fault::FromThenOn, Fault::DiskFull] {
            let num_operations = (0..).find(|at| !check(fault, *at, evaluates)).unwrap();
            assert!(num_operations >= 15, "{num_operations}");
        }
    }
}

/// Publishes the best model and writes the result files and the state, as a run does at its end.
fn end_of_run(disk: &dyn Disk, best: &Path, output_dir: &Path, edition: &str) -> Result<()> {
    publish_on(disk, best, output_dir, Publication::default())?;
    write_results_on(disk, output_dir, &map(json!({ "train_loss": edition })), Some(&map(json!({ "eval_loss": 1 }))))?;
    write_json_on(disk, output_dir, TrainerState::FILE_NAME, &json!({ "log_history": [edition] }))
}

#[test]
fn a_disk_that_is_full_at_the_end_leaves_only_files_that_can_be_read() {
    let best = tempfile::tempdir().unwrap();
    fs::write(best.path().join("config.json"), r#"{"vocab_size": 3}"#).unwrap();
    fs::write(best.path().join("model.safetensors"), "weights").unwrap();
    write_manifest(best.path(), 6);
    let mut num_failures = 0;
    for fault in [Fault::Once, Fault::DiskFull] {
        for at in 0.. {
            let dir = folder_in_memory();
            let disk = FaultyDisk::new(fault, at);
            let outcome = end_of_run(&*disk, best.path(), dir.path(), "new");
            if disk.count() <= at {
                break;
            }
            let names =
                fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            for name in names {
                assert!(!name.ends_with(".partial"), "{fault:?} at {at}: {name}");
                if name.ends_with(".json") {
                    read(dir.path(), &name);
                }
            }
            let Err(error) = outcome else { continue };
            num_failures += 1;
            let newest = dir.path().join("checkpoint-9");
            let message = error.after_training(Some(&newest), Some(best.path())).to_string();
            assert!(message.starts_with("cannot ") && message.contains("no storage space"), "{message}");
            let expected = format!(
                "; training has ended, and the newest good checkpoint is {}, and the best one is {}; remove the cause",
                newest.display(),
                best.path().display()
            );
            assert!(message.contains(&expected) && !message.contains('\n'), "{message}");
        }
    }
    assert!(num_failures > 40, "{num_failures}");
}
