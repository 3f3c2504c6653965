//! A log entry as a line for the terminal.

use crate::{LogEntry, TrainerState};
use serde_json::Value;

/// The target of the `tracing` events that tell of new entries in the log history. The message of
/// such an event is a line for the terminal; the fields are `step`, `epoch` and `entry`, the entry
/// as JSON text.
pub const LOG_TARGET: &str = "trainer_core::log";

/// Emits the event of `entry`, which was just added to the history of `state`.
pub(crate) fn emit(state: &TrainerState, entry: &LogEntry) {
    tracing::info!(
        target: LOG_TARGET,
        step = state.global_step,
        epoch = state.epoch,
        entry = %serde_json::Value::from(entry.clone()),
        "{}",
        line(state, entry)
    );
}

/// `step 85/540  epoch 1.57  loss 2.714  …`
fn line(state: &TrainerState, entry: &LogEntry) -> String {
    format!("step {}/{}  epoch {:.2}  {}", state.global_step, state.max_steps, state.epoch, figures(entry))
}

/// The figures of an entry in their order, with four significant digits each. It leaves out the
/// step and the epoch, which begin the line, and the speeds of an evaluation.
fn figures(entry: &LogEntry) -> String {
    let is_hidden =
        |key: &str| matches!(key, "epoch" | "step") || key.starts_with("eval_") && key.ends_with("_per_second");
    let shown = entry.iter().filter(|(key, _)| !is_hidden(key));
    shown.map(|(key, value)| format!("{key} {}", short(value))).collect::<Vec<_>>().join("  ")
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => "not finite".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => short_list(values),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            let magnitude = number.abs();
            if number == 0.0 {
                "0".to_owned()
            } else if !(1e-3..1e6).contains(&magnitude) {
                format!("{number:.3e}")
            } else {
                let digits_before = magnitude.log10().floor() as i64 + 1;
                format!("{number:.*}", (4 - digits_before).clamp(0, 6) as usize)
            }
        }
        other => other.to_string(),
    }
}

fn short_list(values: &[Value]) -> String {
    const SHOWN: usize = 32;
    let shown = values.iter().take(SHOWN).map(Value::to_string).collect::<Vec<_>>().join(", ");
    if values.len() > SHOWN { format!("{shown} and {} more", values.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TraceRecording;
    use serde_json::json;

    #[test]
    fn an_event_with_a_line_per_entry() {
        let state = TrainerState { global_step: 85, max_steps: 540, epoch: 1.574, ..Default::default() };
        let entry =
            json!({ "loss": 2.71449, "learning_rate": 9.831e-6, "num_tokens": 1234, "perplexity": null, "step": 85 });
        let recording = TraceRecording::default();
        recording.capture(|| emit(&state, entry.as_object().unwrap()));
        let events = recording.events();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].level, events[0].target.as_str()), (tracing::Level::INFO, "trainer_core::log"));
        assert_eq!(
            events[0].message,
            "step 85/540  epoch 1.57  loss 2.714  learning_rate 9.831e-6  num_tokens 1234  perplexity not finite"
        );
        assert_eq!((events[0].fields["step"].as_str(), events[0].fields["epoch"].as_str()), ("85", "1.574"));
        assert_eq!(serde_json::from_str::<Value>(&events[0].fields["entry"]).unwrap(), entry);
    }

    #[test]
    fn words_and_lists_are_shown() {
        let rows: Vec<u64> = (1..=34).collect();
        assert_eq!(short(&json!("loss is NaN")), "loss is NaN");
        assert!(short(&json!(rows)).ends_with("31, 32 and 2 more"), "{}", short(&json!(rows)));
    }

    #[test]
    fn four_significant_digits() {
        let shown = [0.0, 1.0, -0.012345, 12345.678, 1.5e7].map(|value| short(&json!(value)));
        assert_eq!(shown, ["0", "1.000", "-0.01235", "12346", "1.500e7"]);
    }
}
