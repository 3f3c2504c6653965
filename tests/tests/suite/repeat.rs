//! Repeated runs: two runs with one seed, and runs that are stopped and resumed.

use anyhow::{Result, bail, ensure};
use std::path::Path;
use std::time::{Duration, Instant};
use whole_program_tests::{Case, Finished, Results, Running, Training, goldens, without_times};

const SIGKILL: i32 = 9;

/// Small enough to run several times, and with partial batches and windows: 78 rows in batches of
/// 8, which are 10 batches per epoch.
fn training(case: &Case, settings: &str) -> Training {
    case.training(&goldens::model("qwen2"), &goldens::words())
        .flags("--learning_rate 3e-3 --logging_steps 3 --save_total_limit 0")
        .flags(settings)
}

const GALORE: &str = "--optim_args rank=8,update_proj_gap=7,scale=0.5";
const ADAMW: &str = "--optim adamw_torch --weight_decay 0.1";

/// Log history, saved model, and weights, optimizer state and position of the last checkpoint.
fn ensure_same(one: &Path, other: &Path, checkpoint: &str) -> Result<()> {
    let (left, right) = (Results::in_folder(one), Results::in_folder(other));
    ensure!(without_times(left.log_history()?) == without_times(right.log_history()?), "log_history differs");
    ensure!(left.bytes("model.safetensors")? == right.bytes("model.safetensors")?, "the saved model differs");
    let (left, right) = (one.join(checkpoint), other.join(checkpoint));
    for name in ["model.safetensors", "optimizer.safetensors", "training_progress.json"] {
        let same = Results::in_folder(&left).bytes(name)? == Results::in_folder(&right).bytes(name)?;
        ensure!(same, "{checkpoint}/{name} differs");
    }
    Ok(())
}

#[test]
fn one_seed_gives_one_result_and_another_seed_another() -> Result<()> {
    let settings = "--num_train_epochs 2 --bf16_weight_update stochastic --warmup_steps 0";
    let cases = [Case::new()?, Case::new()?, Case::new()?];
    for (case, seed) in cases.iter().zip([7, 7, 8]) {
        training(case, settings).flags(GALORE).flag("seed", seed).run()?.succeeded()?;
    }
    let [one, same, another] = cases.map(|case| (case.output_dir(), case));
    ensure_same(&one.0, &same.0, "checkpoint-20")?;
    assert!(ensure_same(&one.0, &another.0, "checkpoint-20").is_err(), "another seed changes nothing");
    Ok(())
}

#[test]
fn several_threads_give_one_result() -> Result<()> {
    let cases = [Case::new()?, Case::new()?];
    for case in &cases {
        training(case, "--num_train_epochs 1").flags(GALORE).threads(2).run()?.succeeded()?;
    }
    ensure_same(&cases[0].output_dir(), &cases[1].output_dir(), "checkpoint-10")
}

/// Compares a run of two epochs with a run of one epoch that is resumed to two.
fn extend(settings: &str, last_checkpoint: &str) -> Result<()> {
    let settings = format!("--lr_scheduler_type constant {settings}");
    let (whole, parts) = (Case::new()?, Case::new()?);
    training(&whole, &settings).flags("--num_train_epochs 2").run()?.succeeded()?;
    training(&parts, &settings).flags("--num_train_epochs 1").run()?.succeeded()?;
    let resumed = training(&parts, &settings).flags("--num_train_epochs 2 --resume_from_checkpoint true").run()?;
    ensure!(resumed.stderr.contains("resuming from"), "{}", resumed.stderr);
    resumed.succeeded()?;
    ensure_same(&whole.output_dir(), &parts.output_dir(), last_checkpoint)
}

#[test]
fn one_epoch_resumed_to_two_float32_galore() -> Result<()> {
    extend(&format!("--dtype float32 {GALORE}"), "checkpoint-20")
}

#[test]
fn one_epoch_resumed_to_two_bfloat16_exact_adamw_accumulated() -> Result<()> {
    extend(&format!("--gradient_accumulation_steps 3 {ADAMW}"), "checkpoint-8")
}

#[test]
fn one_epoch_resumed_to_two_bfloat16_stochastic_packed() -> Result<()> {
    extend(&format!("--bf16_weight_update stochastic --packing --max_length 48 {GALORE}"), "checkpoint-10")
}

#[test]
fn one_epoch_resumed_to_two_bfloat16_nearest_in_steps() -> Result<()> {
    let by_steps = "--save_strategy steps --save_steps 5 --eval_strategy steps --eval_steps 2";
    extend(&format!("--bf16_weight_update nearest {by_steps} {ADAMW}"), "checkpoint-20")
}

