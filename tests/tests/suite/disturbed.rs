//! Runs disturbed by numbers that are not finite, by signals, and by a lack of memory.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use whole_program_tests::{Case, Dataset, Finished, Results, Running, Training, Weights, goldens, sentences};

/// A finite model whose gradient overflows in the rows with the word `w3` and in no others. The
/// embedding of that word is zero, and the first norm divides by the root of the smallest positive
/// number.
fn fragile_model(case: &Case) -> Result<PathBuf> {
    let model = case.copy_model("llama")?;
    Case::edit_json(&model.join("config.json"), |config| {
        config.insert("rms_norm_eps".to_owned(), Value::from(2e-45));
    })?;
    Weights::read(&model)?.with_zero_row("model.embed_tokens.weight", 3)?.write(&model)?;
    Ok(model)
}

/// 32 rows. The fifth and the 21st overflow in the model above.
fn fragile_run(case: &Case) -> Result<Training> {
    let mut texts: Vec<String> = sentences(32, 0).iter().map(|text| format!("{text} ").replace("w3 ", "w4 ")).collect();
    for index in [4, 20] {
        texts[index].insert_str(0, "w3 w9 w3 w3 w8 w3 w7 ");
    }
    let data = Dataset::new(case.path("data"))?.with_texts(&texts, &sentences(4, 1))?;
    let training = Training::new(&fragile_model(case)?, data.path(), &case.output_dir());
    Ok(training.flags(
        "--num_train_epochs 2 --per_device_train_batch_size 4 --eval_strategy no --logging_steps 2 --save_strategy steps --save_steps 1 \
         --save_total_limit 0 --optim_args rank=4,update_proj_gap=3",
    ))
}

#[test]
fn steps_that_are_not_finite_are_skipped_and_a_resume_across_them_is_exact() -> Result<()> {
    let case = Case::new()?;
    let finished = fragile_run(&case)?.run()?.succeeded()?;
    let results = Results::in_folder(case.output_dir());
    let history = results.log_history()?;
    let skipped: Vec<_> = history.iter().filter(|entry| entry.contains_key("skipped")).collect();
    ensure!(skipped.len() == 4, "{history:?}");
    for entry in &skipped {
        let rows = entry["skipped_rows"].as_array().context("no rows")?;
        ensure!(rows.len() == 4 && rows.iter().any(|row| *row == 5 || *row == 21), "{entry:?}");
        let line = format!("step {}/16", entry["step"]);
        ensure!(
            finished.stderr.lines().any(|shown| shown.starts_with(&line) && shown.contains("skipped_rows ")),
            "{line}"
        );
    }
    ensure!(history.iter().flat_map(|entry| entry.values()).all(|value| !value.is_null()), "{history:?}");
    let lines = String::from_utf8(results.bytes("metrics.jsonl")?)?;
    ensure!(lines.lines().filter(|line| line.contains("skipped_rows")).count() == 4, "{lines}");

    let step = skipped[0]["step"].as_u64().context("no step")?;
    let (before, after) = (step - 1, step);
    let model = |folder: PathBuf| Results::in_folder(folder).bytes("model.safetensors");
    let checkpoint = |step: u64| case.output_dir().join(format!("checkpoint-{step}"));
    if before > 0 {
        ensure!(
            model(checkpoint(before))? == model(checkpoint(after))?,
            "step {step} was skipped, and weights changed"
        );
    }
    for from in [before, after].into_iter().filter(|step| *step > 0) {
        let elsewhere = case.path(&format!("from-{from}"));
        let resumed = fragile_run_into(&case, &elsewhere)?.flag("resume_from_checkpoint", checkpoint(from).display());
        resumed.run()?.succeeded()?;
        for file in ["model.safetensors", "optimizer.safetensors", "training_progress.json"] {
            let found = Results::in_folder(elsewhere.join("checkpoint-16")).bytes(file)?;
            ensure!(
                found == Results::in_folder(checkpoint(16)).bytes(file)?,
                "{file} differs, resumed from step {from}"
            );
        }
    }
    Ok(())
}

