//! What the user sees while it trains.

use crate::{BoxError, Callback, Context, EventResult, LogEntry, Requests};
use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// A bar with the time left on a terminal, and a line per log and per evaluation. Elsewhere only
/// the lines.
pub struct ProgressBar {
    output: Output,
}

enum Output {
    Terminal(Bar),
    Lines(Box<dyn Write>),
}

impl Default for ProgressBar {
    fn default() -> Self {
        Self::stderr()
    }
}

impl ProgressBar {
    /// On stderr: a bar where that is a terminal.
    pub fn stderr() -> Self {
        let stderr = std::io::stderr();
        if !stderr.is_terminal() {
            return Self::lines(stderr);
        }
        Self { output: Output::Terminal(Bar::with_draw_target(None, ProgressDrawTarget::stderr())) }
    }

    /// Lines only, to any writer.
    pub fn lines(writer: impl Write + 'static) -> Self {
        Self { output: Output::Lines(Box::new(writer)) }
    }

    fn print(&mut self, line: &str) -> EventResult {
        match &mut self.output {
            Output::Terminal(bar) => bar.println(line),
            // Progress is a courtesy: a closed pipe must not end a training run.
            Output::Lines(writer) => drop(writeln!(writer, "{line}").and_then(|()| writer.flush())),
        }
        Ok(())
    }
}

impl Callback for ProgressBar {
    fn on_train_begin(&mut self, context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        if let Output::Terminal(bar) = &self.output {
            let template = "{bar:30} step {pos}/{len}  {elapsed} elapsed, {eta} left  {msg}";
            bar.set_style(ProgressStyle::with_template(template).map_err(BoxError::from)?);
            bar.set_length(context.state.max_steps);
            bar.set_position(context.state.global_step);
            // The time left is estimated from this session's steps only.
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        Ok(())
    }

    fn on_step_end(&mut self, context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        if let Output::Terminal(bar) = &self.output {
            bar.set_position(context.state.global_step);
            bar.set_message(format!("epoch {:.2}", context.state.epoch));
        }
        Ok(())
    }

    fn on_log(&mut self, context: &Context<'_>, entry: &LogEntry, _requests: &mut Requests) -> EventResult {
        let (step, max_steps) = (context.state.global_step, context.state.max_steps);
        let line = format!("step {step}/{max_steps}  epoch {:.2}  {}", context.state.epoch, figures(entry));
        self.print(&line)
    }

    fn on_notice(&mut self, _context: &Context<'_>, notice: &str, _requests: &mut Requests) -> EventResult {
        self.print(notice)
    }

    fn on_train_end(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        if let Output::Terminal(bar) = &self.output {
            bar.finish_and_clear();
        }
        Ok(())
    }
}

/// The figures of an entry, in their order, four significant digits each. What the line begins
/// with, and the speeds of an evaluation, are left to the files.
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
    use crate::{TrainerState, TrainingArguments};
    use serde_json::json;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_per_log() {
        let written = Shared::default();
        let mut bar = ProgressBar::lines(written.clone());
        let state = TrainerState { global_step: 85, max_steps: 540, epoch: 1.574, ..Default::default() };
        let context = Context { arguments: &TrainingArguments::default(), state: &state, resumed_from: None };
        let entry =
            json!({ "loss": 2.71449, "learning_rate": 9.831e-6, "num_tokens": 1234, "perplexity": null, "step": 85 });
        bar.on_log(&context, entry.as_object().unwrap(), &mut Requests::default()).unwrap();
        let text = String::from_utf8(written.0.borrow().clone()).unwrap();
        assert_eq!(
            text,
            "step 85/540  epoch 1.57  loss 2.714  learning_rate 9.831e-6  num_tokens 1234  perplexity not finite\n"
        );
    }

    #[test]
    fn words_and_lists_are_shown_and_notices_are_lines() {
        let rows: Vec<u64> = (1..=34).collect();
        assert_eq!(short(&json!("loss is NaN")), "loss is NaN");
        assert!(short(&json!(rows)).ends_with("31, 32 and 2 more"), "{}", short(&json!(rows)));
        let written = Shared::default();
        let context =
            Context { arguments: &TrainingArguments::default(), state: &TrainerState::default(), resumed_from: None };
        let mut bar = ProgressBar::lines(written.clone());
        bar.on_notice(&context, "saved", &mut Requests::default()).unwrap();
        assert_eq!(String::from_utf8(written.0.borrow().clone()).unwrap(), "saved\n");
    }

    #[test]
    fn four_significant_digits() {
        let shown = [0.0, 1.0, -0.012345, 12345.678, 1.5e7].map(|value| short(&json!(value)));
        assert_eq!(shown, ["0", "1.000", "-0.01235", "12346", "1.500e7"]);
    }
}
