//! Reads the records of a file, one at a time.
//!
//! Every reader passes `{column: value}` records and their positions to a callback, and stops when
//! the callback says so. Text files may be compressed, which their first bytes show. What a dataset
//! card says about reading is in [`options`].

mod arrow;
mod csv;
mod input;
mod json;
mod options;
mod parquet;
mod progress;
mod text;
mod utf16;

use super::format::Format;
use crate::{Error, Position};
use options::Options;
use progress::Purpose;
use serde_json::{Map, Value};
use std::ops::ControlFlow;
use std::path::Path;

pub(super) use options::plain;

/// A row as it is in the file: column names and values.
pub(super) type Record = Map<String, Value>;
/// Called for each record.
pub(super) type OnRecord<'a> = dyn FnMut(Position, Record) -> Result<ControlFlow<()>, Error> + 'a;

/// Reads files of one format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reader {
    format: Format,
    options: Options,
}

impl Reader {
    /// A reader with the format's defaults.
    pub(super) fn new(format: Format) -> Self {
        Self { format, options: Options::of(format) }
    }

    /// A reader with the options that a dataset card declares. The error says which of them cannot
    /// be used.
    pub(super) fn declared(format: Format, options: &Map<String, Value>) -> Result<Self, String> {
        Ok(Self { format, options: Options::declared(format, options)? })
    }

    /// Reads the records of a file in order. Only `columns` are needed; formats that can skip the
    /// other columns do so.
    pub(super) fn read(&self, path: &Path, columns: &[&str], on_record: &mut OnRecord<'_>) -> Result<(), Error> {
        self.read_for(Purpose::Rows, path, columns, on_record)
    }

    /// Like [`read`](Self::read), to find out what the columns hold.
    pub(super) fn sample(&self, path: &Path, columns: &[&str], on_record: &mut OnRecord<'_>) -> Result<(), Error> {
        self.read_for(Purpose::Sample, path, columns, on_record)
    }

    fn read_for(
        &self,
        purpose: Purpose,
        path: &Path,
        columns: &[&str],
        on_record: &mut OnRecord<'_>,
    ) -> Result<(), Error> {
        let _span = tracing::info_span!("read", path = %path.display()).entered();
        match self.format {
            Format::Arrow => arrow::read(path, columns, purpose, on_record),
            Format::Parquet => parquet::read(path, columns, purpose, on_record),
            Format::Json => json::read(path, &self.options, columns, purpose, on_record),
            Format::Csv | Format::Tsv => csv::read(path, &self.options, columns, purpose, on_record),
            Format::Text => text::read(path, &self.options, purpose, on_record),
        }
    }

    /// The names of a file's columns. For JSON they are the names in the first records.
    pub(super) fn columns(&self, path: &Path) -> Result<Vec<String>, Error> {
        match self.format {
            Format::Arrow => arrow::columns(path),
            Format::Parquet => parquet::columns(path),
            Format::Csv | Format::Tsv => csv::columns(path, &self.options),
            Format::Text => Ok(vec!["text".to_owned()]),
            Format::Json => json::columns(path, &self.options),
        }
    }

    /// If the columns of a CSV file do not fit, and with another delimiter they would, takes that
    /// one. A spreadsheet writes semicolons where the comma is the decimal separator.
    pub(super) fn recognise_delimiter(&mut self, path: &Path, fits: &dyn Fn(&[String]) -> bool) -> Result<(), Error> {
        if matches!(self.format, Format::Csv | Format::Tsv)
            && let Some(delimiter) = csv::recognised_delimiter(path, &self.options, fits)?
        {
            let shown = char::from(delimiter).escape_default();
            tracing::info!(
                "{}: the header has `{shown}` between the names, so the file is read with that delimiter",
                path.display()
            );
            self.options.csv.delimiter = delimiter;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