/// The same run with inputs that already exist.
fn fragile_run_into(case: &Case, output_dir: &std::path::Path) -> Result<Training> {
    Ok(Training::new(&case.path("model"), &case.path("data"), output_dir).flags(
        "--num_train_epochs 2 --per_device_train_batch_size 4 --eval_strategy no --logging_steps 2 --save_strategy steps --save_steps 1 \
         --save_total_limit 0 --optim_args rank=4,update_proj_gap=3",
    ))
}

#[test]
fn too_many_of_them_end_the_run_with_step_rows_and_checkpoint() -> Result<()> {
    for max_bad_steps in [0, 1] {
        let case = Case::new()?;
        let finished = fragile_run(&case)?.flag("max_bad_steps", max_bad_steps).run()?;
        let message = finished.failed_with(1)?;
        ensure!(message.starts_with("grad_norm is ") || message.starts_with("loss is "), "{message}");
        let step: u64 =
            message.split("at step ").nth(1).and_then(|rest| rest.split(',').next()).context("no step")?.parse()?;
        let last = case.output_dir().join(format!("checkpoint-{}", step - 1));
        let named = match step {
            1 => "no checkpoint was saved before".to_owned(),
            _ => format!("the last good checkpoint is {}", last.display()),
        };
        ensure!(message.contains(" of the training split") && message.ends_with(&named), "{message}");
        ensure!(!case.output_dir().join(format!("checkpoint-{step}")).exists(), "saved after it");
    }
    Ok(())
}

fn long_rows(case: &Case, count: usize) -> Result<Dataset> {
    let texts: Vec<String> = (0..count).map(|row| sentences(40, row).join(" ")).collect();
    Dataset::new(case.path("data"))?.with_texts(&texts, &texts[..count.min(4)])
}

