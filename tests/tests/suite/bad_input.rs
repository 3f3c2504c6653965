//! What cannot work is refused before training: one line that names what is wrong, exit code 2, and nothing written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use whole_program_tests::{Case, Dataset, Results, Training, file_names, goldens, sentences};

/// One way to go wrong.
struct Refused {
    what: &'static str,
    /// Lays out the input and gives the run.
    prepare: fn(&Case) -> Result<Training>,
    /// What the message has to name.
    names: &'static [&'static str],
}

/// Runs every case, and reports all that are not refused as they should be.
fn check(cases: &[Refused]) -> Result<()> {
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| check_one(case).err().map(|error| format!("{}: {error:#}", case.what)))
        .collect();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    Ok(())
}

fn check_one(refused: &Refused) -> Result<()> {
    let case = Case::new()?;
    let training = (refused.prepare)(&case)?;
    let before = case.snapshot()?;
    let finished = training.run()?;
    let message = finished.failed_with(2)?;
    for name in refused.names {
        anyhow::ensure!(message.contains(name), "`{name}` is not in: {message}");
    }
    let after = case.snapshot()?;
    let changed: Vec<&PathBuf> = after.keys().filter(|path| after.get(*path) != before.get(*path)).collect();
    anyhow::ensure!(after == before, "written or removed: {changed:?}");
    Ok(())
}

/// With a model of the goldens, damaged.
fn with_model(case: &Case, damage: impl FnOnce(&Path) -> Result<()>) -> Result<Training> {
    let model = case.copy_model("qwen2")?;
    damage(&model)?;
    Ok(case.training(&model, &goldens::words()))
}

fn with_config(case: &Case, key: &str, value: Value) -> Result<Training> {
    with_model(case, |model| {
        Case::edit_json(&model.join("config.json"), |config| {
            config.insert(key.to_owned(), value);
        })
    })
}

/// With a dataset folder holding these files.
fn with_files(case: &Case, files: &[(&str, &[u8])]) -> Result<Training> {
    let mut data = Dataset::new(case.path("data"))?;
    for (name, content) in files {
        data = data.with_file(name, content)?;
    }
    Ok(case.training(&goldens::model("qwen2"), data.path()))
}

const GOOD_ROWS: &[u8] = b"{\"text\": \"w3 w4 w5\"}\n{\"text\": \"w6 w7\"}\n";

fn sound(case: &Case) -> Training {
    case.training(&goldens::model("qwen2"), &goldens::words())
}

#[test]
fn models() -> Result<()> {
    check(&[
        Refused {
            what: "no such folder",
            prepare: |case| Ok(case.training(&case.path("no/such/model"), &goldens::words())),
            names: &["no/such/model", "no such folder"],
        },
        Refused {
            what: "a hub id without the hub",
            prepare: |case| Ok(case.training(Path::new("someone/some-model"), &goldens::words())),
            names: &["someone/some-model", "HF_HUB_OFFLINE"],
        },
        Refused {
            what: "a file",
            prepare: |case| Ok(case.training(&goldens::model("qwen2").join("config.json"), &goldens::words())),
            names: &["config.json", "folder"],
        },
        Refused {
            what: "no config.json",
            prepare: |case| with_model(case, |model| Ok(std::fs::remove_file(model.join("config.json"))?)),
            names: &["config.json", "No such file"],
        },
        Refused {
            what: "config.json cut off",
            prepare: |case| {
                with_model(case, |model| Ok(std::fs::write(model.join("config.json"), "{\"model_type\":")?))
            },
            names: &["config.json", "not valid JSON"],
        },
        Refused {
            what: "unknown architecture",
            prepare: |case| with_config(case, "model_type", json!("mamba")),
            names: &["config.json", "mamba", "qwen2", "llama"],
        },
        Refused {
            what: "heads that do not fit",
            prepare: |case| with_config(case, "num_key_value_heads", json!(3)),
            names: &["config.json", "num_key_value_heads", "3"],
        },
        Refused {
            what: "a config.json that calls for other shapes",
            prepare: |case| with_config(case, "intermediate_size", json!(96)),
            names: &["model.safetensors", "mlp", "[80, 32]", "[96, 32]"],
        },
        Refused {
            what: "a config.json that calls for more layers",
            prepare: |case| with_config(case, "num_hidden_layers", json!(3)),
            names: &["missing", "model.layers.2."],
        },
        Refused {
            what: "no weights",
            prepare: |case| with_model(case, |model| Ok(std::fs::remove_file(model.join("model.safetensors"))?)),
            names: &["model.safetensors"],
        },
        Refused {
            what: "weights cut off",
            prepare: |case| {
                with_model(case, |model| {
                    let path = model.join("model.safetensors");
                    let bytes = std::fs::read(&path)?;
                    Ok(std::fs::write(path, &bytes[..bytes.len() - 100])?)
                })
            },
            names: &["model.safetensors", "not a complete safetensors file"],
        },
        Refused {
            what: "an empty file for weights",
            prepare: |case| with_model(case, |model| Ok(std::fs::write(model.join("model.safetensors"), "")?)),
            names: &["model.safetensors", "not a complete safetensors file"],
        },
        Refused {
            what: "a shard that is not there",
            prepare: |case| {
                with_model(case, |model| {
                    std::fs::remove_file(model.join("model.safetensors"))?;
                    let index = json!({ "weight_map": { "model.norm.weight": "model-00001-of-00001.safetensors" } });
                    Ok(std::fs::write(model.join("model.safetensors.index.json"), index.to_string())?)
                })
            },
            names: &["model-00001-of-00001.safetensors"],
        },
    ])
}

