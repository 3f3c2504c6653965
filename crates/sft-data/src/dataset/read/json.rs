//! JSON: one object a line, an array of objects or texts, or an object with the rows under `data`
//! or under a field that the dataset card names.

mod non_finite;
mod record;

use super::super::columns::kind;
use super::input::{Text, next_line, open, unreadable, utf8};
use super::options::Options;
use super::progress::Purpose;
use super::{OnRecord, Record};
use crate::untrusted::content_size::{Bytes, RecordLimited};
use crate::{Error, Position};
use non_finite::Marked;
use record::{Item, Items};
use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_json::error::Category;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

/// Number of records that are read to collect the names of the columns.
const RECORDS_FOR_COLUMNS: usize = 1000;
const NOT_UTF8: &str = "not UTF-8; convert the file to UTF-8";

pub(super) fn columns(path: &Path, options: &Options) -> Result<Vec<String>, Error> {
    // The map is used as a set that keeps the order.
    let mut columns = Record::new();
    let mut seen = 0;
    read(path, options, &[], Purpose::Sample, &mut |_, record| {
        columns.extend(record.into_iter().map(|(name, _)| (name, Value::Null)));
        seen += 1;
        Ok(if seen < RECORDS_FOR_COLUMNS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(columns.into_iter().map(|(name, _)| name).collect())
}

pub(super) fn read(
    path: &Path,
    options: &Options,
    wanted: &[&str],
    purpose: Purpose,
    on_record: &mut OnRecord<'_>,
) -> Result<(), Error> {
    let mut text = open(path, options.encoding, purpose)?;
    // A number that is not finite matters only in a column that is trained on.
    let used = if purpose == Purpose::Rows { wanted } else { &[] };
    let mut rows = Rows { path, used, on_record };
    match (&options.field, first_character(&mut text, path)?) {
        (Some(field), Some(_)) => rows.read_array(text, Some(field)),
        (None, Some(b'[')) => rows.read_array(text, None),
        _ => rows.read_lines(text),
    }
}

/// Passes on the rows of a file.
struct Rows<'a, 'c> {
    path: &'a Path,
    used: &'a [&'a str],
    on_record: &'a mut OnRecord<'c>,
}

impl Rows<'_, '_> {
    fn read_lines(&mut self, mut text: Text) -> Result<(), Error> {
        let path = self.path;
        let mut buffer = Vec::new();
        let mut number = 0;
        let mut is_first = true;
        // The first record is held back: if it is the only one, it may hold the rows under `data`.
        let mut held = None;
        while let Some(line) = next_line(&mut text, &mut buffer, path)? {
            number += 1;
            let at = Position::Line(number);
            let line = utf8(line, path, at)?;
            if line.trim().is_empty() {
                continue;
            }
            let values = match values_of(line) {
                Ok(values) => values,
                // The object continues on the next line, so the file is not JSON lines.
                Err(error) if error.is_eof() && is_first => {
                    return self.read_documents(buffer.as_slice().chain(text), number - 1);
                }
                Err(error) => return Err(self.bad_line(at, &error)),
            };
            for value in values {
                if std::mem::take(&mut is_first) {
                    held = Some((at, value));
                    continue;
                }
                if let Some((at, first)) = held.take()
                    && self.pass(at, first)?.is_break()
                {
                    return Ok(());
                }
                if self.pass(at, value)?.is_break() {
                    return Ok(());
                }
            }
        }
        match held {
            Some((at, value)) => self.single_value(at, value),
            None => Ok(()),
        }
    }

    /// Reads objects one after the other, each over any number of lines.
    fn read_documents(&mut self, text: impl BufRead, lines_before: u64) -> Result<(), Error> {
        let (text, bytes) = marked(text);
        let mut values = serde_json::Deserializer::from_reader(text).into_iter::<Item>();
        let mut next = || {
            bytes.restart();
            values.next().transpose()
        };
        let mut held = None;
        for number in 1.. {
            let value = next().map_err(|error| self.bad_document(lines_before, error))?;
            if number == 1 {
                held = value;
                continue;
            }
            let Some(Item(value)) = value else { break };
            if let Some(Item(first)) = held.take()
                && self.pass(Position::Row(1), first)?.is_break()
            {
                return Ok(());
            }
            if self.pass(Position::Row(number), value)?.is_break() {
                return Ok(());
            }
        }
        match held {
            Some(Item(value)) => self.single_value(Position::Row(1), value),
            None => Ok(()),
        }
    }

    /// Reads a file with only one value, which is its only row or holds the rows under `data`.
    fn single_value(&mut self, at: Position, mut value: Value) -> Result<(), Error> {
        match value.get_mut("data") {
            Some(Value::Array(rows)) if !rows.is_empty() && rows.iter().all(Value::is_object) => {
                for (number, row) in (1..).zip(std::mem::take(rows)) {
                    if self.pass(Position::Row(number), row)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            _ => self.pass(at, value).map(|_| ()),
        }
    }

    /// Reads the rows of an array, which may be in a field of an object.
    fn read_array(&mut self, text: Text, field: Option<&str>) -> Result<(), Error> {
        let path = self.path;
        let (text, bytes) = marked(text);
        let mut deserializer = serde_json::Deserializer::from_reader(text);
        let mut number = 0;
        // How reading ended if the end of the array was not reached.
        let mut stopped = None;
        let on_item = |value| {
            bytes.restart();
            number += 1;
            let value = match value {
                // An array of texts is one column without a name.
                Value::String(_) => Value::Object(Record::from_iter([("text".to_owned(), value)])),
                value => value,
            };
            match self.pass(Position::Row(number), value) {
                Ok(ControlFlow::Continue(())) => return true,
                Ok(ControlFlow::Break(())) => stopped = Some(Ok(())),
                Err(error) => stopped = Some(Err(error)),
            }
            false
        };
        let mut items = Items { field, on_item };
        let outcome = items.deserialize(&mut deserializer);
        if let Some(outcome) = stopped {
            return outcome;
        }
        match (outcome.and_then(|is_found| deserializer.end().map(|()| is_found)), field) {
            (Ok(true), _) | (Ok(false), None) => Ok(()),
            (Ok(false), Some(field)) => {
                let problem = format!("has no field `{field}`, where the dataset card says that the rows are");
                Err(Error::BadFile { path: path.to_owned(), problem })
            }
            (Err(error), _) => Err(self.bad_document(0, error)),
        }
    }

    fn pass(&mut self, at: Position, value: Value) -> Result<ControlFlow<()>, Error> {
        let bad = |problem: String| Error::BadRow { path: self.path.to_owned(), at, problem };
        let mut record = match value {
            Value::Object(record) => record,
            // All values are missing, as in `datasets`.
            Value::Null => Record::new(),
            other => return Err(bad(format!("{} where an object with columns is expected", kind(&other)))),
        };
        if let Some(column) = non_finite::take_marks(&mut record, self.used) {
            return Err(bad(format!("column `{column}` holds NaN or Infinity; replace it by null or a text")));
        }
        (self.on_record)(at, record)
    }

    fn bad_line(&self, at: Position, error: &serde_json::Error) -> Error {
        let problem = match what(error) {
            what if what == NOT_UTF8 => what,
            what => format!("bad JSON in column {}: {what}", error.column()),
        };
        Error::BadRow { path: self.path.to_owned(), at, problem }
    }

    fn bad_document(&self, lines_before: u64, error: serde_json::Error) -> Error {
        if error.classify() == Category::Io {
            return unreadable(self.path, error.into());
        }
        self.bad_line(Position::Line(lines_before + error.line() as u64), &error)
    }
}

/// The values of a line, of which there may be several.
fn values_of(line: &str) -> serde_json::Result<Vec<Value>> {
    let parse = |line: &str| {
        let values = serde_json::Deserializer::from_str(line).into_iter::<Item>();
        values.map(|value| value.map(|Item(value)| value)).collect::<Result<Vec<_>, _>>()
    };
    parse(line).or_else(|error| match non_finite::marked(line) {
        Ok(marked) if non_finite::is_likely(line) => parse(&marked),
        _ => Err(error),
    })
}

/// JSON of any length, with the number of bytes that one row has taken.
fn marked(text: impl BufRead) -> (impl Read, Bytes) {
    let (limited, bytes) = RecordLimited::new(text);
    (BufReader::with_capacity(1 << 16, Marked::new(BufReader::with_capacity(1 << 16, limited))), bytes)
}

fn first_character(reader: &mut impl BufRead, path: &Path) -> Result<Option<u8>, Error> {
    let start = reader.fill_buf().map_err(|source| unreadable(path, source))?;
    Ok(start.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
}

/// The message without its position, because the position in the file is reported separately.
fn what(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = &message[..message.rfind(" at line ").unwrap_or(message.len())];
    if message == "invalid unicode code point" {
        return NOT_UTF8.to_owned();
    }
    let advice = if error.is_eof() { "; is the file cut off?" } else { "" };
    format!("{message}{advice}")
}
