//! Failures are errors that name their cause, and nothing is saved after them.

use super::*;
use crate::testing::ToyBatch;

#[test]
fn an_evaluation_that_is_not_finite_ends_the_run_before_the_save() {
    for bad in [f64::NAN, f64::INFINITY] {
        let bench = Bench::new();
        let mut learner = ToyLearner::default().with_eval_loss(move |step| if step == 6 { bad } else { 1.0 });
        let recording = Recording::default();
        let error = bench.train_with(bench.arguments(), &mut learner, Recorder::new(&recording)).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with(&format!("eval_loss is {bad} at step 6")), "{message}");
        let last_good = format!("the last good checkpoint is {}", bench.path().join("checkpoint-3").display());
        assert!(message.ends_with(&last_good), "{message}");
        let logged = recording.events();
        let entry = logged.iter().rev().find_map(|seen| seen.entry.clone()).unwrap();
        assert_eq!((&entry["eval_loss"], &entry["step"]), (&Value::Null, &json!(6)));
        assert!(!bench.path().join("checkpoint-6").exists());
    }
}

#[test]
fn a_model_that_is_not_finite_is_neither_saved_nor_the_result() {
    let bench = Bench::new();
    let message = bench.train(bench.arguments(), &mut ToyLearner::default().breaking_after(5)).unwrap_err().to_string();
    assert!(message.starts_with("the model is not finite after step 6: weight is NaN"), "{message}");
    let exist = [3, 6].map(|step| bench.path().join(format!("checkpoint-{step}")).exists());
    assert_eq!(exist, [true, false]);

    let unsaved = TrainingArguments { save_strategy: SaveStrategy::No, ..bench.arguments() };
    let error = bench.train(unsaved, &mut ToyLearner::default().breaking_after(9)).unwrap_err();
    assert!(matches!(error, Error::NonFiniteModel { step: 9, .. }), "{error}");
}

#[test]
fn an_error_of_a_callback_names_it_and_all_callbacks_see_the_end_once() {
    let bench = Bench::new();
    let recording = Recording::default();
    let failing =
        on_event(
            |seen, _| {
                if seen.event == "on_step_end" && seen.step == 2 { Err("the disk is full".into()) } else { Ok(()) }
            },
        );
    let callbacks: Vec<Box<dyn Callback + '_>> = vec![Box::new(failing), Box::new(Recorder::new(&recording))];
    let error = bench.train_with(bench.arguments(), &mut ToyLearner::default(), callbacks).unwrap_err();
    assert_eq!(error.to_string(), "callback Recorder failed in on_step_end: the disk is full");
    let names = recording.names();
    assert_eq!(names.last(), Some(&"on_train_end"));
    assert_eq!(names.iter().filter(|name| **name == "on_train_end").count(), 1);
    assert_eq!(names.iter().filter(|name| **name == "on_step_end").count(), 1, "step 2 did not reach the second");
}

#[test]
fn an_error_at_the_end_is_reported_too() {
    let bench = Bench::new();
    let failing = on_event(|seen, _| if seen.event == "on_train_end" { Err("late".into()) } else { Ok(()) });
    let error = bench.train_with(bench.arguments(), &mut ToyLearner::default(), failing).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("callback Recorder failed in on_train_end: late; the last good"), "{message}");
}

#[test]
fn unusable_arguments_and_empty_splits_are_refused_before_training() {
    let bench = Bench::new();
    let bad = TrainingArguments { learning_rate: -1.0, ..bench.arguments() };
    assert!(matches!(bench.train(bad, &mut ToyLearner::default()), Err(Error::Arguments { .. })));

    let empty = Bench { train: ToySource::new(0, 4), ..Bench::new() };
    let error = empty.train(empty.arguments(), &mut ToyLearner::default()).unwrap_err();
    assert_eq!(error.to_string(), "the training split has no rows: give it at least one");
    let empty = Bench { eval: ToySource::new(0, 4), ..Bench::new() };
    let error = empty.train(empty.arguments(), &mut ToyLearner::default()).unwrap_err();
    assert_eq!(error.to_string(), "the evaluation split has no rows: give it at least one");
}

#[test]
fn one_row_trains() {
    let bench = Bench { train: ToySource::new(1, 4), eval: ToySource::new(1, 4), ..Bench::new() };
    let output = bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
    assert_eq!((output.state.global_step, output.state.epoch), (3, 3.0));
}

#[test]
fn an_evaluation_asked_for_without_a_split_is_an_error() {
    let bench = Bench::new();
    let arguments = TrainingArguments { eval_strategy: IntervalStrategy::No, ..bench.arguments() };
    let mut learner = ToyLearner::default();
    let mut store = PlainStore::new(bench.path());
    let ask = on_event(|seen, requests| {
        if seen.event == "on_step_end" {
            requests.request_evaluate();
        }
        Ok(())
    });
    let builder = Trainer::builder(arguments, &mut learner, &bench.train).store(&mut store);
    let error = builder.callback(ask).build().unwrap().train().unwrap_err();
    assert!(matches!(error, Error::NoEvaluationSplit { step: 1 }), "{error}");
}

/// Announces more batches than it has, or fails at a batch.
struct BadSource {
    num_batches: usize,
    fails: bool,
}

impl BatchSource for BadSource {
    type Batch = ToyBatch;

    fn num_rows(&self) -> usize {
        8
    }

    fn num_batches(&self) -> usize {
        self.num_batches
    }

