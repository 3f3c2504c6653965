//! The callback that passes a run's events on to reporters.

use crate::{CsvFile, Destination, Error, HtmlReport, TensorBoard};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use trainer_core::{Callback, CallbackContext, EventResult, LogEntry, Requests};

/// Takes the figures of a run somewhere.
///
/// An error is told as a warning and does not end the run. The reporter sees later events all the
/// same, since a full disk may have room again.
pub trait Reporter {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// Training begins, or continues from a checkpoint.
    ///
    /// # Errors
    ///
    /// What could not be written.
    fn begin(&mut self, _context: &CallbackContext<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// The log history got an entry, its last.
    ///
    /// # Errors
    ///
    /// What could not be written.
    fn log(&mut self, _context: &CallbackContext<'_>, _entry: &LogEntry) -> Result<(), Error> {
        Ok(())
    }

    /// The checkpoint of this step is complete.
    ///
    /// # Errors
    ///
    /// What could not be written.
    fn saved(&mut self, _context: &CallbackContext<'_>, _step: u64) -> Result<(), Error> {
        Ok(())
    }

    /// What checkpoints keep for [`restore`](Self::restore). Default: nothing.
    fn state(&self) -> Option<Value> {
        None
    }

    /// Takes back what [`state`](Self::state) returned. A value that is none has no effect.
    fn restore(&mut self, _state: &Value) {}

    /// Training has ended.
    ///
    /// # Errors
    ///
    /// What could not be written.
    fn end(&mut self, _context: &CallbackContext<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// Where reports go, and what they tell besides figures.
#[derive(Clone, Debug)]
pub struct Places {
    /// The run's folder.
    pub output_dir: PathBuf,
    /// The folder of event files. `None`: the folder in the environment variable
    /// `TENSORBOARD_LOGGING_DIR`, else `runs/<run_name>` in the output folder.
    pub logging_dir: Option<PathBuf>,
    /// The name of the run. `None`: the time and the host, as Hugging Face names the folder of
    /// event files.
    pub run_name: Option<String>,
    /// The options of the run by name.
    pub settings: Map<String, Value>,
    /// Those of them that are not as in the recipe that the run follows.
    pub differences: Map<String, Value>,
    /// Lines about the rows: where they come from, what was kept and cut.
    pub data: Vec<String>,
}

impl Places {
    /// The usual places for a run in `output_dir`.
    pub fn new(output_dir: impl Into<PathBuf>) -> Self {
        Self {
            output_dir: output_dir.into(),
            logging_dir: None,
            run_name: None,
            settings: Map::new(),
            differences: Map::new(),
            data: Vec::new(),
        }
    }
}

/// Passes the events of a run on to reporters. What one of them cannot write is told once.
pub struct Reports {
    reporters: Vec<Guarded>,
}

struct Guarded {
    reporter: Box<dyn Reporter>,
    is_told: bool,
}

impl Reports {
    /// Reports to each of these destinations. Nothing is written before training begins.
    pub fn new(destinations: &[Destination], places: Places) -> Self {
        let reporter = |destination: &Destination| -> Box<dyn Reporter> {
            match destination {
                Destination::TensorBoard => Box::new(TensorBoard::new(places.clone())),
                Destination::Csv => Box::new(CsvFile::new(places.output_dir.join(CsvFile::FILE_NAME))),
                Destination::Html => Box::new(HtmlReport::new(places.clone())),
            }
        };
        Self::of(destinations.iter().map(reporter))
    }

    /// Reports to reporters of the caller's.
    pub fn of(reporters: impl IntoIterator<Item = Box<dyn Reporter>>) -> Self {
        let guarded = |reporter| Guarded { reporter, is_told: false };
        Self { reporters: reporters.into_iter().map(guarded).collect() }
    }

    fn each(&mut self, event: impl Fn(&mut dyn Reporter) -> Result<(), Error>) {
        for Guarded { reporter, is_told } in &mut self.reporters {
            let Err(error) = event(&mut **reporter) else { continue };
            if !std::mem::replace(is_told, true) {
                let name = reporter.name();
                tracing::warn!("the report to {name} is incomplete: {error}; training goes on without it");
            }
        }
    }
}

impl Callback for Reports {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.each(|reporter| reporter.begin(context));
        Ok(())
    }

    fn on_log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry, _requests: &mut Requests) -> EventResult {
        self.each(|reporter| reporter.log(context, entry));
        Ok(())
    }

    fn on_save(&mut self, context: &CallbackContext<'_>, checkpoint: &Path, _requests: &mut Requests) -> EventResult {
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        if let Some(step) = name.rsplit('-').next().and_then(|step| step.parse().ok()) {
            self.each(|reporter| reporter.saved(context, step));
        }
        Ok(())
    }

    fn state(&self) -> Option<Value> {
        let states = self.reporters.iter().map(|Guarded { reporter, .. }| reporter);
        let states: Map<_, _> =
            states.filter_map(|reporter| Some((reporter.name().to_owned(), reporter.state()?))).collect();
        (!states.is_empty()).then(|| json!({ "args": {}, "attributes": states }))
    }

    fn restore(&mut self, state: &Value) -> EventResult {
        for Guarded { reporter, .. } in &mut self.reporters {
            let state = &state["attributes"][reporter.name()];
            reporter.restore(state);
        }
        Ok(())
    }

    fn on_train_end(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.each(|reporter| reporter.end(context));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer_core::testing::{ToyLearner, ToySource, TraceRecording};
    use trainer_core::{SaveStrategy, Trainer, TrainingArguments};

    /// A run of 4 steps with a log each. It has no checkpoints, so its folder is not written to.
    fn run(reports: Reports) {
        let arguments = TrainingArguments {
            logging_steps: 1.0,
            num_train_epochs: 2.0,
            save_strategy: SaveStrategy::No,
            output_dir: "unused".into(),
            ..TrainingArguments::default()
        };
        let train = ToySource::new(16, 8);
        let mut learner = ToyLearner::default();
        Trainer::builder(arguments, &mut learner, &train).callback(reports).build().unwrap().train().unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_told_once_and_the_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let in_the_way = dir.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let recording = TraceRecording::default();
        let all = Destination::from_names(&["all".to_owned()]).unwrap();
        recording.capture(|| run(Reports::new(&all, Places::new(&in_the_way))));
        let warnings = recording.messages(tracing::Level::WARN);
        assert_eq!(warnings.len(), all.len(), "{warnings:?}");
        for (warning, name) in warnings.iter().zip(["tensorboard", "csv", "html"]) {
            assert!(warning.starts_with(&format!("the report to {name} is incomplete: ")), "{warning}");
            assert!(warning.contains(&*in_the_way.to_string_lossy()), "{warning}");
        }
    }

    /// Cannot write its second and third log.
    struct Unsteady(std::rc::Rc<std::cell::Cell<u32>>);

    impl Reporter for Unsteady {
        fn name(&self) -> &str {
            "unsteady"
        }

        fn log(&mut self, _context: &CallbackContext<'_>, _entry: &LogEntry) -> Result<(), Error> {
            self.0.set(self.0.get() + 1);
            match self.0.get() {
                2 | 3 => Err(Error::file("/dev/full")(std::io::Error::from(std::io::ErrorKind::StorageFull))),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn a_full_disk_is_told_once_and_later_figures_come_again() {
        let logs = std::rc::Rc::default();
        let recording = TraceRecording::default();
        let unsteady: Box<dyn Reporter> = Box::new(Unsteady(std::rc::Rc::clone(&logs)));
        recording.capture(|| run(Reports::of([unsteady])));
        // Four steps and the summary.
        assert_eq!(logs.get(), 5);
        assert_eq!(
            recording.messages(tracing::Level::WARN),
            ["the report to unsteady is incomplete: /dev/full: no storage space; training goes on without it"]
        );
    }
}
