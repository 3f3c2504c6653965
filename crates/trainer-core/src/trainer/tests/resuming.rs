//! A run that is stopped and resumed is bit for bit the uninterrupted run.

use super::*;
use crate::progress::{PROGRESS_FILE_NAME, TRAINING_ARGS_FILE_NAME};

/// Everything that a run leaves, except times.
#[derive(Debug, PartialEq)]
struct Outcome {
    weight: u64,
    momentum: u64,
    state: TrainerState,
    progress: String,
}

fn outcome(learner: &ToyLearner, output: TrainOutput, last_checkpoint: &Path) -> Outcome {
    let mut state = output.state;
    state.log_history = without_summary(&timeless(&state.log_history));
    Outcome {
        weight: learner.weight().to_bits(),
        momentum: learner.momentum().to_bits(),
        state,
        progress: std::fs::read_to_string(last_checkpoint.join(PROGRESS_FILE_NAME)).unwrap(),
    }
}

/// A resumed run that takes no step adds no summary.
fn without_summary(log_history: &[LogEntry]) -> Vec<LogEntry> {
    log_history.iter().filter(|entry| !entry.contains_key("train_loss")).cloned().collect()
}

/// What asks for the checkpoint of a stopped run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Saver {
    /// The callback that stops it.
    Callback,
    /// The save strategy `epoch`, which saves when the run leaves the epoch.
    Strategy,
}

/// A callback that stops the run after `step`.
fn stop_after(step: u64, saver: Saver) -> impl Callback {
    on_event(move |seen, requests| {
        if seen.event == "on_step_end" && seen.step == step {
            requests.request_stop();
            if saver == Saver::Callback {
                requests.request_save();
            }
        }
        Ok(())
    })
}

/// Arguments that take different paths through the loop.
fn variants(bench: &Bench) -> Vec<TrainingArguments> {
    let steps = TrainingArguments {
        eval_strategy: IntervalStrategy::Steps,
        eval_steps: Some(2.0),
        save_strategy: SaveStrategy::Steps,
        save_steps: 3.0,
        logging_steps: 4.0,
        metric_for_best_model: Some("loss".to_owned()),
        ..bench.arguments()
    };
    let per_epoch = TrainingArguments { logging_strategy: IntervalStrategy::Epoch, ..bench.arguments() };
    let within_an_epoch = TrainingArguments { max_steps: 8, eval_on_start: true, ..per_epoch.clone() };
    vec![steps, per_epoch, within_an_epoch]
}

#[test]
fn stopping_after_any_step_and_resuming_changes_no_bit() {
    let cases =
        [(0, Saver::Callback), (1, Saver::Callback), (1, Saver::Strategy), (2, Saver::Callback), (2, Saver::Strategy)];
    for (variant, saver) in cases {
        let bench = Bench::new();
        let arguments = variants(&bench).remove(variant);
        let mut learner = ToyLearner::default();
        let output = bench.train(arguments.clone(), &mut learner).unwrap();
        let last = output.state.global_step;
        let checkpoint = |step: u64| bench.path().join(format!("checkpoint-{step}"));
        let straight = outcome(&learner, output, &checkpoint(last));

        for stop in 1..=last {
            let mut stopped = ToyLearner::default();
            let output = bench.train_with(arguments.clone(), &mut stopped, stop_after(stop, saver)).unwrap();
            assert_eq!(output.state.global_step, stop);
            let mut resumed = ToyLearner::default();
            let (_, output) = bench.resume(arguments.clone(), &mut resumed, &checkpoint(stop)).unwrap();
            let found = outcome(&resumed, output, &checkpoint(last));
            assert_eq!(found, straight, "variant {variant}, {saver:?}, stopped after step {stop}");
        }
    }
}

