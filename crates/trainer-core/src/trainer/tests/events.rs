//! The order of events, compared with HF's Trainer and with lists; and requests.

use super::*;
use serde::Deserialize;

/// Recorded from transformers 5.17.0's Trainer by `goldens/make_events.py`.
const GOLDENS: &str = include_str!("../../../goldens/events.json");

#[derive(Deserialize)]
struct Golden {
    rows: usize,
    arguments: Map<String, Value>,
    events: Vec<GoldenEvent>,
}

#[derive(Deserialize)]
struct GoldenEvent {
    event: String,
    step: u64,
    epoch: f64,
    kind: Option<String>,
    learning_rate: Option<f64>,
}

#[test]
fn events_epochs_and_learning_rates_equal_hf() {
    let goldens: Vec<Golden> = serde_json::from_str(GOLDENS).unwrap();
    for golden in goldens {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = golden.arguments.clone();
        settings.extend([
            ("output_dir".to_owned(), json!(dir.path())),
            ("learning_rate".to_owned(), json!(1e-2)),
            ("per_device_train_batch_size".to_owned(), json!(2)),
        ]);
        let arguments: TrainingArguments = serde_json::from_value(Value::Object(settings)).unwrap();

        let (train, eval) = (ToySource::new(golden.rows, 2), ToySource::new(3, 2));
        let recording = Recording::default();
        let mut learner = ToyLearner::default();
        let mut store = PlainStore::new(dir.path());
        let builder = Trainer::builder(arguments, &mut learner, &train).eval_source(&eval).store(&mut store);
        builder.callback(Recorder::new(&recording)).build().unwrap().train().unwrap();

        let ours = recording.events();
        for (index, (ours, hf)) in ours.iter().zip(&golden.events).enumerate() {
            let place = format!("{:?} event {index}", golden.arguments);
            assert_eq!((ours.event, ours.step), (hf.event.as_str(), hf.step), "{place}");
            assert_eq!(ours.epoch.to_bits(), hf.epoch.to_bits(), "{place}: epoch {} is not {}", ours.epoch, hf.epoch);
            if let Some(kind) = &hf.kind {
                assert!(ours.entry.as_ref().unwrap().contains_key(kind), "{place}: {kind}");
            }
            if let Some(rate) = hf.learning_rate {
                let ours = ours.entry.as_ref().unwrap()["learning_rate"].as_f64().unwrap();
                assert!((ours - rate).abs() < 1e-14, "{place}: learning rate {ours} is not {rate}");
            }
        }
        assert_eq!(ours.len(), golden.events.len(), "{:?}", golden.arguments);
    }
}

#[test]
fn the_events_of_an_epoch() {
    let bench = Bench::new();
    let recording = Recording::default();
    let arguments = TrainingArguments { num_train_epochs: 1.0, ..bench.arguments() };
    bench.train_with(arguments, &mut ToyLearner::default(), Recorder::new(&recording)).unwrap();

    let event = Expected::event;
    let step = |last: u64| {
        let before = ["on_step_begin", "on_substep_end", "on_pre_optimizer_step", "on_optimizer_step"];
        let before = before.into_iter().filter(move |name| last < 3 || *name != "on_substep_end");
        let before = before.map(move |name| event(name).at_step(last - 1));
        before.chain([event("on_step_end").at_step(last)])
    };
    let expected: Vec<Expected> = [event("on_train_begin").at_step(0), event("on_epoch_begin").at_step(0)]
        .into_iter()
        .chain(step(1))
        .chain(step(2))
        .chain([event("on_log").at_step(2).with_key("loss")])
        .chain(step(3)) // the last window has one micro-batch
        .chain([
            event("on_epoch_end").at_step(3),
            event("on_log").at_step(3).with_key("eval_loss"),
            event("on_evaluate").at_step(3).with_key("perplexity"),
            event("on_save").at_step(3),
            event("on_log").at_step(3).with_key("train_loss"),
            event("on_train_end").at_step(3),
        ])
        .collect();
    recording.check(&expected).unwrap();
    assert!(recording.check(&expected[1..]).unwrap_err().starts_with("event 0: expected on_epoch_begin at step 0"));
}

#[test]
fn requests_are_served_once_after_the_step() {
    let bench = Bench::new();
    let recording = Recording::default();
    let ask = |seen: &Recorded, requests: &mut Requests| {
        if seen.event == "on_substep_end" && seen.step == 3 {
            requests.request_save();
            requests.request_evaluate();
            requests.request_log();
        }
        Ok(())
    };
    let arguments = TrainingArguments {
        eval_strategy: IntervalStrategy::No,
        save_strategy: SaveStrategy::No,
        logging_strategy: IntervalStrategy::No,
        ..bench.arguments()
    };
    let recorder = Recorder::new(&recording).with_hook(ask);
    bench.train_with(arguments, &mut ToyLearner::default(), recorder).unwrap();
    let events = recording.events();
    let after: Vec<_> =
        events.iter().filter(|seen| ["on_log", "on_evaluate", "on_save"].contains(&seen.event)).collect();
    let seen: Vec<_> = after.iter().map(|seen| (seen.event, seen.step)).collect();
    assert_eq!(seen, [("on_log", 4), ("on_log", 4), ("on_evaluate", 4), ("on_save", 4), ("on_log", 9)]);
    assert_eq!(after[3].checkpoint, Some(bench.path().join("checkpoint-4")));
}

