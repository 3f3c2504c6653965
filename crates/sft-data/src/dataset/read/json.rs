//! JSON: one object a line, an array of objects or texts, or an object with the rows under `data`.

use super::super::columns::kind;
use super::{OnRecord, Record, next_line, open, unreadable, utf8};
use crate::{Error, Position};
use serde_json::Value;
use std::io::{BufRead, Read};
use std::ops::ControlFlow;
use std::path::Path;

/// Number of records that are read to collect the names of the columns.
const RECORDS_FOR_COLUMNS: usize = 1000;

pub(super) fn columns(path: &Path) -> Result<Vec<String>, Error> {
    // The map is used as a set that keeps the order.
    let mut columns = Record::new();
    let mut seen = 0;
    read(path, &mut |_, record| {
        columns.extend(record.into_iter().map(|(name, _)| (name, Value::Null)));
        seen += 1;
        Ok(if seen < RECORDS_FOR_COLUMNS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(columns.into_iter().map(|(name, _)| name).collect())
}

pub(super) fn read(path: &Path, on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    let mut reader = open(path)?;
    if first_character(&mut reader, path)? == Some(b'[') {
        let text = read_rest(&mut reader, path, Vec::new())?;
        let rows: Vec<Value> = serde_json::from_str(&text).map_err(|error| bad_document(path, 0, &error))?;
        return array(path, rows, on_record);
    }
    let mut buffer = Vec::new();
    let mut number = 0;
    let mut is_first = true;
    // The first record is held back: if it is the only one, it may hold the rows under `data`.
    let mut held = None;
    while let Some(line) = next_line(&mut reader, &mut buffer, path)? {
        number += 1;
        let at = Position::Line(number);
        let line = utf8(line, path, at)?;
        if line.trim().is_empty() {
            continue;
        }
        let value = match serde_json::from_str(line) {
            Ok(value) => value,
            // The object continues on the next line, so the file is not JSON lines.
            Err(error) if error.is_eof() && is_first => {
                let text = read_rest(&mut reader, path, buffer)?;
                return documents(path, &text, number - 1, on_record);
            }
            Err(error) => return Err(bad_line(path, at, &error)),
        };
        let record = as_record(value, path, at)?;
        if std::mem::take(&mut is_first) {
            held = Some((at, record));
            continue;
        }
        if let Some((at, first)) = held.take()
            && on_record(at, first)?.is_break()
        {
            return Ok(());
        }
        if on_record(at, record)?.is_break() {
            return Ok(());
        }
    }
    match held {
        Some((at, record)) => single_object(path, at, record, on_record),
        None => Ok(()),
    }
}

/// Reads a file with only one object, which is its only row or holds the rows under `data`.
fn single_object(path: &Path, at: Position, mut record: Record, on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    match record.get_mut("data") {
        Some(Value::Array(rows)) if !rows.is_empty() && rows.iter().all(Value::is_object) => {
            let rows = std::mem::take(rows);
            array(path, rows, on_record)
        }
        _ => on_record(at, record).map(|_| ()),
    }
}

/// Reads objects one after the other, each over any number of lines.
fn documents(path: &Path, text: &str, lines_before: u64, on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let mut values = values.map_err(|error| bad_document(path, lines_before, &error))?;
    if values.len() == 1
        && let Some(value) = values.pop()
    {
        let at = Position::Row(1);
        return single_object(path, at, as_record(value, path, at)?, on_record);
    }
    array(path, values, on_record)
}

fn array(path: &Path, rows: Vec<Value>, on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    for (index, row) in rows.into_iter().enumerate() {
        let at = Position::Row(index as u64 + 1);
        let record = match row {
            // An array of texts is one column without a name.
            Value::String(_) => Record::from_iter([("text".to_owned(), row)]),
            row => as_record(row, path, at)?,
        };
        if on_record(at, record)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn as_record(value: Value, path: &Path, at: Position) -> Result<Record, Error> {
    match value {
        Value::Object(record) => Ok(record),
        other => {
            let problem = format!("{} where an object with columns is expected", kind(&other));
            Err(Error::BadRow { path: path.to_owned(), at, problem })
        }
    }
}

fn first_character(reader: &mut impl BufRead, path: &Path) -> Result<Option<u8>, Error> {
    let start = reader.fill_buf().map_err(|source| unreadable(path, source))?;
    Ok(start.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
}

/// Appends the rest of the file to what has been read already.
fn read_rest(reader: &mut impl Read, path: &Path, mut bytes: Vec<u8>) -> Result<String, Error> {
    reader.read_to_end(&mut bytes).map_err(|source| unreadable(path, source))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let problem = "not UTF-8; convert the file to UTF-8".to_owned();
        Error::BadRow { path: path.to_owned(), at: Position::Line(line), problem }
    })
}

fn bad_line(path: &Path, at: Position, error: &serde_json::Error) -> Error {
    let problem = format!("bad JSON in column {}: {}", error.column(), what(error));
    Error::BadRow { path: path.to_owned(), at, problem }
}

fn bad_document(path: &Path, lines_before: u64, error: &serde_json::Error) -> Error {
    bad_line(path, Position::Line(lines_before + error.line() as u64), error)
}

/// The message without its position, because the position in the file is reported separately.
fn what(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let advice = if error.is_eof() { "; is the file cut off?" } else { "" };
    format!("{}{advice}", &message[..end])
}