/// A signal can come at any time, so the run is stopped at each of its events.
#[test]
fn stopping_in_any_event_and_resuming_changes_no_bit() {
    for variant in 0..3 {
        let bench = Bench::new();
        let arguments = variants(&bench).remove(variant);
        let (mut learner, recording) = (ToyLearner::default(), Recording::default());
        let output = bench.train_with(arguments.clone(), &mut learner, Recorder::new(&recording)).unwrap();
        let last = output.state.global_step;
        let checkpoint = |bench: &Bench, step: u64| bench.path().join(format!("checkpoint-{step}"));
        let straight = outcome(&learner, output, &checkpoint(&bench, last));

        for (index, name) in recording.names().into_iter().enumerate() {
            let bench = Bench::new();
            let arguments = TrainingArguments { output_dir: bench.path().to_owned(), ..arguments.clone() };
            let mut seen = 0;
            let stop = on_event(|_, requests| {
                if seen == index {
                    requests.request_save();
                    requests.request_stop();
                }
                seen += 1;
                Ok(())
            });
            let stopped_at = bench.train_with(arguments.clone(), &mut ToyLearner::default(), stop).unwrap().state;
            let saved = checkpoint(&bench, stopped_at.global_step);
            if !saved.exists() {
                assert_eq!(stopped_at.global_step, 0, "event {index}, {name}: stopped without a checkpoint");
                continue;
            }
            let mut resumed = ToyLearner::default();
            let (_, output) = bench.resume(arguments, &mut resumed, &saved).unwrap();
            let mut found = outcome(&resumed, output, &checkpoint(&bench, last));
            found.state.best_model_checkpoint = straight.state.best_model_checkpoint.clone(); // another folder
            found.state.stateful_callbacks = straight.state.stateful_callbacks.clone();
            if stopped_at.global_step == last {
                found.progress = straight.progress.clone(); // the checkpoint asked for replaced the last one
            }
            assert_eq!(found, straight, "variant {variant}, stopped in event {index}, {name}");
        }
    }
}

#[test]
fn resuming_a_finished_run_repeats_nothing() {
    for arguments in [|bench: &Bench| bench.arguments(), |bench: &Bench| variants(bench).remove(2)] {
        let bench = Bench::new();
        let arguments = arguments(&bench);
        let output = bench.train(arguments.clone(), &mut ToyLearner::default()).unwrap();
        let checkpoint = bench.path().join(format!("checkpoint-{}", output.state.global_step));
        let (resumed, again) = bench.resume(arguments, &mut ToyLearner::default(), &checkpoint).unwrap();
        assert_eq!(resumed.global_step, output.state.global_step);
        let expected = without_summary(&output.state.log_history);
        assert_eq!(again.state.log_history, expected, "nothing was evaluated or summed up again");
        assert_eq!((output.num_steps_this_session, again.num_steps_this_session), (output.state.global_step, 0));
        assert_eq!(again.metrics["train_loss"], output.metrics["train_loss"]);
        let keys: Vec<_> = again.metrics.keys().collect();
        assert_eq!(keys, ["train_loss", "epoch"], "a run that did nothing has no times");
    }
}

#[test]
fn more_epochs_continue_where_the_run_ended() {
    let bench = Bench::new();
    let constant = TrainingArguments { lr_scheduler_type: crate::SchedulerType::Constant, ..bench.arguments() };
    let mut straight = ToyLearner::default();
    let whole = bench.train(constant.clone(), &mut straight).unwrap();

    let one_epoch = TrainingArguments { num_train_epochs: 1.0, ..constant.clone() };
    bench.train(one_epoch, &mut ToyLearner::default()).unwrap();
    let mut extended = ToyLearner::default();
    let (resumed, output) = bench.resume(constant, &mut extended, &bench.path().join("checkpoint-3")).unwrap();
    assert_eq!((resumed.global_step, resumed.epoch), (3, 1.0));
    assert_eq!(extended.weight().to_bits(), straight.weight().to_bits());
    assert_eq!(timeless(&output.state.log_history), timeless(&whole.state.log_history));
}