#[test]
fn tokenizers() -> Result<()> {
    check(&[
        Refused {
            what: "no tokenizer",
            prepare: |case| {
                with_model(case, |model| {
                    std::fs::remove_file(model.join("tokenizer.json"))?;
                    Ok(std::fs::remove_file(model.join("tokenizer_config.json"))?)
                })
            },
            names: &["model", "tokenizer.json"],
        },
        Refused {
            what: "a damaged tokenizer",
            prepare: |case| with_model(case, |model| Ok(std::fs::write(model.join("tokenizer.json"), "{}")?)),
            names: &["tokenizer.json"],
        },
        Refused {
            what: "the tokenizer of a larger model",
            prepare: |case| with_config(case, "vocab_size", json!(40)),
            names: &["token id 63", "vocab_size is 40"],
        },
        Refused {
            what: "a conversation without a chat template",
            prepare: |case| {
                let row =
                    br#"{"messages": [{"role": "user", "content": "w3"}, {"role": "assistant", "content": "w4"}]}"#;
                with_files(case, &[("train.jsonl", row), ("test.jsonl", row)])
            },
            names: &["chat template"],
        },
    ])
}

#[test]
fn datasets() -> Result<()> {
    check(&[
        Refused {
            what: "no such folder",
            prepare: |case| Ok(case.training(&goldens::model("qwen2"), &case.path("no/such/data"))),
            names: &["no/such/data", "not found"],
        },
        Refused {
            what: "a hub id without the hub",
            prepare: |case| Ok(case.training(&goldens::model("qwen2"), Path::new("someone/some-data"))),
            names: &["someone/some-data", "HF_HUB_OFFLINE"],
        },
        Refused {
            what: "the recipe's own dataset without the hub",
            prepare: |case| {
                let bare = Training::bare().flag("model_name", goldens::model("qwen2").display());
                Ok(bare.flag("output_dir", case.output_dir().display()))
            },
            names: &["yimeng521/sunny_datasets", "HF_HUB_OFFLINE"],
        },
        Refused {
            what: "an empty folder",
            prepare: |case| with_files(case, &[]),
            names: &["data", "no data files", ".jsonl"],
        },
        Refused {
            what: "an empty file",
            prepare: |case| with_files(case, &[("train.jsonl", b""), ("test.jsonl", GOOD_ROWS)]),
            names: &["train", "empty"],
        },
        Refused {
            what: "an empty file to evaluate on",
            prepare: |case| with_files(case, &[("train.jsonl", GOOD_ROWS), ("test.jsonl", b"\n\n")]),
            names: &["test", "empty"],
        },
        Refused {
            what: "no text column",
            prepare: |case| {
                let row = b"{\"question\": \"w3\", \"reply\": \"w4\"}\n";
                with_files(case, &[("train.jsonl", row), ("test.jsonl", row)])
            },
            names: &["`text`", "question, reply", "--dataset_text_field"],
        },
        Refused {
            what: "no column of the name given",
            prepare: |case| Ok(sound(case).flags("--dataset_text_field body")),
            names: &["`body`", "columns are text"],
        },
        Refused {
            what: "bad JSON on line 3",
            prepare: |case| {
                let rows = b"{\"text\": \"w3 w4\"}\n{\"text\": \"w5 w6\"}\n{\"text\": \"w7\n{\"text\": \"w8 w9\"}\n";
                with_files(case, &[("train.jsonl", rows), ("test.jsonl", GOOD_ROWS)])
            },
            names: &["train.jsonl", "line 3"],
        },
        Refused {
            what: "bad JSON in the last line of the split to evaluate on",
            prepare: |case| {
                let rows = b"{\"text\": \"w3 w4\"}\n{\"text\": \"w5";
                with_files(case, &[("train.jsonl", GOOD_ROWS), ("test.jsonl", rows)])
            },
            names: &["test.jsonl", "line 2"],
        },
        Refused {
            what: "bad UTF-8 on line 2",
            prepare: |case| {
                let rows = b"{\"text\": \"w3 w4\"}\n{\"text\": \"w5 \xff\xfe\"}\n";
                with_files(case, &[("train.jsonl", rows), ("test.jsonl", GOOD_ROWS)])
            },
            names: &["train.jsonl", "line 2", "UTF-8"],
        },
        Refused {
            what: "a number for a text",
            prepare: |case| {
                let rows = b"{\"text\": \"w3 w4\"}\n{\"text\": 5}\n";
                with_files(case, &[("train.jsonl", rows), ("test.jsonl", GOOD_ROWS)])
            },
            names: &["train.jsonl", "line 2", "text"],
        },
        Refused {
            what: "rows without a word",
            prepare: |case| {
                let rows = b"{\"text\": \"\"}\n{\"text\": \"\"}\n";
                with_files(case, &[("train.jsonl", rows), ("test.jsonl", GOOD_ROWS)])
            },
            names: &["train"],
        },
        Refused {
            what: "only one split",
            prepare: |case| with_files(case, &[("train.jsonl", GOOD_ROWS)]),
            names: &["only one split", "`train`", "--test_size"],
        },
        Refused {
            what: "a file alone",
            prepare: |case| Ok(case.training(&goldens::model("qwen2"), &goldens::words().join("train.jsonl"))),
            names: &["train.jsonl", "only one split", "--test_size"],
        },
        Refused {
            what: "no split to train on",
            prepare: |case| with_files(case, &[("test.jsonl", GOOD_ROWS)]),
            names: &["`train`", "test"],
        },
        Refused {
            what: "a split that is not there",
            prepare: |case| Ok(sound(case).flags("--dataset_test_split holdout")),
            names: &["`holdout`", "train, test"],
        },
        Refused {
            what: "everything set aside",
            prepare: |case| Ok(with_files(case, &[("train.jsonl", GOOD_ROWS)])?.flags("--test_size 2")),
            names: &["test_size", "2"],
        },
        Refused {
            what: "a damaged parquet file",
            prepare: |case| with_files(case, &[("train.parquet", b"PAR1....PAR1"), ("test.parquet", b"PAR1")]),
            names: &["train.parquet", "Parquet"],
        },
    ])
}

