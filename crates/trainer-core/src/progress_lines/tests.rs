use super::*;
use crate::testing::{PlainStore, ToyLearner, ToySource, TraceRecording};
use crate::{Trainer, TrainingArguments};
use std::sync::Mutex;
use tracing::Level;

/// Trains 2 epochs of 8 steps, in which every event takes `seconds`, and returns the lines.
fn lines(arguments: TrainingArguments, seconds: f64) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments { output_dir: dir.path().to_owned(), num_train_epochs: 2.0, ..arguments };
    let (train, eval) = (ToySource::new(64, 8), ToySource::new(16, 8));
    let time = Arc::new(Mutex::new(0.0));
    let clock = {
        let time = Arc::clone(&time);
        move || Duration::from_secs_f64(*time.lock().unwrap())
    };
    let passing = crate::testing::Recorder::new(&Default::default()).with_hook(move |seen, _| {
        if seen.event == "on_step_begin" {
            *time.lock().unwrap() += seconds;
        }
        Ok(())
    });
    let (mut learner, mut store) = (ToyLearner::default(), PlainStore::new(dir.path()));
    let recording = TraceRecording::default();
    recording.capture(|| {
        let trainer = Trainer::builder(arguments, &mut learner, &train).eval_source(&eval).store(&mut store);
        let lines = ProgressLines::default().with_clock(clock);
        trainer.callback(passing).callback(lines).build().unwrap().train().unwrap()
    });
    let is_ours =
        |event: &crate::testing::Traced| event.level == Level::INFO && event.target.ends_with("progress_lines");
    recording.events().into_iter().filter(is_ours).map(|event| event.message).collect()
}

#[test]
fn a_quick_run_shows_its_first_loss_and_that_of_each_epoch() {
    let lines = lines(TrainingArguments::documented_recipe(), 0.01);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].starts_with("step 1/16  epoch 0.12  loss ") && !lines[0].contains("in this epoch"), "{lines:?}");
    assert!(lines[1].starts_with("step 8/16  epoch 1.00  loss ") && lines[1].ends_with(" in this epoch"), "{lines:?}");
    assert!(lines[2].starts_with("step 16/16  epoch 2.00  loss "), "{lines:?}");
}

#[test]
fn what_the_loop_logs_is_not_told_twice() {
    let recipe = TrainingArguments::documented_recipe;
    assert_eq!(lines(TrainingArguments { logging_steps: 1.0, ..recipe() }, 0.01), [""; 0]);
    assert_eq!(lines(TrainingArguments { logging_first_step: true, logging_steps: 8.0, ..recipe() }, 0.01), [""; 0]);
    let by_epoch = TrainingArguments { logging_strategy: IntervalStrategy::Epoch, ..recipe() };
    assert_eq!(lines(by_epoch, 0.01).len(), 1, "only the first step");
}

#[test]
fn a_slow_run_has_a_line_every_30_seconds() {
    let told = lines(TrainingArguments::documented_recipe(), 16.0);
    let progress: Vec<&String> = told.iter().filter(|line| line.contains(" left")).collect();
    // Every second step, because a step takes 16 s; evaluations and the first loss are lines too.
    assert!((5..=7).contains(&progress.len()), "{told:#?}");
    let first = progress[0];
    assert!(first.starts_with("step 3/16  epoch 0.38  loss "), "{first}");
    assert!(first.contains(" tok/s  >3m28s left"), "{first}");
    let later = progress.last().unwrap();
    assert!(!later.contains('>') && later.contains("s left"), "{later}");
}

#[test]
fn an_evaluation_has_lines_too() {
    let time = Arc::new(Mutex::new(0));
    let clock = Arc::clone(&time);
    let mut lines = ProgressLines::default().with_clock(move || Duration::from_secs(*clock.lock().unwrap()));
    let arguments = TrainingArguments::documented_recipe();
    let mut state = crate::TrainerState { max_steps: 20, num_train_epochs: 10, eval_steps: 500, ..Default::default() };
    let recording = TraceRecording::default();
    recording.capture(|| {
        let requests = &mut Requests::default();
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
        lines.on_train_begin(&context, requests).unwrap();
        state.global_step = 2;
        state.epoch = 1.0;
        *time.lock().unwrap() = 4;
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
        lines.on_step_end(&context, requests).unwrap();
        for batches_done in 1..=40 {
            *time.lock().unwrap() += 2;
            lines.on_prediction_step(&context, EvaluationProgress { batches_done, num_batches: 40 }, requests).unwrap();
        }
    });
    let messages = recording.messages(Level::INFO);
    // 18 steps of 4 s; the rest of this evaluation of 80 s, and 9 more of them.
    let expected = ["step 2/20  evaluating 13/40  14m06s left", "step 2/20  evaluating 28/40  13m36s left"];
    assert_eq!(messages, expected);
}

#[test]
fn the_time_of_day_is_in_utc() {
    let text = super::time_of_day().to_string();
    let time = chrono::NaiveDateTime::parse_from_str(&text, "[%Y-%m-%dT%H:%M:%SZ]").unwrap().and_utc();
    assert!((chrono::Utc::now() - time).num_seconds().abs() < 60, "{text}");
}