#[test]
fn a_changed_seed_batch_or_split_is_named() {
    let mut bench = Bench::new();
    bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
    let checkpoint = bench.path().join("checkpoint-3");
    let changed = TrainingArguments { seed: 43, gradient_accumulation_steps: 1, ..bench.arguments() };
    bench.train = ToySource::new(17, 4);
    let message = bench.resume(changed, &mut ToyLearner::default(), &checkpoint).unwrap_err().to_string();
    for part in [
        "checkpoint-3",
        "seed was 42 and is now 43",
        "gradient_accumulation_steps was 2 and is now 1",
        "the number of training rows was 18 and is now 17",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("batch_size"), "{message}");
}

#[test]
fn a_checkpoint_with_missing_or_broken_files_is_named() {
    let bench = Bench::new();
    bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
    let checkpoint = bench.path().join("checkpoint-3");
    let resume = || bench.resume(bench.arguments(), &mut ToyLearner::default(), &checkpoint);
    for file in ["model.json", PROGRESS_FILE_NAME, TrainerState::FILE_NAME] {
        let path = checkpoint.join(file);
        let content = std::fs::read(&path).unwrap();
        for broken in [None, Some(&content[..content.len() / 2]), Some(&b"\xff\xfe"[..])] {
            std::fs::remove_file(&path).unwrap();
            if let Some(bytes) = broken {
                std::fs::write(&path, bytes).unwrap();
            }
            let message = resume().unwrap_err().to_string();
            assert!(message.contains(file), "{message}");
            std::fs::write(&path, &content).unwrap();
        }
    }
    resume().unwrap();
    let arguments: TrainingArguments = crate::json::read(&checkpoint.join(TRAINING_ARGS_FILE_NAME)).unwrap();
    assert_eq!(arguments, bench.arguments());
}

#[test]
fn values_that_no_run_writes_are_named() {
    let bench = Bench::new();
    bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
    let checkpoint = bench.path().join("checkpoint-3");
    let (state, progress) = (TrainerState::FILE_NAME, PROGRESS_FILE_NAME);
    let cases = [
        (state, "/global_step", json!(u64::MAX)),
        (state, "/global_step", json!(4)),
        (state, "/num_input_tokens_seen", json!(u64::MAX)),
        (state, "/epoch", json!(-1.0)),
        (progress, "/epoch", json!(u64::MAX)),
        (progress, "/epoch", json!((1u64 << 53) - 1)),
        (progress, "/micro_batches_done", json!(u64::MAX)),
        (progress, "/bad_steps/total", json!(4)),
        (progress, "/bad_steps/total", json!(u64::MAX)),
        (progress, "/bad_steps/in_a_row", json!(1)),
        (progress, "/since_log/num_steps", json!(4)),
        (progress, "/since_log/num_steps", json!(u64::MAX)),
        (progress, "/since_log/correct_tokens", json!(u64::MAX)),
        (progress, "/since_log/target_tokens", json!(u64::MAX)),
    ];
    for (file, pointer, value) in cases {
        let path = checkpoint.join(file);
        let content = std::fs::read(&path).unwrap();
        let mut changed: Value = serde_json::from_slice(&content).unwrap();
        *changed.pointer_mut(pointer).unwrap() = value.clone();
        std::fs::write(&path, changed.to_string()).unwrap();
        let error = bench.resume(bench.arguments(), &mut ToyLearner::default(), &checkpoint).unwrap_err();
        let message = error.to_string();
        std::fs::write(&path, &content).unwrap();
        assert!(matches!(error, Error::SavedValue { .. }), "{pointer} {value}: {message}");
        // A position that contradicts the number of steps is reported as the latter.
        let is_contradiction = message.contains("global_step is 3, but");
        let (field, named) = (pointer[1..].replace('/', "."), path.display().to_string());
        assert!(is_contradiction || message.contains(&format!("{named}: {field} is ")), "{message}");
    }
    bench.resume(bench.arguments(), &mut ToyLearner::default(), &checkpoint).unwrap();
}

