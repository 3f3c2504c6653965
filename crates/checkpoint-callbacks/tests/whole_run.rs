//! Whole runs of the toy learner with all callbacks of this crate.
#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only

use checkpoint_callbacks::{
    BestModelCheckpointCallback, DirectoryStore, EarlyStopping, OutputDirUse, Publication, Rotation, check_output_dir,
    find_checkpoints, newest_complete, publish, verify,
};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use trainer_core::testing::{ToyLearner, ToySource};
use trainer_core::{
    Callback, CallbackContext, EventResult, IntervalStrategy, MetricsFile, Requests, SaveStrategy, TrainOutput,
    Trainer, TrainerState, TrainingArguments,
};

/// Rows and rows per batch: two optimizer steps per epoch.
const ROWS: (usize, usize) = (16, 8);

fn arguments(output_dir: &Path) -> TrainingArguments {
    TrainingArguments {
        output_dir: output_dir.to_owned(),
        num_train_epochs: 6.0,
        learning_rate: 0.1,
        logging_steps: 3.0,
        ..TrainingArguments::documented_recipe()
    }
}

/// A learner whose evaluation loss after epoch `n` is `losses[n - 1]`.
fn scripted(losses: &'static [f64]) -> ToyLearner {
    ToyLearner::default().with_eval_loss(|step| losses[(step as usize).div_ceil(2) - 1])
}

fn run<'a>(
    arguments: TrainingArguments,
    learner: &'a mut ToyLearner,
    callback: impl Callback + 'a,
    resume_from: Option<&Path>,
) -> TrainOutput {
    let (train, eval) = (ToySource::new(ROWS.0, ROWS.1), ToySource::new(4, 4));
    let mut store = DirectoryStore::open(&arguments.output_dir).unwrap();
    let metrics = MetricsFile::new(arguments.output_dir.join(MetricsFile::FILE_NAME));
    let rotation = arguments.save_total_limit.map(Rotation::new);
    let mut callbacks: Vec<Box<dyn Callback + '_>> = vec![Box::new(BestModelCheckpointCallback), Box::new(rotation)];
    callbacks.extend([Box::new(metrics) as Box<dyn Callback>, Box::new(callback)]);
    let builder = Trainer::builder(arguments, learner, &train).eval_source(&eval).store(&mut store);
    let mut trainer = builder.callback(callbacks).build().unwrap();
    if let Some(checkpoint) = resume_from {
        trainer.resume_from(checkpoint).unwrap();
    }
    trainer.train().unwrap()
}

fn steps(output_dir: &Path) -> Vec<u64> {
    find_checkpoints(output_dir).unwrap().iter().map(|checkpoint| checkpoint.global_step).collect()
}

fn none() -> Option<EarlyStopping> {
    None
}

/// Requests a save and a stop after a step, as a signal handler does.
struct StopAfter(u64);

impl Callback for StopAfter {
    fn on_step_end(&mut self, context: &CallbackContext<'_>, requests: &mut Requests) -> EventResult {
        if context.state.global_step == self.0 {
            requests.request_save();
            requests.request_stop();
        }
        Ok(())
    }
}

#[test]
fn with_a_limit_of_one_the_best_and_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut learner = scripted(&[5.0, 3.0, 2.0, 2.5, 2.2, 2.0]);
    let output = run(arguments(dir.path()), &mut learner, none(), None);
    assert_eq!(steps(dir.path()), [6, 12]);
    let best = output.state.best_model_checkpoint.clone().unwrap();
    assert_eq!(best, dir.path().join("checkpoint-6"));
    assert_eq!(output.state.best_metric, Some(2.0));
    for step in [6, 12] {
        verify(&dir.path().join(format!("checkpoint-{step}"))).unwrap();
    }
    publish(&best, dir.path(), Publication::default()).unwrap();
    let published = fs::read(dir.path().join("model.json")).unwrap();
    assert_eq!(published, fs::read(best.join("model.json")).unwrap());
    assert_ne!(published, fs::read(dir.path().join("checkpoint-12/model.json")).unwrap());
    assert!(!dir.path().join("optimizer.json").exists());
}

