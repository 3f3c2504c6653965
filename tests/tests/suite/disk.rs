//! A disk that is full or too small: no existing checkpoint is lost, and the run continues if it
//! can.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;
use whole_program_tests::{Case, Dataset, Finished, Results, Training, goldens, sentences};

/// 12 steps, with checkpoints of a little over 100 kB at steps 3, 6, 9 and 12.
fn training(case: &Case) -> Result<Training> {
    let data = Dataset::new(case.path("data"))?.with_texts(&sentences(16, 0), &sentences(3, 0))?;
    let training = case.training(&goldens::model("qwen2"), data.path());
    Ok(training.flags("--optim adamw_torch --max_steps 12 --per_device_train_batch_size 4 --logging_steps 1").flags(
        "--save_strategy steps --save_steps 3 --save_total_limit 1 --eval_strategy steps --eval_steps 3 --learning_rate 1e-3",
    ))
}

/// Runs with a small file system mounted at the output folder, and copies the folder to `copy` at
/// the end. Runs nothing if the system does not allow such a mount.
fn on_a_small_disk(training: Training, case: &Case, size: &str, meanwhile: &str) -> Result<Option<Finished>> {
    let probe = "mount -t tmpfs tmpfs /mnt";
    if !Command::new("unshare").args(["-rm", "sh", "-c", probe]).output().is_ok_and(|done| done.status.success()) {
        eprintln!("left out: no file system can be mounted here");
        return Ok(None);
    }
    let (out, copy) = (case.output_dir(), case.path("copy"));
    std::fs::create_dir_all(&out)?;
    let (out, copy) = (out.display(), copy.display());
    let inside = format!(
        "mount -t tmpfs -o size={size} tmpfs {out} || exit 99; \"$@\" & pid=$!; {meanwhile}\n wait $pid; code=$?; cp -r {out} {copy}; exit $code"
    );
    training.under(format!("exec unshare -rm sh -c '{inside}' sh \"$@\"")).run().map(Some)
}

/// The errors of failed saves in metrics.jsonl.
fn failed_saves(output_dir: &Path) -> Result<Vec<String>> {
    let metrics = String::from_utf8(Results::in_folder(output_dir).bytes("metrics.jsonl")?)?;
    let entries = metrics.lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>()?;
    Ok(entries.iter().filter_map(|entry| Some(entry.get("save_error")?.as_str()?.to_owned())).collect())
}

#[test]
fn too_small_a_disk_is_refused_before_training() -> Result<()> {
    let case = Case::new()?;
    let Some(finished) = on_a_small_disk(training(&case)?, &case, "300k", "")? else { return Ok(()) };
    let message = finished.failed_with(2)?;
    for part in ["output_dir", "B are needed, for 3 checkpoints of", "B are free", "save_total_limit"] {
        ensure!(message.contains(part), "no `{part}` in {message}");
    }
    let left: Vec<_> = std::fs::read_dir(case.path("copy"))?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_the_checkpoints_of_that_while() -> Result<()> {
    let (whole, case) = (Case::new()?, Case::new()?);
    training(&whole)?.run()?.succeeded()?;
    // The disk is full, except for a few lines of metrics, from the first checkpoint until a save
    // has failed. The run is stopped while the disk is filled, so that it does not end first.
    let out = case.output_dir();
    let out = out.display();
    let meanwhile = format!(
        "while [ ! -e {out}/checkpoint-3 ]; do sleep 0.001; done; kill -STOP $pid; cat /dev/zero > {out}/filler; truncate -s -16384 {out}/filler; \
         kill -CONT $pid; while ! grep -q save_error {out}/metrics.jsonl && kill -0 $pid; do sleep 0.001; done; rm {out}/filler"
    );
    let Some(finished) = on_a_small_disk(training(&case)?, &case, "4m", &meanwhile)? else { return Ok(()) };
    let finished = finished.succeeded()?;
    let copy = case.path("copy");
    let failed = failed_saves(&copy)?;
    ensure!(!failed.is_empty() && failed.iter().all(|message| message.contains("No space left")), "{failed:?}");
    ensure!(failed.iter().all(|message| finished.stderr.contains(message.as_str())), "{}", finished.stderr);
    let (found, expected) = (Results::in_folder(&copy), Results::in_folder(whole.output_dir()));
    ensure!(found.logged("loss")? == expected.logged("loss")?, "training went another way");
    ensure!(found.logged("eval_loss")? == expected.logged("eval_loss")?, "training went another way");
    ensure!(found.bytes("checkpoint-12/model.safetensors")? == expected.bytes("checkpoint-12/model.safetensors")?);
    Ok(())
}

#[test]
fn when_no_checkpoint_can_be_written_training_goes_on_to_exit_code_1() -> Result<()> {
    let case = Case::new()?;
    // No file may become larger than 16 kB.
    let finished = training(&case)?.under("trap '' XFSZ; ulimit -f 32; exec \"$@\"").run()?;
    let message = finished.failed_with(1)?;
    ensure!(message.contains("model.safetensors") && message.contains("File too large"), "{message}");
    let out = case.output_dir();
    let failed = failed_saves(&out)?;
    ensure!(failed.len() == 4, "{failed:?}");
    for (message, step) in failed.iter().zip([3, 6, 9, 12]) {
        ensure!(message.starts_with(&format!("saving the checkpoint of step {step} failed: ")), "{message}");
        ensure!(finished.stderr.contains(message.as_str()), "not on the terminal: {message}");
    }
    let steps = String::from_utf8(Results::in_folder(&out).bytes("metrics.jsonl")?)?;
    let last = steps.lines().last().context("no metrics")?;
    ensure!(last.contains("train_runtime"), "training did not go on to its end: {last}");
    ensure!(
        whole_program_tests::file_names(&out)? == ["metrics.jsonl"],
        "{:?}",
        whole_program_tests::file_names(&out)?
    );
    Ok(())
}