#[test]
fn a_stop_ends_the_run_after_the_step() {
    let bench = Bench::new();
    let stop = on_event(|seen, requests| {
        if seen.event == "on_step_begin" && seen.step == 3 {
            requests.request_stop();
        }
        Ok(())
    });
    let output = bench.train_with(bench.arguments(), &mut ToyLearner::default(), stop).unwrap();
    assert_eq!(output.state.global_step, 4);
    // There is an evaluation after epoch 1. The part of epoch 2 is saved, so that the run can be
    // resumed, and not evaluated.
    assert_eq!(steps_with(&output.state.log_history, "eval_loss"), [3]);
    assert!(bench.path().join("checkpoint-4").is_dir());
}

#[test]
fn a_stop_before_the_first_step_ends_the_run() {
    let bench = Bench::new();
    let stop = on_event(|seen, requests| {
        if seen.event == "on_train_begin" {
            requests.request_stop();
        }
        Ok(())
    });
    let output = bench.train_with(bench.arguments(), &mut ToyLearner::default(), stop).unwrap();
    assert_eq!(output.state.global_step, 0);
}

#[test]
fn the_best_is_marked_and_its_checkpoint_recorded() {
    let bench = Bench::new();
    let mark = on_event(|seen, requests| {
        if seen.event == "on_evaluate" && seen.step == 6 {
            requests.mark_best(1.25);
            requests.request_save();
        }
        Ok(())
    });
    let output = bench.train_with(bench.arguments(), &mut ToyLearner::default(), mark).unwrap();
    let best = bench.path().join("checkpoint-6");
    assert_eq!(output.state.best_metric, Some(1.25));
    assert_eq!(output.state.best_global_step, Some(6));
    assert_eq!(output.state.best_model_checkpoint, Some(best.clone()));
    assert_eq!(output.state.best_evaluation().unwrap()["step"], 6);
    let saved = TrainerState::load(&best.join(TrainerState::FILE_NAME)).unwrap();
    assert_eq!(saved.best_model_checkpoint, Some(best), "the checkpoint names itself as the best");
}

#[test]
fn a_best_evaluation_that_is_not_saved_has_no_checkpoint() {
    let bench = Bench::new();
    let mark = on_event(|seen, requests| {
        match (seen.event, seen.step) {
            ("on_evaluate", 3) => (requests.mark_best(2.0), requests.request_save()).1,
            ("on_evaluate", 6) => requests.mark_best(1.0),
            _ => {}
        }
        Ok(())
    });
    let arguments = TrainingArguments { save_strategy: SaveStrategy::No, ..bench.arguments() };
    let output = bench.train_with(arguments, &mut ToyLearner::default(), mark).unwrap();
    assert!(bench.path().join("checkpoint-3").exists());
    assert_eq!((output.state.best_metric, output.state.best_global_step), (Some(1.0), Some(6)));
    assert_eq!(output.state.best_model_checkpoint, None, "checkpoint-3 is not that of the best metric");
}

/// Epoch 2 of 3 is the best.
fn middle_is_best() -> ToyLearner {
    ToyLearner::default().with_eval_loss(|step| [2.0, 1.0, 1.5][step as usize / 3 - 1])
}

#[test]
fn load_best_model_at_end_loads_it() {
    let bench = Bench::new();
    let mut learner = middle_is_best();
    let arguments = TrainingArguments { load_best_model_at_end: true, ..bench.arguments() };
    let output = bench.train(arguments, &mut learner).unwrap();
    assert_eq!(output.state.best_global_step, Some(6));
    let mut best = ToyLearner::default();
    best.load_checkpoint(&bench.path().join("checkpoint-6")).unwrap();
    assert_eq!(learner.weight().to_bits(), best.weight().to_bits());
    let mut last = ToyLearner::default();
    last.load_checkpoint(&bench.path().join("checkpoint-9")).unwrap();
    assert_ne!(learner.weight(), last.weight());
}

#[test]
fn save_strategy_best_saves_improvements_only() {
    let bench = Bench::new();
    let arguments = TrainingArguments { save_strategy: SaveStrategy::Best, ..bench.arguments() };
    bench.train(arguments, &mut middle_is_best()).unwrap();
    let exists = [3, 6, 9].map(|step| bench.path().join(format!("checkpoint-{step}")).exists());
    assert_eq!(exists, [true, true, false]);
}

#[test]
fn evaluation_on_start_is_step_0() {
    let bench = Bench::new();
    let arguments = TrainingArguments { eval_on_start: true, ..bench.arguments() };
    let output = bench.train(arguments, &mut ToyLearner::default()).unwrap();
    assert_eq!(steps_with(&output.state.log_history, "eval_loss"), [0, 3, 6, 9]);
}