#[test]
fn the_best_is_kept_while_later_evaluations_are_worse_at_every_moment() {
    struct BestExists<'a>(&'a Cell<u32>);
    impl Callback for BestExists<'_> {
        fn on_save(&mut self, context: &CallbackContext<'_>, checkpoint: &Path, _: &mut Requests) -> EventResult {
            let best = context.state.best_model_checkpoint.clone().ok_or("no best")?;
            verify(&best)?;
            verify(checkpoint)?;
            self.0.set(self.0.get() + 1);
            Ok(())
        }
    }
    let (dir, saves) = (tempfile::tempdir().unwrap(), Cell::new(0));
    run(arguments(dir.path()), &mut scripted(&[1.0, 3.0, 2.0, 2.5, 2.2, 2.0]), BestExists(&saves), None);
    assert_eq!(saves.get(), 6);
    assert_eq!(steps(dir.path()), [2, 12]);
}

#[test]
fn evaluations_between_saves_are_saved_when_best() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments {
        eval_strategy: IntervalStrategy::Steps,
        eval_steps: Some(1.0),
        save_total_limit: None,
        ..arguments(dir.path())
    };
    let mut learner = ToyLearner::default().with_eval_loss(|step| if step == 5 { 1.0 } else { 2.0 });
    let output = run(arguments, &mut learner, none(), None);
    assert_eq!(output.state.best_global_step, Some(5));
    assert_eq!(steps(dir.path()), [1, 2, 4, 5, 6, 8, 10, 12]); // the first, the best, and the end of each epoch
}

#[test]
fn without_saving_there_is_no_checkpoint_and_no_best() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments { save_strategy: SaveStrategy::No, ..arguments(dir.path()) };
    let output = run(arguments, &mut scripted(&[5.0, 3.0, 2.0, 2.5, 2.2, 2.0]), none(), None);
    assert_eq!(output.state.best_model_checkpoint, None);
    assert_eq!(steps(dir.path()), [0; 0]);
}

#[test]
fn early_stopping_counts_on_after_a_resume() {
    const LOSSES: &[f64] = &[5.0, 3.0, 3.5, 3.6, 3.7, 1.0];
    let dir = tempfile::tempdir().unwrap();
    let output = run(arguments(dir.path()), &mut scripted(LOSSES), EarlyStopping::new(3), None);
    assert_eq!(output.state.global_step, 10, "epochs 3, 4 and 5 are worse than 2");
    assert_eq!(steps(dir.path()), [4, 10]);

    let dir = tempfile::tempdir().unwrap();
    let stopped: Vec<Box<dyn Callback>> = vec![Box::new(EarlyStopping::new(3)), Box::new(StopAfter(7))];
    run(arguments(dir.path()), &mut scripted(LOSSES), stopped, None);
    let newest = newest_complete(dir.path()).unwrap().checkpoint.unwrap();
    assert_eq!(newest.global_step, 7);
    // Without the saved counter, epochs 4, 5 and 6 would be too few to stop before the end.
    let resumed: Vec<Box<dyn Callback>> = vec![Box::new(EarlyStopping::new(3))];
    let output = run(arguments(dir.path()), &mut scripted(LOSSES), resumed, Some(&newest.path));
    assert_eq!(output.state.global_step, 10);
}

#[test]
fn an_early_stopped_run_takes_no_step_when_started_again() {
    const LOSSES: &[f64] = &[5.0, 3.0, 3.5, 3.6, 3.7, 1.0];
    let dir = tempfile::tempdir().unwrap();
    run(arguments(dir.path()), &mut scripted(LOSSES), EarlyStopping::new(2), None);
    let newest = newest_complete(dir.path()).unwrap().checkpoint.unwrap();
    assert_eq!(newest.global_step, 8);
    for _ in 0..2 {
        let output = run(arguments(dir.path()), &mut scripted(LOSSES), EarlyStopping::new(2), Some(&newest.path));
        assert_eq!(output.state.global_step, 8);
        assert_eq!(steps(dir.path()), [4, 8]);
    }
}