/// Earlier versions did not count skipped steps.
#[test]
fn a_checkpoint_without_counts_of_bad_steps_has_none() {
    let bench = Bench::new();
    let mut learner = ToyLearner::default();
    bench.train(bench.arguments(), &mut learner).unwrap();
    let path = bench.path().join("checkpoint-3").join(PROGRESS_FILE_NAME);
    let mut progress: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    progress.as_object_mut().unwrap().shift_remove("bad_steps").unwrap();
    std::fs::write(&path, progress.to_string()).unwrap();
    let mut resumed = ToyLearner::default();
    bench.resume(bench.arguments(), &mut resumed, &bench.path().join("checkpoint-3")).unwrap();
    assert_eq!(resumed.weight().to_bits(), learner.weight().to_bits());
}

#[test]
fn a_moved_folder_finds_its_best_and_a_lost_best_is_reported() {
    let bench = Bench::new();
    let arguments = TrainingArguments { metric_for_best_model: Some("loss".into()), ..bench.arguments() };
    let mut best_first = ToyLearner::default().with_eval_loss(|step| step as f64);
    bench.train(arguments.clone(), &mut best_first).unwrap();

    let moved = tempfile::tempdir().unwrap();
    for step in ["checkpoint-3", "checkpoint-6"] {
        std::fs::rename(bench.path().join(step), moved.path().join(step)).unwrap();
    }
    let resume = || {
        let mut learner = ToyLearner::default().with_eval_loss(|step| step as f64);
        bench.resume(arguments.clone(), &mut learner, &moved.path().join("checkpoint-6")).unwrap()
    };
    let (resumed, output) = resume();
    assert_eq!(resumed.lost_best_checkpoint, None);
    assert_eq!(output.state.best_model_checkpoint, Some(moved.path().join("checkpoint-3")));

    std::fs::remove_dir_all(moved.path().join("checkpoint-3")).unwrap();
    let (resumed, output) = resume();
    assert_eq!(resumed.lost_best_checkpoint, Some(bench.path().join("checkpoint-3")));
    assert_eq!(output.state.best_global_step, Some(9), "the best of the remaining ones");
}

/// The recorded path still exists, but it belongs to the original run, or to another run.
#[test]
fn a_copied_run_uses_its_own_best_checkpoint() {
    let bench = Bench::new();
    let (original, copied) = (bench.path().join("q1"), bench.path().join("q2"));
    let arguments = TrainingArguments {
        metric_for_best_model: Some("loss".into()),
        output_dir: original.clone(),
        ..bench.arguments()
    };
    let worse_and_worse = |by: f64| ToyLearner::default().with_eval_loss(move |step| by * step as f64);
    bench.train(arguments.clone(), &mut worse_and_worse(1.0)).unwrap();
    std::fs::create_dir(&copied).unwrap();
    for step in ["checkpoint-3", "checkpoint-6"] {
        std::fs::create_dir(copied.join(step)).unwrap();
        for file in std::fs::read_dir(original.join(step)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copied.join(step).join(file.file_name())).unwrap();
        }
    }
    let copied_arguments = TrainingArguments { output_dir: copied.clone(), ..arguments.clone() };
    let resume = || {
        let checkpoint = copied.join("checkpoint-6");
        bench.resume(copied_arguments.clone(), &mut worse_and_worse(1.0), &checkpoint).unwrap()
    };
    let (resumed, output) = resume();
    assert_eq!(resumed.lost_best_checkpoint, None);
    assert_eq!(output.state.best_model_checkpoint, Some(copied.join("checkpoint-3")));

    // The original is trained again with other losses, and the copy loses its best checkpoint.
    std::fs::remove_dir_all(copied.join("checkpoint-3")).unwrap();
    bench.train(arguments.clone(), &mut worse_and_worse(2.0)).unwrap();
    let (resumed, _) = resume();
    assert_eq!(resumed.lost_best_checkpoint, Some(original.join("checkpoint-3")));
}

