//! Comma- and tab-separated values with a header line. Every value is text; an empty value is null.

use super::{OnRecord, Record, open, unreadable, utf8};
use crate::{Error, Position};
use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::Value;
use std::io::{self, BufReader, Read};
use std::path::Path;

type CsvReader = Reader<Input>;

pub(super) fn columns(path: &Path, delimiter: u8) -> Result<Vec<String>, Error> {
    Ok(start(path, delimiter)?.1)
}

pub(super) fn read(path: &Path, delimiter: u8, wanted: &[&str], on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    let (mut reader, columns) = start(path, delimiter)?;
    // Each record would otherwise be as long as the header, even if its line is short.
    let kept: Vec<(usize, &String)> =
        columns.iter().enumerate().filter(|(_, column)| wanted.contains(&column.as_str())).collect();
    let mut fields = ByteRecord::new();
    let mut last = (Position::Line(1), false);
    while reader.read_byte_record(&mut fields).map_err(|error| from_csv(path, error))? {
        let at = position(&fields);
        last = (at, fields.iter().next_back().is_some_and(|field| field.contains(&b'\n')));
        if fields.len() > columns.len() {
            let problem = format!("{} fields, but the header has {}", fields.len(), columns.len());
            return Err(Error::BadRow { path: path.to_owned(), at, problem });
        }
        let mut record = Record::new();
        for &(index, column) in &kept {
            let text = utf8(fields.get(index).unwrap_or_default(), path, at)?;
            record.insert(column.clone(), if text.is_empty() { Value::Null } else { Value::from(text) });
        }
        if on_record(at, record)?.is_break() {
            return Ok(());
        }
    }
    // A field with a line break in it is quoted, so a file that ends with such a field ends with a
    // quote.
    match last {
        (at, true) if reader.get_ref().last_byte != b'"' => {
            let problem = "a quote is opened here and never closed, so the rest of the file is one value".to_owned();
            Err(Error::BadRow { path: path.to_owned(), at, problem })
        }
        _ => Ok(()),
    }
}

fn start(path: &Path, delimiter: u8) -> Result<(CsvReader, Vec<String>), Error> {
    // A short row has missing values, as in pandas.
    let input = Input { inner: open(path)?, last_byte: 0 };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(input);
    let header = reader.byte_headers().map_err(|error| from_csv(path, error))?;
    let columns = header.iter().map(|name| utf8(name, path, Position::Line(1)).map(str::to_owned));
    let columns = columns.collect::<Result<_, _>>()?;
    Ok((reader, columns))
}

/// Remembers the last byte that is not part of a line end.
struct Input {
    inner: BufReader<Box<dyn Read>>,
    last_byte: u8,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        if let Some(&byte) = buffer[..length].iter().rev().find(|byte| !matches!(byte, b'\n' | b'\r')) {
            self.last_byte = byte;
        }
        Ok(length)
    }
}

fn position(record: &ByteRecord) -> Position {
    Position::Line(record.position().map_or(0, csv::Position::line))
}

fn from_csv(path: &Path, error: csv::Error) -> Error {
    let at = error.position().map(|position| Position::Line(position.line()));
    match (error.into_kind(), at) {
        (csv::ErrorKind::Io(source), _) => unreadable(path, source),
        (kind, Some(at)) => Error::BadRow { path: path.to_owned(), at, problem: format!("{kind:?}") },
        (kind, None) => Error::BadFile { path: path.to_owned(), problem: format!("{kind:?}") },
    }
}