/// Compares a run to step 12 with a run to step 6, in the middle of an epoch, that is resumed to
/// 12. Logs, evaluations and saves at the end of a run are due at these steps in any case.
fn stop_midway(settings: &str) -> Result<()> {
    let intervals = "--save_strategy steps --save_steps 6 --eval_strategy steps --eval_steps 3";
    let settings = format!("--lr_scheduler_type constant {intervals} {settings}");
    let (whole, parts) = (Case::new()?, Case::new()?);
    training(&whole, &settings).flags("--max_steps 12").run()?.succeeded()?;
    training(&parts, &settings).flags("--max_steps 6").run()?.succeeded()?;
    training(&parts, &settings).flags("--max_steps 12 --resume_from_checkpoint true").run()?.succeeded()?;
    ensure_same(&whole.output_dir(), &parts.output_dir(), "checkpoint-12")
}

#[test]
fn stopped_midway_and_resumed_bfloat16_stochastic_adamw_accumulated() -> Result<()> {
    stop_midway(&format!("--bf16_weight_update stochastic --gradient_accumulation_steps 3 {ADAMW}"))
}

#[test]
fn stopped_midway_and_resumed_bfloat16_exact_adamw_packed() -> Result<()> {
    stop_midway(&format!("--packing --max_length 48 {ADAMW}"))
}

#[test]
fn stopped_midway_and_resumed_bfloat16_exact_galore_staggered_packed_accumulated() -> Result<()> {
    let refresh = "--galore_refresh staggered --galore_solver eigenvectors";
    stop_midway(&format!("--packing --max_length 48 --gradient_accumulation_steps 3 {refresh} {GALORE}"))
}

#[test]
fn stopped_midway_and_resumed_bfloat16_exact_galore_of_each_projection() -> Result<()> {
    for projection in ["reverse_std", "right", "left", "full"] {
        stop_midway(&format!("{GALORE},proj_type={projection}"))?;
    }
    Ok(())
}

/// A run that `end` ended after it saved this checkpoint and before it was over.
fn interrupted(
    settings: &str,
    checkpoint: &str,
    end: impl Fn(Running) -> Result<Finished>,
) -> Result<(Case, Finished)> {
    // On a busy machine the run may be over before this test looks again.
    for _ in 0..3 {
        let case = Case::new()?;
        let mut running = training(&case, settings).start()?;
        let deadline = Instant::now() + Duration::from_secs(120);
        while !case.output_dir().join(checkpoint).exists() && !running.is_over()? && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let finished = if running.is_over()? { running.wait()? } else { end(running)? };
        if finished.exit_code() != Some(0) {
            let is_at_its_end = case.output_dir().join("train_results.json").exists();
            ensure!(!is_at_its_end, "the run was at its end: {}", finished.stderr);
            return Ok((case, finished));
        }
    }
    bail!("three runs were over before they could be interrupted")
}

/// Compares a whole run with one that is killed once `killed_after` exists and then resumed.
fn kill_and_resume(settings: &str, killed_after: &str, last_checkpoint: &str) -> Result<()> {
    let settings = format!("--lr_scheduler_type linear --save_strategy steps --eval_strategy steps {settings}");
    let whole = Case::new()?;
    training(&whole, &settings).run()?.succeeded()?;
    let (parts, killed) = interrupted(&settings, killed_after, Running::kill)?;
    ensure!(killed.signal() == Some(SIGKILL), "{:?}: {}", killed.exit_code(), killed.stderr);
    training(&parts, &settings).flags("--resume_from_checkpoint true").run()?.succeeded()?;
    ensure_same(&whole.output_dir(), &parts.output_dir(), last_checkpoint)
}

#[test]
fn killed_and_resumed_float32_adamw_accumulated() -> Result<()> {
    let steps = "--num_train_epochs 12 --gradient_accumulation_steps 3 --save_steps 5 --eval_steps 6";
    kill_and_resume(&format!("--dtype float32 {steps} {ADAMW}"), "checkpoint-10", "checkpoint-48")
}

#[test]
fn killed_and_resumed_bfloat16_exact_galore() -> Result<()> {
    let steps = "--num_train_epochs 5 --save_steps 4 --eval_steps 10";
    kill_and_resume(&format!("{steps} {GALORE}"), "checkpoint-8", "checkpoint-50")
}

#[test]
fn killed_and_resumed_bfloat16_stochastic_galore_packed() -> Result<()> {
    let steps = "--num_train_epochs 8 --save_steps 3 --eval_steps 7 --packing --max_length 48";
    kill_and_resume(&format!("--bf16_weight_update stochastic {steps} {GALORE}"), "checkpoint-6", "checkpoint-40")
}