#[test]
fn early_stopping_needs_no_saving() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments { save_strategy: SaveStrategy::No, ..arguments(dir.path()) };
    let output = run(arguments, &mut scripted(&[5.0, 3.0, 3.5, 3.6, 1.0, 1.0]), EarlyStopping::new(2), None);
    assert_eq!(output.state.global_step, 8);
    assert_eq!((output.state.best_metric, output.state.best_model_checkpoint), (None, None));
}

#[test]
fn a_run_stopped_and_resumed_leaves_the_same_files() {
    const LOSSES: &[f64] = &[5.0, 3.0, 2.0, 2.5, 2.2, 2.1];
    let straight = tempfile::tempdir().unwrap();
    run(arguments(straight.path()), &mut scripted(LOSSES), none(), None);

    for stop in 1..12 {
        let dir = tempfile::tempdir().unwrap();
        check_output_dir(dir.path(), OutputDirUse::NewRun).unwrap();
        run(arguments(dir.path()), &mut scripted(LOSSES), StopAfter(stop), None);
        check_output_dir(dir.path(), OutputDirUse::NewRun).unwrap_err();
        check_output_dir(dir.path(), OutputDirUse::Resume).unwrap();
        let newest = newest_complete(dir.path()).unwrap().checkpoint.unwrap();
        assert_eq!(newest.global_step, stop);
        run(arguments(dir.path()), &mut scripted(LOSSES), none(), Some(&newest.path));

        assert_eq!(steps(dir.path()), steps(straight.path()), "stopped after {stop}");
        for step in steps(dir.path()) {
            for file in ["model.json", "optimizer.json", "training_progress.json"] {
                let read = |dir: &Path| fs::read(dir.join(format!("checkpoint-{step}")).join(file)).unwrap();
                assert_eq!(read(dir.path()), read(straight.path()), "{file} of step {step}, stopped after {stop}");
            }
        }
        let logged = |dir: &Path| fs::read_to_string(dir.join("metrics.jsonl")).unwrap().lines().count();
        assert_eq!(logged(dir.path()), logged(straight.path()), "stopped after {stop}");
    }
}

#[test]
fn only_a_run_resumed_in_this_folder_deletes_later_steps() {
    const LOSSES: &[f64] = &[5.0, 3.0, 2.0, 2.5, 2.2, 2.1];
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&one, &two] {
        run(TrainingArguments { save_total_limit: None, ..arguments(dir.path()) }, &mut scripted(LOSSES), none(), None);
        assert_eq!(steps(dir.path()), [2, 4, 6, 8, 10, 12]);
    }
    let resume_in_two = |from: &Path| {
        run(arguments(two.path()), &mut scripted(LOSSES), StopAfter(5), Some(&from.join("checkpoint-4")));
        steps(two.path())
    };
    // The best so far is the checkpoint of step 4 in the other folder, so this folder has no best.
    assert_eq!(resume_in_two(one.path()), [4, 5, 6, 8, 10, 12]);
    assert_eq!(resume_in_two(two.path()), [4, 5]);
}

#[test]
fn a_resume_skips_a_damaged_checkpoint() {
    const LOSSES: &[f64] = &[5.0, 3.0, 2.0, 2.5, 2.2, 2.1];
    let dir = tempfile::tempdir().unwrap();
    let keep_all = TrainingArguments { save_total_limit: None, ..arguments(dir.path()) };
    run(keep_all.clone(), &mut scripted(LOSSES), none(), None);
    fs::write(dir.path().join("checkpoint-12/optimizer.json"), "{").unwrap();
    let newest = newest_complete(dir.path()).unwrap();
    assert_eq!(newest.skipped.len(), 1);
    let checkpoint: PathBuf = newest.checkpoint.unwrap().path;
    assert_eq!(checkpoint, dir.path().join("checkpoint-10"));
    let mut learner = scripted(LOSSES);
    run(keep_all, &mut learner, none(), Some(&checkpoint));
    verify(&dir.path().join("checkpoint-12")).unwrap();
    let state = TrainerState::load(&dir.path().join("checkpoint-12/trainer_state.json")).unwrap();
    assert_eq!(state.log_history.iter().filter(|entry| entry.contains_key("eval_loss")).count(), 6);
}