#[test]
fn callbacks_see_the_checkpoint_that_the_run_was_resumed_from() {
    struct Origin(Vec<Option<PathBuf>>);
    impl Callback for Origin {
        fn on_train_begin(&mut self, context: &CallbackContext<'_>, _: &mut Requests) -> EventResult {
            self.0.push(context.resumed_from.map(Path::to_owned));
            Ok(())
        }
    }
    let bench = Bench::new();
    let mut origin = Origin(Vec::new());
    bench.train_with(bench.arguments(), &mut ToyLearner::default(), &mut origin).unwrap();
    let checkpoint = bench.path().join("checkpoint-6");
    let (mut learner, mut store) = (ToyLearner::default(), PlainStore::new(bench.path()));
    let builder = Trainer::builder(bench.arguments(), &mut learner, &bench.train).eval_source(&bench.eval);
    let mut trainer = builder.store(&mut store).callback(&mut origin).build().unwrap();
    trainer.resume_from(&checkpoint).unwrap();
    trainer.train().unwrap();
    assert_eq!(origin.0, [None, Some(checkpoint)]);
}

#[test]
fn callbacks_get_their_state_back() {
    struct Counter(u64);
    impl Callback for Counter {
        fn on_step_end(&mut self, _: &CallbackContext<'_>, _: &mut Requests) -> EventResult {
            self.0 += 1;
            Ok(())
        }

        fn state(&self) -> Option<Value> {
            Some(self.0.into())
        }

        fn restore(&mut self, state: &Value) -> EventResult {
            self.0 = state.as_u64().ok_or("not a count")?;
            Ok(())
        }
    }

    let bench = Bench::new();
    let mut counter = Counter(0);
    bench.train_with(bench.arguments(), &mut ToyLearner::default(), &mut counter).unwrap();
    assert_eq!(counter.0, 9);

    let mut learner = ToyLearner::default();
    let mut store = PlainStore::new(bench.path());
    let mut counter = Counter(100);
    let builder = Trainer::builder(bench.arguments(), &mut learner, &bench.train).eval_source(&bench.eval);
    let mut trainer = builder.store(&mut store).callback(&mut counter).build().unwrap();
    trainer.resume_from(&bench.path().join("checkpoint-6")).unwrap();
    let output = trainer.train().unwrap();
    assert_eq!(counter.0, 9);
    assert_eq!(output.state.stateful_callbacks["Counter"], 9);
    assert!(output.state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"].is_boolean());
}

/// Evaluations that never improve. The rate halves after each, and resumed runs know the earlier
/// ones from the history.
#[test]
fn a_plateau_reduces_the_rate_and_survives_a_resume() {
    let bench = Bench::new();
    let kwargs = crate::SchedulerKwargs { patience: Some(0), factor: Some(0.5), ..Default::default() };
    let arguments = TrainingArguments {
        lr_scheduler_type: crate::SchedulerType::ReduceLrOnPlateau,
        lr_scheduler_kwargs: kwargs,
        logging_steps: 1.0,
        eval_on_start: true,
        ..bench.arguments()
    };
    let learner = || ToyLearner::default().with_eval_loss(|step| 1.0 + step as f64);
    let rates = |output: &TrainOutput| {
        let rates = output.state.log_history.iter().filter_map(|entry| entry.get("learning_rate")?.as_f64());
        rates.collect::<Vec<_>>()
    };
    let whole = bench.train(arguments.clone(), &mut learner()).unwrap();
    // The evaluation at the start does not count, so the one after step 3 is the first.
    assert_eq!(rates(&whole), [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05]);
    let (_, resumed) = bench.resume(arguments, &mut learner(), &bench.path().join("checkpoint-6")).unwrap();
    assert_eq!(rates(&resumed), rates(&whole));
}