#[test]
fn a_signal_ends_the_run_with_a_checkpoint_to_go_on_from() -> Result<()> {
    let settings = format!("--num_train_epochs 12 --save_strategy steps --save_steps 20 {GALORE}");
    let whole = Case::new()?;
    training(&whole, &settings).run()?.succeeded()?;
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let (parts, stopped) = interrupted(&settings, "checkpoint-20", |running| {
            running.send(signal)?;
            running.wait()
        })?;
        ensure!(stopped.exit_code() == Some(128 + number), "{signal}: {:?}: {}", stopped.exit_code(), stopped.stderr);
        ensure!(stopped.stderr.contains(&format!("stopped by signal {number} after step ")), "{}", stopped.stderr);
        training(&parts, &settings).flags("--resume_from_checkpoint true").run()?.succeeded()?;
        ensure_same(&whole.output_dir(), &parts.output_dir(), "checkpoint-120")?;
    }
    Ok(())
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() -> Result<()> {
    let settings = format!("--lr_scheduler_type constant --num_train_epochs 3 --dtype float32 {ADAMW}");
    let case = Case::new()?;
    training(&case, &settings).run()?.succeeded()?;
    let whole = Results::in_folder(case.output_dir()).bytes("checkpoint-30/model.safetensors")?;

    let damaged = case.output_dir().join("checkpoint-30/optimizer.safetensors");
    let mut bytes = std::fs::read(&damaged)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes)?;
    let finished = training(&case, &settings).flags("--resume_from_checkpoint true").run()?.succeeded()?;
    let warning = finished.stderr.lines().find(|line| line.starts_with("warning: ")).unwrap_or_default();
    assert!(warning.contains("checkpoint-30") && warning.contains("optimizer.safetensors"), "{}", finished.stderr);
    let resuming = finished.stderr.lines().find(|line| line.starts_with("resuming from")).unwrap_or_default();
    assert!(resuming.contains("checkpoint-20"), "{}", finished.stderr);
    assert_eq!(Results::in_folder(case.output_dir()).bytes("checkpoint-30/model.safetensors")?, whole);
    Ok(())
}

/// The run was killed at its very end, so the model is in place and a result is missing. Files that
/// an earlier run left in the folder are not mistaken for those of this run.
#[test]
fn a_run_killed_among_its_last_files_writes_them_when_resumed() -> Result<()> {
    let case = Case::new()?;
    let settings = format!("--num_train_epochs 1 {ADAMW}");
    training(&case, &settings).run()?.succeeded()?;
    let results = Results::in_folder(case.output_dir());
    let before = (results.bytes("model.safetensors")?, results.json("all_results.json")?["train_loss"].clone());
    let state = results.json("trainer_state.json")?;

    for name in ["all_results.json", "trainer_state.json"] {
        std::fs::remove_file(case.output_dir().join(name))?;
    }
    let resume = || training(&case, &settings).flags("--resume_from_checkpoint true").run()?.succeeded().map(drop);
    resume()?;
    let found = || -> Result<_> {
        Ok((results.bytes("model.safetensors")?, results.json("all_results.json")?["train_loss"].clone()))
    };
    assert_eq!(found()?, before);

    let mut of_another_run = state;
    of_another_run["log_history"][0]["loss"] = 7.0.into();
    std::fs::write(case.output_dir().join("trainer_state.json"), of_another_run.to_string())?;
    std::fs::write(case.output_dir().join("model.safetensors"), "of another run")?;
    resume()?;
    assert_eq!(found()?, before);
    Ok(())
}

#[test]
fn a_finished_run_resumed_changes_nothing() -> Result<()> {
    let case = Case::new()?;
    let settings = format!("--num_train_epochs 1 {ADAMW}");
    training(&case, &settings).run()?.succeeded()?;
    let before = Results::in_folder(case.output_dir()).bytes("model.safetensors")?;
    let history = without_times(Results::in_folder(case.output_dir()).log_history()?);
    training(&case, &settings).flags("--resume_from_checkpoint true").run()?.succeeded()?;
    assert_eq!(Results::in_folder(case.output_dir()).bytes("model.safetensors")?, before);
    assert_eq!(without_times(Results::in_folder(case.output_dir()).log_history()?), history);

    // As if the run had been killed before it wrote the last file. The next run writes it and
    // leaves no partial files.
    std::fs::remove_file(case.output_dir().join("trainer_state.json"))?;
    std::fs::create_dir_all(case.output_dir().join(".final-model/checkpoint-9"))?;
    training(&case, &settings).flags("--resume_from_checkpoint true").run()?.succeeded()?;
    assert_eq!(Results::in_folder(case.output_dir()).bytes("model.safetensors")?, before);
    assert!(case.output_dir().join("trainer_state.json").exists() && !case.output_dir().join(".final-model").exists());
    Ok(())
}