#[test]
fn flags() -> Result<()> {
    check(&[
        Refused { what: "no flags at all", prepare: |_| Ok(Training::bare()), names: &["--model_name", "output_dir"] },
        Refused {
            what: "an unknown flag",
            prepare: |case| Ok(sound(case).flags("--learning_rat 1e-3")),
            names: &["--learning_rat", "--learning_rate"],
        },
        Refused { what: "a stray word", prepare: |case| Ok(sound(case).flags("stray")), names: &["stray"] },
        Refused {
            what: "a value of the wrong type",
            prepare: |case| Ok(sound(case).flags("--num_train_epochs many")),
            names: &["--num_train_epochs", "many"],
        },
        Refused {
            what: "a learning rate below zero",
            prepare: |case| Ok(sound(case).flags("--learning_rate=-1")),
            names: &["learning_rate", "-1"],
        },
        Refused {
            what: "a batch of none",
            prepare: |case| Ok(sound(case).flags("--per_device_train_batch_size 0")),
            names: &["per_device_train_batch_size", "0"],
        },
        Refused {
            what: "an unknown key in optim_args",
            prepare: |case| Ok(sound(case).flag("optim_args", "rnk=4, scale=1")),
            names: &["rnk", "rank"],
        },
        Refused {
            what: "a bad value in optim_args",
            prepare: |case| Ok(sound(case).flag("optim_args", "rank=4, scale=large")),
            names: &["scale", "large"],
        },
        Refused { what: "rank 0", prepare: |case| Ok(sound(case).flag("optim_args", "rank=0")), names: &["rank", "0"] },
        Refused {
            what: "optim_args without the optimizer they belong to",
            prepare: |case| Ok(sound(case).flags("--optim adamw_torch --optim_args rank=4")),
            names: &["optim_args", "adamw_torch", "galore_adamw"],
        },
        Refused {
            what: "target modules that match nothing",
            prepare: |case| Ok(sound(case).flags("--optim_target_modules conv")),
            names: &["conv"],
        },
        Refused {
            what: "an unknown optimizer",
            prepare: |case| Ok(sound(case).flags("--optim lion")),
            names: &["optim", "lion", "galore_adamw", "adamw_torch"],
        },
        Refused {
            what: "a device that is not there",
            prepare: |case| {
                let model = goldens::model("qwen2");
                let training = Training::on_the_default_device(&model, &goldens::words(), &case.output_dir());
                Ok(training.flags("--device tpu"))
            },
            names: &["device", "tpu", "cpu"],
        },
        Refused {
            what: "an unknown key in a configuration file",
            prepare: |case| {
                std::fs::write(case.path("run.yaml"), "learning_rte: 1e-3\n")?;
                Ok(sound(case).flag("config", case.path("run.yaml").display()))
            },
            names: &["run.yaml", "learning_rte", "learning_rate"],
        },
        Refused {
            what: "evaluations and checkpoints that never meet",
            prepare: |case| {
                let strategies = "--load_best_model_at_end --eval_strategy epoch --save_strategy steps";
                Ok(sound(case).flags(strategies))
            },
            names: &["load_best_model_at_end", "save_strategy"],
        },
    ])
}

