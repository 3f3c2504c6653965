//! A bad step changes only the counts.

use super::*;
use crate::WindowFigures;
use crate::progress::PROGRESS_FILE_NAME;

/// One row that makes its step bad: one of the three steps of an epoch.
fn bench_with_bad_row(value: f64) -> Bench {
    let bench = Bench::new();
    Bench { train: bench.train.clone().with_row(3, value), ..bench }
}

/// A learner whose loss is NaN from update `update` on.
fn breaking_at(update: u64) -> ToyLearner {
    ToyLearner::default().with_step_loss(move |step| if step >= update { f64::NAN } else { 1.0 })
}

#[test]
fn a_bad_step_updates_nothing_and_the_run_continues() {
    for bad in [f64::NAN, f64::INFINITY, f64::MAX] {
        let bench = bench_with_bad_row(bad);
        let mut learner = ToyLearner::default();
        let output = bench.train(bench.arguments(), &mut learner).unwrap();
        let history = &output.state.log_history;
        let skipped = steps_with(history, "skipped");
        assert_eq!((output.state.global_step, skipped.len()), (9, 3), "{history:?}");
        assert!(learner.weight().is_finite() && learner.momentum().is_finite());
        for (count, entry) in history.iter().filter(|entry| entry.contains_key("skipped")).enumerate() {
            let rows = entry["skipped_rows"].as_array().unwrap();
            assert!(rows.contains(&json!(3)) && matches!(rows.len(), 2 | 8), "{entry:?}");
            assert_eq!(entry["skipped_steps"], count + 1);
            assert!(entry["skipped"].as_str().unwrap().starts_with("loss is "), "{entry:?}");
        }
        let means = history.iter().flat_map(|entry| [entry.get("loss"), entry.get("train_loss")]).flatten();
        assert!(means.clone().count() > 3 && means.clone().all(|loss| loss.as_f64().is_some()), "{history:?}");
    }
}

/// The run is as if the bad window were not in the data, except that its step counts.
#[test]
fn weights_and_schedule_are_those_of_a_run_without_it() {
    let whole = Bench { train: ToySource::new(16, 4), ..Bench::new() }; // two steps an epoch
    let one_epoch = TrainingArguments {
        num_train_epochs: 1.0,
        warmup_ratio: 0.0,
        logging_steps: 1.0,
        lr_scheduler_type: crate::SchedulerType::ConstantWithWarmup,
        ..whole.arguments()
    };
    let mut skipping = ToyLearner::default();
    let bad = Bench { train: whole.train.clone().with_row(1, f64::NAN), ..Bench::new() };
    let output = bad.train(TrainingArguments { warmup_steps: Some(2.0), ..one_epoch.clone() }, &mut skipping).unwrap();
    assert_eq!(steps_with(&output.state.log_history, "skipped"), [1]);
    assert_eq!(steps_with(&output.state.log_history, "loss"), [2], "there is no loss of a skipped step");
    // The only update uses the first rate of the schedule, which is 0 with a warm-up.
    assert_eq!(output.state.log_history[1]["learning_rate"], 0.0);
    assert_eq!((skipping.weight(), output.state.epoch), (0.0, 1.0));
    assert!(skipping.momentum() != 0.0);
}

