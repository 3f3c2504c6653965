//! A run ends with the best model, not with the last one.

use anyhow::{Context, Result, ensure};
use whole_program_tests::{Case, Dataset, Results, Training, file_names, goldens, sentences};

/// A few rows that are soon learned by heart. What also helps on other rows is learned first, so
/// the best evaluation is in the middle of the run.
fn overfit(case: &Case) -> Result<Training> {
    let data = Dataset::new(case.path("data"))?.with_texts(&sentences(6, 0), &sentences(6, 1))?;
    let training = case.training(&goldens::model("qwen2"), data.path());
    Ok(training.flags(
        "--optim adamw_torch --dtype float32 --learning_rate 3e-3 --lr_scheduler_type constant --num_train_epochs 8 \
         --per_device_train_batch_size 3 --logging_steps 1",
    ))
}

/// The index of the lowest evaluation loss, which must be neither the first nor the last.
fn lowest_in_the_middle(results: &Results) -> Result<usize> {
    let losses = results.logged("eval_loss")?;
    let lowest = (0..losses.len()).min_by(|one, other| losses[*one].total_cmp(&losses[*other]));
    let lowest = lowest.context("no evaluation")?;
    ensure!(lowest > 0 && lowest + 1 < losses.len(), "the lowest of {losses:?} is not in the middle");
    Ok(lowest)
}

#[test]
fn the_final_model_is_the_best_checkpoint_bit_for_bit() -> Result<()> {
    let case = Case::new()?;
    let finished = overfit(&case)?.flags("--save_total_limit 1").run()?.succeeded()?;
    let out = case.output_dir();
    let results = Results::in_folder(&out);
    let best_step = 2 * (lowest_in_the_middle(&results)? + 1);

    let names = file_names(&out)?;
    let mut checkpoints: Vec<_> = names.iter().filter(|name| name.starts_with("checkpoint-")).collect();
    checkpoints.sort_by_key(|name| name.len());
    assert_eq!(checkpoints, [&format!("checkpoint-{best_step}"), "checkpoint-16"], "the best and the newest");

    let (best, newest) = (out.join(format!("checkpoint-{best_step}")), Results::in_folder(out.join("checkpoint-16")));
    for name in
        ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    {
        assert_eq!(results.bytes(name)?, Results::in_folder(&best).bytes(name)?, "{name}");
    }
    assert_ne!(results.bytes("model.safetensors")?, newest.bytes("model.safetensors")?);

    let state = results.json("trainer_state.json")?;
    assert_eq!(state["best_global_step"], best_step);
    assert_eq!(state["best_model_checkpoint"].as_str(), best.to_str());
    let lowest = results.logged("eval_loss")?.into_iter().fold(f64::INFINITY, f64::min);
    assert_eq!(state["best_metric"], lowest);
    assert_eq!(results.json("eval_results.json")?["eval_loss"], lowest);
    assert!(finished.stderr.contains(&best.display().to_string()), "{}", finished.stderr);
    Ok(())
}

#[test]
fn the_saved_model_evaluates_as_the_best_checkpoint_did() -> Result<()> {
    let case = Case::new()?;
    overfit(&case)?.run()?.succeeded()?;
    let again = Training::new(&case.output_dir(), &case.path("data"), &case.path("again"));
    again.flags("--dtype float32 --max_steps 1 --eval_on_start --save_strategy no").run()?.succeeded()?;
    let best = Results::in_folder(case.output_dir()).json("trainer_state.json")?["best_metric"].as_f64();
    assert_eq!(Results::in_folder(case.path("again")).logged("eval_loss")?.first().copied(), best);
    Ok(())
}

#[test]
fn early_stopping_ends_the_run_and_keeps_the_best() -> Result<()> {
    let (whole, stopped) = (Case::new()?, Case::new()?);
    overfit(&whole)?.run()?.succeeded()?;
    let whole = Results::in_folder(whole.output_dir());
    let lowest = lowest_in_the_middle(&whole)?;

    overfit(&stopped)?.flags("--early_stopping_patience 1").run()?.succeeded()?;
    let stopped = Results::in_folder(stopped.output_dir());
    assert_eq!(stopped.logged("eval_loss")?, whole.logged("eval_loss")?[..lowest + 2]);
    assert_eq!(stopped.bytes("model.safetensors")?, whole.bytes("model.safetensors")?);
    Ok(())
}

#[test]
fn a_run_resumed_short_of_its_patience_stops_where_the_undisturbed_one_does() -> Result<()> {
    let (whole, parts) = (Case::new()?, Case::new()?);
    let patience = "--early_stopping_patience 2 --save_total_limit 0";
    overfit(&whole)?.flags(patience).run()?.succeeded()?;
    let whole = Results::in_folder(whole.output_dir());
    let losses = whole.logged("eval_loss")?;
    let num_epochs = losses.len();
    ensure!((3..8).contains(&num_epochs), "not stopped early: {losses:?}");

    // After the second-to-last evaluation the counter is 1 of 2.
    overfit(&parts)?.flags(patience).flag("num_train_epochs", num_epochs - 1).run()?.succeeded()?;
    overfit(&parts)?.flags(patience).flags("--resume_from_checkpoint true").run()?.succeeded()?;
    let parts = Results::in_folder(parts.output_dir());
    assert_eq!(parts.logged("eval_loss")?, losses);
    assert_eq!(parts.logged("loss")?, whole.logged("loss")?);
    for name in ["model.safetensors".to_owned(), format!("checkpoint-{}/optimizer.safetensors", 2 * num_epochs)] {
        ensure!(parts.bytes(&name)? == whole.bytes(&name)?, "{name} differs");
    }
    Ok(())
}

#[test]
fn evaluations_and_checkpoints_by_steps() -> Result<()> {
    let case = Case::new()?;
    let steps = "--eval_strategy steps --eval_steps 3 --save_strategy steps --save_steps 3 --save_total_limit 0";
    overfit(&case)?.flags(steps).run()?.succeeded()?;
    let results = Results::in_folder(case.output_dir());
    let best_step = results.json("trainer_state.json")?["best_global_step"].as_u64().context("no best step")?;
    let best = Results::in_folder(case.output_dir().join(format!("checkpoint-{best_step}")));
    assert_eq!(results.bytes("model.safetensors")?, best.bytes("model.safetensors")?);
    let names = file_names(&case.output_dir())?;
    let mut steps: Vec<u64> = names.iter().filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok()).collect();
    steps.sort_unstable();
    assert_eq!(steps, [3, 6, 9, 12, 15, 16], "all of them, and the last step");
    Ok(())
}
