//! TensorBoard's event files.

mod event;
mod record;

use crate::reporter::{Places, Reporter};
use crate::{Error, whole_file};
use event::{Content, Event};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use trainer_core::{CallbackContext, LogEntry};

/// Writes the log history as TensorBoard's events, under the tags of Hugging Face's
/// `TensorBoardCallback`: `train/loss`, `eval/loss` and so on, at the step of the entry. Figures
/// that are not finite are NaN, and texts are texts. The run's settings are the text `args`.
///
/// A resumed run writes a further file. It tells TensorBoard to forget what an earlier file in the
/// same folder has from after the checkpoint.
#[derive(Debug)]
pub struct TensorBoard {
    places: Places,
    /// The event file, from `begin` on.
    open: Option<(PathBuf, File)>,
}

impl TensorBoard {
    /// Overrides the folder of event files where the options say nothing.
    pub const FOLDER_VARIABLE: &'static str = "TENSORBOARD_LOGGING_DIR";

    /// A reporter that writes a new event file when training begins.
    pub fn new(places: Places) -> Self {
        Self { places, open: None }
    }

    fn folder(&self) -> PathBuf {
        let Places { output_dir, logging_dir, run_name, .. } = &self.places;
        let from_environment = || std::env::var_os(Self::FOLDER_VARIABLE).filter(|folder| !folder.is_empty());
        if let Some(folder) = logging_dir.clone().or_else(|| from_environment().map(PathBuf::from)) {
            return folder;
        }
        let name = run_name.as_deref().map(as_file_name);
        let started = || format!("{}_{}", chrono::Local::now().format("%b%d_%H-%M-%S"), host_name());
        output_dir.join("runs").join(name.unwrap_or_else(started))
    }

    /// Makes an event file with its first events.
    fn create(&self, context: &CallbackContext<'_>) -> Result<(PathBuf, File), Error> {
        let now = now();
        let name = format!("events.out.tfevents.{}.{}.{}.0", now as u64, host_name(), std::process::id());
        let path = self.folder().join(name);
        let mut first = vec![Event { wall_time: now, step: 0, content: Content::FileVersion }];
        if context.state.global_step > 0 {
            let step = context.state.global_step + 1;
            first.push(Event { wall_time: now, step, content: Content::SessionStart });
        }
        let text = format!("{:#}", Value::Object(self.places.settings.clone()));
        if !self.places.settings.is_empty() {
            first.push(Event { wall_time: now, step: 0, content: Content::Text { tag: "args", text: &text } });
        }
        let content: Vec<u8> = first.iter().flat_map(|event| record::framed(&event.encoded())).collect();
        whole_file::replace(&path, &content)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::file(&path))?;
        Ok((path, file))
    }
}

impl Reporter for TensorBoard {
    fn name(&self) -> &str {
        "tensorboard"
    }

    fn begin(&mut self, context: &CallbackContext<'_>) -> Result<(), Error> {
        // A run that is complete already has no figures to come.
        if context.state.max_steps == 0 || context.state.global_step < context.state.max_steps {
            self.open = Some(self.create(context)?);
        }
        Ok(())
    }

    fn log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry) -> Result<(), Error> {
        let (path, mut file) = match self.open.take() {
            Some(open) => open,
            None => self.create(context)?,
        };
        let records = records(context.state.global_step, entry);
        let written = append(&mut file, &records).map_err(Error::file(&path));
        self.open = Some((path, file));
        written
    }
}

/// A record a figure.
fn records(step: u64, entry: &LogEntry) -> Vec<u8> {
    let wall_time = now();
    let mut records = Vec::new();
    for (name, value) in entry.iter().filter(|(name, _)| *name != "step") {
        let tag = match name.strip_prefix("eval_") {
            Some(name) => format!("eval/{name}"),
            // Hugging Face has no perplexity. It is that of the evaluation.
            None if name == "perplexity" => "eval/perplexity".to_owned(),
            None => format!("train/{name}"),
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let content = match value {
            Value::Null => Content::Scalar { tag: &tag, value: f32::NAN },
            Value::Bool(value) => Content::Scalar { tag: &tag, value: f32::from(u8::from(*value)) },
            Value::Number(number) => Content::Scalar { tag: &tag, value: number.as_f64().unwrap_or(f64::NAN) as f32 },
            Value::String(_) | Value::Array(_) | Value::Object(_) => Content::Text { tag: &tag, text: &text },
        };
        records.extend(record::framed(&Event { wall_time, step, content }.encoded()));
    }
    records
}

/// Appends the records as a whole. A reader stops at half a record, so it is taken back.
fn append(file: &mut File, records: &[u8]) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(records).inspect_err(|_| drop(file.set_len(before)))
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A name without separators of folders.
fn as_file_name(name: &str) -> String {
    let name = name.replace(['/', '\\'], "_");
    if Path::new(&name).file_name().is_some() { name } else { "run".to_owned() }
}

#[cfg(unix)]
fn host_name() -> String {
    as_file_name(&rustix::system::uname().nodename().to_string_lossy())
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").map_or_else(|_| "localhost".to_owned(), |name| as_file_name(&name))
}

#[cfg(test)]
mod tests;
