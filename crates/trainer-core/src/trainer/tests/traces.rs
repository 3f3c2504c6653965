//! The spans and events of a run.

use super::*;
use crate::LOG_TARGET;
use crate::testing::{TraceRecording, Traced};
use tracing::Level;

fn log_events(recording: &TraceRecording) -> Vec<Traced> {
    recording.events().into_iter().filter(|event| event.target == LOG_TARGET).collect()
}

#[test]
fn a_run_is_told_in_spans() {
    let (bench, recording) = (Bench::new(), TraceRecording::default());
    recording.capture(|| bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap());
    let spans = recording.spans();
    let of = |name: &str, field: &'static str| -> Vec<String> {
        spans.iter().filter(|span| span.message == name).map(|span| span.fields[field].clone()).collect()
    };
    assert_eq!(of("run", "max_steps"), ["9"]);
    assert_eq!(of("epoch", "epoch"), ["0", "1", "2"]);
    assert_eq!(of("step", "step"), ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(of("step", "epoch"), ["0", "0", "0", "1", "1", "1", "2", "2", "2"]);
    assert_eq!(of("evaluate", "step"), ["3", "6", "9"]);
    assert_eq!(of("save", "step"), ["3", "6", "9"]);
    assert_eq!(spans.len(), 1 + 3 + 9 + 3 + 3);
    for span in &spans {
        let expected = if span.message == "step" { Level::DEBUG } else { Level::INFO };
        assert_eq!(span.level, expected, "{}", span.message);
    }
    assert_eq!(recording.messages(Level::WARN), [""; 0]);
}

#[test]
fn each_entry_of_the_history_is_one_event() {
    let (bench, recording) = (Bench::new(), TraceRecording::default());
    std::fs::write(bench.path().join("checkpoint-6"), "a file in its place").unwrap();
    let output = recording.capture(|| bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap());
    let events = log_events(&recording);
    let entries: Vec<Value> =
        events.iter().map(|event| serde_json::from_str(&event.fields["entry"]).unwrap()).collect();
    let history: Vec<Value> = output.state.log_history.iter().cloned().map(Value::from).collect();
    assert_eq!(entries, history);
    assert!(events[0].message.starts_with("step 2/9  epoch 0.80  loss "), "{}", events[0].message);
    let failed: Vec<&Traced> = events.iter().filter(|event| event.message.contains("save_error")).collect();
    assert_eq!((failed.len(), failed[0].fields["step"].as_str()), (1, "6"));
    assert!(failed[0].message.starts_with("step 6/9  epoch 2.00  save_error saving the checkpoint of step 6 failed: "));
}

#[test]
fn an_event_comes_before_what_callbacks_say_about_the_entry() {
    let (bench, recording) = (Bench::new(), TraceRecording::default());
    let warn = on_event(|seen, _| {
        if seen.event == "on_log" && seen.step == 2 {
            tracing::warn!("the loss is high");
        }
        Ok(())
    });
    recording.capture(|| bench.train_with(bench.arguments(), &mut ToyLearner::default(), warn).unwrap());
    let messages: Vec<String> = recording.events().into_iter().map(|event| event.message).collect();
    assert!(messages[0].starts_with("step 2/9"), "{messages:?}");
    assert_eq!(messages[1], "the loss is high");
}

#[test]
fn a_lost_best_checkpoint_is_a_warning() {
    let bench = Bench::new();
    let arguments = TrainingArguments { metric_for_best_model: Some("loss".into()), ..bench.arguments() };
    let rising = || ToyLearner::default().with_eval_loss(|step| step as f64);
    bench.train(arguments.clone(), &mut rising()).unwrap();
    let lost = bench.path().join("checkpoint-3");
    std::fs::remove_dir_all(&lost).unwrap();
    let recording = TraceRecording::default();
    let checkpoint = bench.path().join("checkpoint-6");
    recording.capture(|| bench.resume(arguments, &mut rising(), &checkpoint).unwrap());
    let lost = lost.display();
    let expected = format!("the best checkpoint {lost} no longer exists; the search for the best starts again");
    assert_eq!(recording.messages(Level::WARN), [expected]);
}