#[test]
fn a_bad_record_ends_the_run_when_steps_are_not_checked() {
    let bench = bench_with_bad_row(f64::NAN);
    let arguments = TrainingArguments { max_bad_steps: 0, logging_steps: 100.0, ..bench.arguments() };
    let recording = Recording::default();
    let error = bench.train_with(arguments, &mut ToyLearner::default(), Recorder::new(&recording)).unwrap_err();
    let Error::BadSteps { quantity: "loss", step: 1, in_a_row: 1, rows, checkpoint: None, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*rows, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(!bench.path().join("checkpoint-3").exists(), "it was found before the save");
    assert_eq!(recording.names().iter().filter(|name| **name == "on_step_end").count(), 3);
    assert_eq!(recording.names().iter().filter(|name| **name == "on_train_end").count(), 1);
}

/// The update fails because of a gradient that was not checked.
#[test]
fn an_update_that_fails_because_of_a_bad_gradient_is_reported_as_a_bad_step() {
    struct Strict(ToyLearner);
    impl Learner for Strict {
        type Batch = crate::testing::ToyBatch;

        fn forward_backward(&mut self, batch: &Self::Batch, window_target_tokens: u64) -> Result<(), BoxError> {
            self.0.forward_backward(batch, window_target_tokens)
        }
        fn window_figures(&mut self) -> Result<Option<WindowFigures>, BoxError> {
            self.0.window_figures()
        }
        fn discard_window(&mut self) -> Result<(), BoxError> {
            self.0.discard_window()
        }
        fn optimizer_step(&mut self, request: crate::StepRequest) -> Result<(), BoxError> {
            self.0.optimizer_step(request)?;
            if self.0.weight().is_finite() { Ok(()) } else { Err("no subspace".into()) }
        }
        fn take_step_records(&mut self) -> Result<Vec<crate::StepRecord>, BoxError> {
            self.0.take_step_records()
        }
        fn evaluate(&mut self, batch: &Self::Batch) -> Result<(), BoxError> {
            self.0.evaluate(batch)
        }
        fn take_eval_sums(&mut self) -> Result<crate::EvalSums, BoxError> {
            self.0.take_eval_sums()
        }
        fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError> {
            self.0.snapshot()
        }
        fn load_checkpoint(&mut self, dir: &Path) -> Result<(), BoxError> {
            self.0.load_checkpoint(dir)
        }
    }
    let bench = bench_with_bad_row(f64::NAN);
    let arguments = TrainingArguments { max_bad_steps: 0, ..bench.arguments() };
    let (mut learner, mut store) = (Strict(ToyLearner::default()), PlainStore::new(bench.path()));
    let trainer = Trainer::builder(arguments.clone(), &mut learner, &bench.train)
        .eval_source(&bench.eval)
        .store(&mut store)
        .build()
        .unwrap();
    let message = trainer.train().unwrap_err().to_string();
    assert!(
        message.starts_with("loss is NaN at step 1, rows 1, 2, 3, 4, 5, 6, 7, 8 of the training split"),
        "{message}"
    );

    let arguments = TrainingArguments { max_bad_steps: 1, ..arguments };
    let (mut learner, mut store) = (Strict(ToyLearner::default()), PlainStore::new(bench.path()));
    let trainer = Trainer::builder(arguments, &mut learner, &bench.train)
        .eval_source(&bench.eval)
        .store(&mut store)
        .build()
        .unwrap();
    let message = trainer.train().unwrap_err().to_string();
    assert!(message.starts_with("loss is NaN at step 1, rows"), "the update was tried: {message}");
}

#[test]
fn too_many_bad_steps_in_a_row_end_the_run() {
    for (max_bad_steps, last) in [(1, 5), (2, 6), (3, 7)] {
        let bench = Bench::new();
        let arguments = TrainingArguments { max_bad_steps, ..bench.arguments() };
        let mut learner = breaking_at(5);
        let error = bench.train(arguments, &mut learner).unwrap_err();
        let Error::BadSteps { step, in_a_row, checkpoint, .. } = &error else { panic!("{error}") };
        assert_eq!((*step, *in_a_row), (last, max_bad_steps));
        // Step 6 is the end of an epoch. Its checkpoint has the weights of step 4.
        let saved = if last > 6 { "checkpoint-6" } else { "checkpoint-3" };
        assert_eq!(checkpoint.as_deref(), Some(bench.path().join(saved).as_path()));
        assert!(learner.weight().is_finite());
    }
    let message = {
        let bench = Bench::new();
        bench.train(TrainingArguments { max_bad_steps: 2, ..bench.arguments() }, &mut breaking_at(5)).unwrap_err()
    };
    let message = message.to_string();
    let expected = "loss is NaN at step 6, the last of 2 steps in a row that are not finite, rows ";
    assert!(message.starts_with(expected) && message.contains("the last good checkpoint is "), "{message}");
}

#[test]
fn one_finite_step_resets_the_count() {
    let bench = Bench::new();
    // Two of the three steps of an epoch are bad.
    let train = bench.train.clone().with_row(1, f64::NAN).with_row(9, f64::NAN);
    let bench = Bench { train, ..bench };
    let arguments = TrainingArguments { max_bad_steps: 3, ..bench.arguments() };
    let output = bench.train(arguments, &mut ToyLearner::default()).unwrap();
    assert_eq!(steps_with(&output.state.log_history, "skipped"), [1, 2, 4, 5, 7, 8]);
}

/// Resumes after each step of a run with skipped steps. Rows, counts and the limit are those of the
/// uninterrupted run.
#[test]
fn resuming_a_run_with_bad_steps_changes_no_bit() {
    let bench = bench_with_bad_row(f64::NAN);
    let arguments = TrainingArguments { save_strategy: SaveStrategy::Steps, save_steps: 1.0, ..bench.arguments() };
    let mut learner = ToyLearner::default();
    let straight = bench.train(arguments.clone(), &mut learner).unwrap();
    let progress = std::fs::read_to_string(bench.path().join("checkpoint-9").join(PROGRESS_FILE_NAME)).unwrap();
    for step in 1..9 {
        let mut resumed = ToyLearner::default();
        let checkpoint = bench.path().join(format!("checkpoint-{step}"));
        let (_, output) = bench.resume(arguments.clone(), &mut resumed, &checkpoint).unwrap();
        assert_eq!(resumed.weight().to_bits(), learner.weight().to_bits(), "from step {step}");
        assert_eq!(timeless(&output.state.log_history), timeless(&straight.state.log_history));
        let found = std::fs::read_to_string(bench.path().join("checkpoint-9").join(PROGRESS_FILE_NAME)).unwrap();
        assert_eq!(found, progress);
    }
    assert!(progress.contains("\"total\": 3"), "{progress}");
}

#[test]
fn the_count_in_a_row_continues_after_a_resume() {
    let bench = Bench::new();
    let arguments = TrainingArguments { save_strategy: SaveStrategy::Steps, save_steps: 1.0, ..bench.arguments() };
    bench.train(arguments.clone(), &mut breaking_at(5)).unwrap_err();
    let error = bench.resume(arguments, &mut breaking_at(0), &bench.path().join("checkpoint-6")).unwrap_err();
    assert!(matches!(error, Error::BadSteps { step: 7, in_a_row: 3, .. }), "{error}");
    let checkpoint = bench.path().join("checkpoint-6");
    assert!(error.to_string().ends_with(&checkpoint.display().to_string()), "{error}");
}

#[test]
fn a_run_with_skipped_steps_only_has_no_means() {
    let bench = Bench::new();
    let arguments = TrainingArguments { max_bad_steps: 100, ..bench.arguments() };
    let output = bench.train(arguments, &mut breaking_at(0)).unwrap();
    assert_eq!((output.metrics["train_loss"].as_f64(), output.state.global_step), (Some(0.0), 9));
    assert_eq!(steps_with(&output.state.log_history, "loss"), [0u64; 0]);
}

#[test]
fn many_rows_are_named_in_part() {
    let error = Error::BadSteps {
        quantity: "grad_norm",
        value: f64::INFINITY,
        step: 2,
        in_a_row: 1,
        rows: (1..=100).collect(),
        checkpoint: None,
    };
    let message = error.to_string();
    assert!(message.starts_with("grad_norm is inf at step 2, rows 1, 2, 3"), "{message}");
    assert!(message.contains(", 63, 64 and 36 more of the training split"), "{message}");
    assert!(message.ends_with("no checkpoint was saved before"), "{message}");
}
