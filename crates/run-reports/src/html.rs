//! `report.html`: one page that shows how a run goes. It has no links, so it can be sent around.

mod chart;
mod page;
mod words;

use crate::reporter::{Places, Reporter};
use crate::run_record::{Chronicle, RunRecord};
use crate::{Error, whole_file};
pub use page::{card, framed, page};
use serde_json::Value;
use std::time::Instant;
use trainer_core::{CallbackContext, LogEntry};
pub use words::{Words, escaped};

/// Writes `report.html` into the output folder after each evaluation and each checkpoint, and at
/// the end.
#[derive(Debug)]
pub struct HtmlReport {
    places: Places,
    chronicle: Chronicle,
    /// When the last log was, and the tokens trained on by then.
    last_log: Option<(Instant, u64)>,
    /// Seconds of evaluations since then.
    evaluation_seconds: f64,
}

impl HtmlReport {
    /// The name of the file in the output folder.
    pub const FILE_NAME: &'static str = "report.html";

    /// A reporter. It writes nothing before the first evaluation.
    pub fn new(places: Places) -> Self {
        let chronicle = Chronicle {
            settings: places.settings.clone(),
            differences: places.differences.clone(),
            data: places.data.clone(),
            run_name: places.run_name.clone(),
            ..Chronicle::default()
        };
        Self { places, chronicle, last_log: None, evaluation_seconds: 0.0 }
    }

    fn write(&self, context: &CallbackContext<'_>) -> Result<(), Error> {
        let folder = &self.places.output_dir;
        let name = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let record = RunRecord::of(context.state, name, self.chronicle.clone());
        whole_file::replace(&folder.join(Self::FILE_NAME), page(&[record]).as_bytes())
    }

    /// Tokens a second since the last log, without evaluations.
    fn measure(&mut self, context: &CallbackContext<'_>) {
        let now = (Instant::now(), context.state.num_input_tokens_seen);
        if let Some((then, tokens)) = self.last_log.replace(now) {
            let seconds = (now.0 - then).as_secs_f64() - self.evaluation_seconds;
            if seconds > 0.0 && now.1 > tokens {
                let pace = (now.1 - tokens) as f64 / seconds;
                self.chronicle.tokens_per_second.push((context.state.global_step, pace));
            }
        }
        self.evaluation_seconds = 0.0;
    }
}

impl Reporter for HtmlReport {
    fn name(&self) -> &str {
        "html"
    }

    fn begin(&mut self, context: &CallbackContext<'_>) -> Result<(), Error> {
        self.last_log = Some((Instant::now(), context.state.num_input_tokens_seen));
        let step = context.state.global_step;
        // A checkpoint is written before it is complete, so it does not know itself.
        if context.resumed_from.is_some() && !self.chronicle.saves.contains(&step) {
            self.chronicle.saves.push(step);
        }
        Ok(())
    }

    fn log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry) -> Result<(), Error> {
        if entry.contains_key("loss") {
            self.measure(context);
        }
        if !entry.contains_key("eval_loss") {
            return Ok(());
        }
        self.evaluation_seconds += entry.get("eval_runtime").and_then(Value::as_f64).unwrap_or(0.0);
        self.write(context)
    }

    fn saved(&mut self, context: &CallbackContext<'_>, step: u64) -> Result<(), Error> {
        self.chronicle.saves.push(step);
        self.write(context)
    }

    fn state(&self) -> Option<Value> {
        serde_json::to_value(&self.chronicle).ok()
    }

    fn restore(&mut self, state: &Value) {
        let Ok(earlier) = serde_json::from_value::<Chronicle>(state.clone()) else { return };
        self.chronicle.tokens_per_second = earlier.tokens_per_second;
        self.chronicle.saves = earlier.saves;
    }

    fn end(&mut self, context: &CallbackContext<'_>) -> Result<(), Error> {
        self.write(context)
    }
}

#[cfg(test)]
mod tests;