/// A run of one epoch, in `out`.
fn run_before(case: &Case) -> Result<Training> {
    let data = Dataset::new(case.path("data"))?.with_texts(&sentences(8, 0), &sentences(2, 0))?;
    let training = case.training(&goldens::model("qwen2"), data.path()).flags("--optim adamw_torch");
    training.clone().flags("--num_train_epochs 1").run()?.succeeded()?;
    Ok(training)
}

#[test]
fn output_folders() -> Result<()> {
    check(&[
        Refused {
            what: "a file",
            prepare: |case| {
                std::fs::write(case.output_dir(), "")?;
                Ok(sound(case))
            },
            names: &["out", "file"],
        },
        Refused {
            what: "under a file",
            prepare: |case| {
                std::fs::write(case.path("file"), "")?;
                Ok(Training::new(&goldens::model("qwen2"), &goldens::words(), &case.path("file/out")))
            },
            names: &["file"],
        },
        Refused {
            // Where nobody may write, root included.
            what: "not writable",
            prepare: |_| Ok(Training::new(&goldens::model("qwen2"), &goldens::words(), Path::new("/proc/out"))),
            names: &["/proc/out"],
        },
        Refused {
            what: "another run's checkpoints",
            prepare: |case| run_before(case),
            names: &["out", "checkpoint-1", "--resume_from_checkpoint"],
        },
    ])
}