    fn batches(&self, _epoch: u64, first: usize) -> Result<Batches<'_, ToyBatch>, BoxError> {
        let good = (0..2).map(|_| Ok(ToyBatch(vec![1.0])));
        let bad = self.fails.then(|| Err("bad UTF-8 in row 3".into()));
        Ok(Box::new(good.chain(bad).skip(first)))
    }
}

#[test]
fn a_source_that_ends_early_or_fails_is_named() {
    let bench = Bench::new();
    let error = |fails| {
        let (mut learner, mut store) = (ToyLearner::default(), PlainStore::new(bench.path()));
        let source = BadSource { num_batches: 4, fails };
        let arguments = TrainingArguments { eval_strategy: IntervalStrategy::No, ..bench.arguments() };
        let trainer = Trainer::builder(arguments, &mut learner, &source).store(&mut store).build().unwrap();
        trainer.train().unwrap_err().to_string()
    };
    assert_eq!(error(false), "epoch 0 of the training split ended after 2 of 4 micro-batches");
    assert_eq!(error(true), "reading micro-batch 2 of epoch 0 (training) failed: bad UTF-8 in row 3");
}

#[test]
fn a_last_save_that_fails_is_reported_with_the_checkpoint_to_resume_from() {
    let bench = Bench::new();
    for (in_the_way, rest) in
        [(&[9][..], "the last good checkpoint is"), (&[3, 6, 9], "no checkpoint was saved before")]
    {
        for step in in_the_way {
            let path = bench.path().join(format!("checkpoint-{step}"));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::write(path, "a file in its place").unwrap();
        }
        let output = bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
        let failure = output.saves.failure().unwrap();
        assert!(failure.starts_with("saving the checkpoint of step 9 failed: ") && failure.contains(rest), "{failure}");
        let newest = bench.path().join("checkpoint-6");
        assert_eq!(failure.ends_with(&newest.display().to_string()), in_the_way.len() == 1, "{failure}");
    }
    // The checkpoint that a run was resumed from counts as well.
    let bench = Bench::new();
    bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
    std::fs::remove_dir_all(bench.path().join("checkpoint-9")).unwrap();
    std::fs::write(bench.path().join("checkpoint-9"), "a file in its place").unwrap();
    let (mut learner, mut store) = (ToyLearner::default(), PlainStore::new(bench.path()));
    let mut trainer = Trainer::builder(bench.arguments(), &mut learner, &bench.train)
        .eval_source(&bench.eval)
        .store(&mut store)
        .build()
        .unwrap();
    trainer.resume_from(&bench.path().join("checkpoint-6")).unwrap();
    let failure = trainer.train().unwrap().saves.failure().unwrap();
    assert!(failure.ends_with("checkpoint-6"), "{failure}");
}

#[test]
fn a_save_that_fails_is_logged_and_the_next_one_tried() {
    let bench = Bench::new();
    std::fs::write(bench.path().join("checkpoint-3"), "a file in its place").unwrap();
    let recording = Recording::default();
    let output = bench.train_with(bench.arguments(), &mut ToyLearner::default(), Recorder::new(&recording)).unwrap();
    let SaveReport { num_saved, num_failed, last_error, last_checkpoint } = output.saves;
    assert_eq!((num_saved, num_failed, last_error), (2, 1, None));
    assert_eq!(last_checkpoint, Some(bench.path().join("checkpoint-9")));
    let failure = output.state.log_history.iter().find(|entry| entry.contains_key("save_error")).unwrap();
    let message = failure["save_error"].as_str().unwrap();
    assert!(message.starts_with("saving the checkpoint of step 3 failed: "), "{message}");
    assert_eq!(failure["step"], 3);
    let num_events = recording.events().iter().filter(|seen| seen.entry.as_ref() == Some(failure)).count();
    assert_eq!(num_events, 1, "callbacks see it once, as any other entry");
    let saved: Vec<u64> =
        recording.events().iter().filter(|seen| seen.event == "on_save").map(|seen| seen.step).collect();
    assert_eq!(saved, [6, 9]);

    for step in [6, 9] {
        std::fs::remove_dir_all(bench.path().join(format!("checkpoint-{step}"))).unwrap();
        std::fs::write(bench.path().join(format!("checkpoint-{step}")), "").unwrap();
    }
    let saves = bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap().saves;
    assert_eq!((saves.num_saved, saves.num_failed), (0, 3));
    assert!(saves.last_error.unwrap().starts_with("saving the checkpoint of step 9 failed: "));
}

/// As when the disk is full when the run writes its last lines.
#[test]
fn a_callback_that_fails_at_the_end_names_the_checkpoints() {
    let bench = Bench::new();
    let message = |arguments: TrainingArguments| {
        let fails = on_event(|seen, _| if seen.event == "on_train_end" { Err("no space left".into()) } else { Ok(()) });
        let mut learner = ToyLearner::default().with_eval_loss(|step| [0.9, 0.7, 0.8][step as usize / 3 - 1]);
        bench.train_with(arguments, &mut learner, fails).unwrap_err().to_string()
    };
    let (best, newest) = (bench.path().join("checkpoint-6"), bench.path().join("checkpoint-9"));
    let start = "callback Recorder failed in on_train_end: no space left";
    assert_eq!(
        message(TrainingArguments { metric_for_best_model: Some("loss".into()), ..bench.arguments() }),
        format!("{start}; the last good checkpoint is {}, the best one is {}", newest.display(), best.display())
    );
    assert_eq!(message(bench.arguments()), format!("{start}; the last good checkpoint is {}", newest.display()));
    assert_eq!(message(TrainingArguments { save_strategy: SaveStrategy::No, ..bench.arguments() }), start);
}
