//! `metrics.csv`: one row per log and per evaluation.

use crate::reporter::Reporter;
use crate::{Error, whole_file};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use trainer_core::{CallbackContext, LogEntry};

/// Writes the log history as a table: a row an entry, a column a figure, first `step` and `epoch`.
/// A figure that an entry does not have is an empty cell, one that is not finite is `NaN`.
///
/// A row is appended as it happens. Where an entry has a figure that none had before, and after a
/// row that could not be written, the whole file is replaced. So a resumed run has no rows from
/// after its checkpoint.
#[derive(Debug)]
pub struct CsvFile {
    path: PathBuf,
    /// The columns of the file, once it is written.
    columns: Option<Vec<String>>,
}

impl CsvFile {
    /// The usual name of the file in the output folder.
    pub const FILE_NAME: &'static str = "metrics.csv";

    /// A reporter that writes to `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), columns: None }
    }

    fn append(&self, columns: &[String], entry: &LogEntry) -> Result<(), Error> {
        let row = table(columns, [entry])?;
        let append = || {
            let mut file = OpenOptions::new().append(true).open(&self.path)?;
            let before = file.metadata()?.len();
            file.write_all(&row).inspect_err(|_| drop(file.set_len(before)))
        };
        append().map_err(Error::file(&self.path))
    }

    fn rewrite(&mut self, history: &[LogEntry]) -> Result<(), Error> {
        let mut columns = vec!["step".to_owned(), "epoch".to_owned()];
        for name in history.iter().flat_map(LogEntry::keys) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        let header: LogEntry = columns.iter().map(|name| (name.clone(), Value::from(name.as_str()))).collect();
        let content = table(&columns, std::iter::once(&header).chain(history))?;
        whole_file::replace(&self.path, &content)?;
        self.columns = Some(columns);
        Ok(())
    }
}

impl Reporter for CsvFile {
    fn name(&self) -> &str {
        "csv"
    }

    fn log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry) -> Result<(), Error> {
        // Taken away until the row is in the file.
        match self.columns.take() {
            Some(columns) if entry.keys().all(|name| columns.contains(name)) => {
                self.append(&columns, entry)?;
                self.columns = Some(columns);
                Ok(())
            }
            _ => self.rewrite(&context.state.log_history),
        }
    }

    fn end(&mut self, context: &CallbackContext<'_>) -> Result<(), Error> {
        match self.columns {
            Some(_) => Ok(()),
            None => self.rewrite(&context.state.log_history),
        }
    }
}

/// Rows of these columns, without a header.
fn table<'a>(columns: &[String], entries: impl IntoIterator<Item = &'a LogEntry>) -> Result<Vec<u8>, Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let write = |writer: &mut csv::Writer<Vec<u8>>| {
        for entry in entries {
            writer.write_record(columns.iter().map(|name| entry.get(name).map_or_else(String::new, cell)))?;
        }
        writer.flush()
    };
    // Writing to memory does not fail.
    write(&mut writer).map_err(Error::file(CsvFile::FILE_NAME))?;
    writer.into_inner().map_err(|error| Error::file(CsvFile::FILE_NAME)(error.into_error()))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NaN".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trainer_core::{TrainerState, TrainingArguments};

    fn entry(value: Value) -> LogEntry {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn columns_grow_and_every_row_keeps_its_figures() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/metrics.csv");
        let arguments = TrainingArguments::default();
        let mut state = TrainerState::default();
        let mut file = CsvFile::new(&path);
        for value in [
            json!({ "loss": 2.5, "epoch": 0.5, "step": 1 }),
            json!({ "loss": null, "epoch": 1.0, "step": 2 }),
            json!({ "eval_loss": 2.25, "note": "a, \"b\"\n", "epoch": 1.0, "step": 2 }),
        ] {
            state.log_history.push(entry(value.clone()));
            let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
            file.log(&context, &entry(value)).unwrap();
        }
        let expected = "step,epoch,loss,eval_loss,note\n1,0.5,2.5,,\n2,1.0,NaN,,\n2,1.0,,2.25,\"a, \"\"b\"\"\n\"\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);

        // A resumed run starts from the history of its checkpoint.
        state.log_history.truncate(1);
        let value = json!({ "loss": 2.0, "epoch": 1.0, "step": 2 });
        state.log_history.push(entry(value.clone()));
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
        let mut file = CsvFile::new(&path);
        file.log(&context, &entry(value)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "step,epoch,loss\n1,0.5,2.5\n2,1.0,2.0\n");

        // A row that is lost, as the file is gone, comes with the next.
        std::fs::remove_file(&path).unwrap();
        file.log(&context, &state.log_history[1]).unwrap_err();
        file.end(&context).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "step,epoch,loss\n1,0.5,2.5\n2,1.0,2.0\n");
    }
}