/// Waits until a path exists in the output folder.
fn wait_for(case: &Case, name: &str, running: &mut Running) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !case.output_dir().join(name).exists() {
        ensure!(!running.is_over()? && Instant::now() < deadline, "no {name}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

#[test]
fn usr1_saves_as_often_as_it_comes_and_the_run_goes_on() -> Result<()> {
    let case = Case::new()?;
    let data = long_rows(&case, 64)?;
    let training = case.training(&goldens::model("qwen2"), data.path()).flags(
        "--max_steps 60 --per_device_train_batch_size 1 --save_strategy no --eval_strategy no --save_total_limit 0 --optim adamw_torch",
    );
    let mut running = training.start()?;
    wait_for(&case, "metrics.jsonl", &mut running)?;
    let saved = |case: &Case| -> Result<usize> {
        let names = whole_program_tests::file_names(&case.output_dir())?;
        Ok(names.iter().filter(|name| name.starts_with("checkpoint-")).count())
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    for count in 1..=2 {
        running.send("USR1")?;
        while saved(&case)? < count && !running.is_over()? && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let finished = running.wait()?.succeeded()?;
    ensure!(saved(&case)? >= 2, "{}", finished.stderr);
    let told = finished.stderr.lines().filter(|line| line.starts_with("SIGUSR1: saved ")).count();
    ensure!(told == saved(&case)?, "{}", finished.stderr);
    let results = Results::in_folder(case.output_dir());
    ensure!(results.json("trainer_state.json")?["global_step"] == 60, "it went on to the end");
    Ok(())
}

/// Sends signals to a run in the middle of a slow step after its first checkpoint.
fn disturbed(case: &Case, flags: &str, disturb: impl Fn(&Running) -> Result<()>) -> Result<(Training, Finished)> {
    let data = long_rows(case, 16)?;
    let training = case.training(&goldens::model("qwen2"), data.path()).flags(
        "--max_steps 4 --per_device_train_batch_size 16 --save_strategy steps --save_steps 1 --eval_strategy no --optim adamw_torch",
    );
    let mut running = training.clone().flags(flags).start()?;
    wait_for(case, "checkpoint-1", &mut running)?;
    std::thread::sleep(Duration::from_millis(50));
    disturb(&running)?;
    Ok((training, running.wait()?))
}

#[test]
fn a_second_interrupt_leaves_at_once_and_so_does_the_first_where_nothing_is_to_be_saved() -> Result<()> {
    let twice = |running: &Running| {
        running.send("INT")?;
        std::thread::sleep(Duration::from_millis(20));
        running.send("INT")
    };
    let case = Case::new()?;
    let (training, finished) = disturbed(&case, "", twice)?;
    ensure!(finished.exit_code() == Some(130), "{:?}: {}", finished.exit_code(), finished.stderr);
    ensure!(!finished.stderr.contains("stopped by signal"), "{}", finished.stderr);
    training.flags("--resume_from_checkpoint true --max_steps 2").run()?.succeeded()?;

    for (signal, code) in [("TERM", 143), ("USR1", 138)] {
        let case = Case::new()?;
        let (_, finished) = disturbed(&case, "--save_on_signal false", |running| running.send(signal))?;
        ensure!(finished.exit_code() == Some(code), "{signal}: {:?}: {}", finished.exit_code(), finished.stderr);
        ensure!(!finished.stderr.contains("stopped by signal"), "{}", finished.stderr);
    }
    Ok(())
}

#[test]
fn a_stop_whose_checkpoint_cannot_be_written_is_an_error_that_names_the_last_good_one() -> Result<()> {
    let case = Case::new()?;
    let out = case.output_dir();
    let (_, finished) = disturbed(&case, "", |running| {
        for step in 2..=4 {
            std::fs::write(out.join(format!(".checkpoint-{step}.partial")), "a file in the place of a folder")?;
        }
        running.send("TERM")
    })?;
    let message = finished.failed_with(143)?;
    for part in ["stopped by signal 15 after step ", "saving the checkpoint of step ", ".partial"] {
        ensure!(message.contains(part), "no `{part}` in {message}");
    }
    ensure!(
        message.ends_with(&format!("the last good checkpoint is {}", out.join("checkpoint-1").display())),
        "{message}"
    );
    Ok(())
}

/// A limit on the address space simulates a lack of memory. `eager` attention needs memory that
/// grows with the square of the row length.
#[test]
fn out_of_memory_is_explained_and_smaller_batches_take_the_same_steps() -> Result<()> {
    let case = Case::new()?;
    let data = long_rows(&case, 16)?;
    let run = |output_dir: PathBuf, limit_kib: Option<u64>| {
        Training::new(&goldens::model("qwen2"), data.path(), &output_dir).address_space_limit_kib(limit_kib).flags(
            "--max_steps 1 --per_device_train_batch_size 16 --save_strategy no --optim adamw_torch --dtype float32 \
             --attn_implementation eager --logging_steps 1 --per_device_eval_batch_size 4 --eval_strategy steps --eval_steps 1",
        )
    };
    let mut roomy = run(case.path("roomy"), None).start()?;
    let mut peak_kib = 0;
    while !roomy.is_over()? {
        peak_kib = roomy.peak_address_space_kib().unwrap_or(0).max(peak_kib);
        std::thread::sleep(Duration::from_millis(5));
    }
    roomy.wait()?.succeeded()?;
    let expected = [
        "forward and backward at step 1 with 16 rows in a batch: out of memory on the CPU: ",
        " were asked for, ",
        "--per_device_train_batch_size 8 with --gradient_accumulation_steps 2",
        "--max_length (now 1024)",
    ];
    // The limits make different operations run out of memory.
    for lacking_kib in (75_000..=225_000).step_by(50_000) {
        let finished = run(case.path("tight"), Some(peak_kib - lacking_kib)).run()?;
        let message = finished.failed_with(1)?;
        for part in expected {
            ensure!(message.contains(part), "{lacking_kib} KiB too little: `{part}` is not in: {message}");
        }
    }

    // Half the rows need 160 MB less.
    let finding = run(case.path("found"), Some(peak_kib - 100_000)).flags("--auto_find_batch_size");
    let finished = finding.run()?.succeeded()?;
    let shown = "out_of_memory on the CPU: ";
    ensure!(
        finished.stderr.contains(shown) && finished.stderr.contains("per_device_train_batch_size 8"),
        "{}",
        finished.stderr
    );
    let (roomy, found) = (Results::in_folder(case.path("roomy")), Results::in_folder(case.path("found")));
    for key in ["loss", "grad_norm", "eval_loss"] {
        let (expected, found) = (roomy.logged(key)?, found.logged(key)?);
        ensure!(expected.len() == 1 && (expected[0] - found[0]).abs() < 1e-5, "{key}: {expected:?} and {found:?}");
    }
    ensure!(found.json("trainer_state.json")?["train_batch_size"] == 8);
    Ok(())
}
