//! Bad output folders and checkpoints, and failures in the output folder during training.

use super::*;
use anyhow::Context;
use whole_program_tests::{Results, file_names, sentences};

/// Runs one epoch in `out`.
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
            // Nobody can write here, not even root.
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