#[test]
fn resuming() -> Result<()> {
    check(&[
        Refused {
            what: "no folder to resume in",
            prepare: |case| Ok(sound(case).flags("--resume_from_checkpoint true")),
            names: &["out", "no complete checkpoint"],
        },
        Refused {
            what: "no such checkpoint",
            prepare: |case| Ok(sound(case).flag("resume_from_checkpoint", case.path("checkpoint-5").display())),
            names: &["checkpoint-5", "no such folder"],
        },
        Refused {
            what: "a folder that is no checkpoint",
            prepare: |case| Ok(sound(case).flag("resume_from_checkpoint", goldens::model("qwen2").display())),
            names: &["qwen2"],
        },
        Refused {
            what: "the only checkpoint is damaged",
            prepare: |case| {
                let training = run_before(case)?;
                std::fs::remove_file(case.output_dir().join("checkpoint-1/training_progress.json"))?;
                Ok(training.flags("--resume_from_checkpoint true"))
            },
            names: &["no complete checkpoint"],
        },
        Refused {
            what: "the checkpoint asked for is damaged",
            prepare: |case| {
                let training = run_before(case)?;
                let checkpoint = case.output_dir().join("checkpoint-1");
                let mut weights = std::fs::read(checkpoint.join("model.safetensors"))?;
                let last = weights.last_mut().context("no weights")?;
                *last ^= 1;
                std::fs::write(checkpoint.join("model.safetensors"), weights)?;
                Ok(training.flags("--num_train_epochs 2").flag("resume_from_checkpoint", checkpoint.display()))
            },
            names: &["checkpoint-1", "model.safetensors"],
        },
        Refused {
            what: "another batch size",
            prepare: |case| Ok(run_before(case)?.flags("--resume_from_checkpoint --per_device_train_batch_size 4")),
            names: &["checkpoint-1", "per_device_train_batch_size", "8", "4"],
        },
        Refused {
            what: "another seed, for a checkpoint of another folder",
            prepare: |case| {
                let checkpoint = case.output_dir().join("checkpoint-1");
                run_before(case)?;
                let elsewhere = Training::new(&goldens::model("qwen2"), &case.path("data"), &case.path("elsewhere"));
                let elsewhere = elsewhere.flags("--optim adamw_torch --seed 5");
                Ok(elsewhere.flag("resume_from_checkpoint", checkpoint.display()))
            },
            names: &["checkpoint-1", "seed", "42", "5"],
        },
        Refused {
            what: "another optimizer",
            prepare: |case| {
                run_before(case)?;
                Ok(case.training(&goldens::model("qwen2"), &case.path("data")).flags("--resume_from_checkpoint"))
            },
            names: &["checkpoint-1", "optim (was adamw_torch, is galore_adamw)"],
        },
    ])
}

#[test]
fn all_that_is_wrong_with_the_flags_is_said_at_once() -> Result<()> {
    let case = Case::new()?;
    let training = sound(&case).flags("--optim lion --learning_rate=-1 --dtype int8 --gradient_accumulation_steps 0");
    let finished = training.run()?;
    let message = finished.failed_with(2)?;
    for field in ["optim", "learning_rate", "dtype", "gradient_accumulation_steps"] {
        assert!(message.contains(field), "{field}: {message}");
    }
    Ok(())
}

#[test]
fn help_and_version_are_no_errors() -> Result<()> {
    let help = Training::bare().flags("--help").run()?.succeeded()?;
    assert!(help.stdout.contains("--model_name") && help.stdout.contains("--bf16_weight_update"), "{}", help.stdout);
    assert_eq!(help.stderr, "");
    assert!(Training::bare().flags("--version").run()?.succeeded()?.stdout.starts_with("train_and_save "));
    Ok(())
}

#[test]
fn a_diverging_run_ends_with_1_and_keeps_its_checkpoints() -> Result<()> {
    let case = Case::new()?;
    let steep = "--optim adamw_torch --dtype float32 --learning_rate 1e30 --lr_scheduler_type constant --max_grad_norm 0 \
                 --logging_steps 1";
    let finished = sound(&case).flags(steep).run()?;
    let message = finished.failed_with(1)?;
    assert!(message.contains("step") && message.contains("learning_rate"), "{message}");
    let hidden: Vec<String> =
        file_names(&case.output_dir())?.into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(hidden, [] as [&str; 0], "half-written files");
    for line in String::from_utf8(Results::in_folder(case.output_dir()).bytes("metrics.jsonl")?)?.lines() {
        serde_json::from_str::<Value>(line)?;
    }
    Ok(())
}

#[test]
fn a_file_that_cannot_be_written_while_training_ends_the_run_with_1() -> Result<()> {
    let case = Case::new()?;
    std::fs::create_dir_all(case.output_dir().join("metrics.jsonl"))?;
    let finished = sound(&case).run()?;
    let message = finished.failed_with(1)?;
    assert!(message.contains("metrics.jsonl"), "{message}");
    assert_eq!(file_names(&case.output_dir())?, ["metrics.jsonl"], "nothing is left behind");
    Ok(())
}
