//! Comma- and tab-separated values, by the rules of pandas. Every value is text or missing.

use super::input::{Text, next_line, open, unreadable, utf8};
use super::options::{CsvOptions, Header, Options};
use super::progress::Purpose;
use super::{OnRecord, Record};
use crate::untrusted::content_size::{Bytes, RecordLimited};
use crate::{Error, Position};
use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::{Chain, Read};
use std::path::Path;

/// Delimiters that are recognised in a header.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The most columns that a file may have. More would take much memory for their names.
const MAX_COLUMNS: usize = 100_000;

/// What is read after the end of a file: a line that no file has. If a quote is still open, it
/// becomes part of the last value.
const END: &[u8] = "\n\u{fdd0}end".as_bytes();
const END_RECORD: &[u8] = "\u{fdd0}end".as_bytes();

/// A file of which the header has been read.
struct CsvFile<'a> {
    path: &'a Path,
    reader: Reader<RecordLimited<Chain<Text, &'static [u8]>>>,
    record_bytes: Bytes,
    columns: Vec<String>,
    /// The first row, if it was read to count its fields.
    first: Option<ByteRecord>,
    skipped_lines: u64,
}

pub(super) fn columns(path: &Path, options: &Options) -> Result<Vec<String>, Error> {
    Ok(CsvFile::open(path, options, Purpose::Sample)?.columns)
}

/// The delimiter that the header has, if not the one expected: with it, and not with the expected
/// one, the columns fit.
pub(super) fn recognised_delimiter(
    path: &Path,
    options: &Options,
    fits: &dyn Fn(&[String]) -> bool,
) -> Result<Option<u8>, Error> {
    if options.csv.delimiter_is_declared || fits(&columns(path, options)?) {
        return Ok(None);
    }
    for delimiter in DELIMITERS {
        let csv = CsvOptions { delimiter, ..options.csv.clone() };
        let with = Options { csv, ..options.clone() };
        // With another delimiter the header may be malformed.
        if columns(path, &with).is_ok_and(|columns| fits(&columns)) {
            return Ok(Some(delimiter));
        }
    }
    Ok(None)
}

pub(super) fn read(
    path: &Path,
    options: &Options,
    wanted: &[&str],
    purpose: Purpose,
    on_record: &mut OnRecord<'_>,
) -> Result<(), Error> {
    let mut file = CsvFile::open(path, options, purpose)?;
    // Each record would otherwise be as long as the header, even if its line is short.
    let columns = std::mem::take(&mut file.columns);
    let kept: Vec<(usize, &String)> =
        columns.iter().enumerate().filter(|(_, column)| wanted.contains(&column.as_str())).collect();
    let mut fields = ByteRecord::new();
    while file.next(&mut fields)? {
        let at = file.position(&fields);
        if fields.len() > columns.len() {
            let problem = format!("{} fields, but the header has {}", fields.len(), columns.len());
            return Err(Error::BadRow { path: path.to_owned(), at, problem });
        }
        let mut record = Record::new();
        for &(index, column) in &kept {
            let text = fields.get(index).map(|field| utf8(field, path, at)).transpose()?;
            let text = text.filter(|text| !options.csv.missing.iter().any(|missing| missing == text));
            record.insert(column.clone(), text.map_or(Value::Null, Value::from));
        }
        if on_record(at, record)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

impl<'a> CsvFile<'a> {
    fn open(path: &'a Path, options: &Options, purpose: Purpose) -> Result<Self, Error> {
        let csv = &options.csv;
        let mut text = open(path, options.encoding, purpose)?;
        let mut skipped = Vec::new();
        for _ in 0..csv.skipped_lines {
            next_line(&mut text, &mut skipped, path)?;
        }
        let (input, record_bytes) = RecordLimited::new(text.chain(END));
        let mut builder = ReaderBuilder::new();
        // A short row has missing values, as in pandas.
        builder.delimiter(csv.delimiter).flexible(true).has_headers(false);
        match csv.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        let reader = builder.from_reader(input);
        let columns = Vec::new();
        let mut file = Self { path, reader, record_bytes, columns, first: None, skipped_lines: csv.skipped_lines };
        let mut first = ByteRecord::new();
        let is_empty = !file.next(&mut first)?;
        if first.len() > MAX_COLUMNS {
            let problem = format!("{} columns; is this CSV with another delimiter?", first.len());
            return Err(Error::BadRow { path: path.to_owned(), at: file.position(&first), problem });
        }
        match (&csv.names, csv.header) {
            _ if is_empty => {}
            (names, Header::FirstLine) => {
                let at = file.position(&first);
                let header = first.iter().map(|name| utf8(name, path, at).map(str::to_owned));
                let header = distinct(header.collect::<Result<_, _>>()?);
                file.columns = names.clone().unwrap_or(header);
            }
            (names, Header::None) => {
                let numbers = || (0..first.len()).map(|number| number.to_string()).collect();
                file.columns = names.clone().unwrap_or_else(numbers);
                file.first = Some(first);
            }
        }
        Ok(file)
    }

    /// Reads the next row that is not blank. Returns false after the last one.
    fn next(&mut self, fields: &mut ByteRecord) -> Result<bool, Error> {
        if let Some(first) = self.first.take() {
            *fields = first;
            return Ok(true);
        }
        loop {
            self.record_bytes.restart();
            match self.reader.read_byte_record(fields) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => return Err(self.failed(error)),
            }
            match fields.iter().next_back() {
                Some(END_RECORD) if fields.len() == 1 => return Ok(false),
                Some(last) if last.ends_with(END) => {
                    let problem = "a quote is opened here and never closed, so the rest of the file is one value";
                    let (path, at) = (self.path.to_owned(), self.position(fields));
                    return Err(Error::BadRow { path, at, problem: problem.to_owned() });
                }
                _ => {}
            }
            let is_blank = |field: &[u8]| !field.is_empty() && field.iter().all(|byte| matches!(byte, b' ' | b'\t'));
            if fields.len() != 1 || !fields.get(0).is_some_and(is_blank) {
                return Ok(true);
            }
        }
    }

    fn position(&self, record: &ByteRecord) -> Position {
        Position::Line(record.position().map_or(0, csv::Position::line) + self.skipped_lines)
    }

    fn failed(&self, error: csv::Error) -> Error {
        let path = self.path.to_owned();
        let at = error.position().map(|position| Position::Line(position.line() + self.skipped_lines));
        match (error.into_kind(), at) {
            (csv::ErrorKind::Io(source), _) => unreadable(self.path, source),
            (kind, Some(at)) => Error::BadRow { path, at, problem: format!("{kind:?}") },
            (kind, None) => Error::BadFile { path, problem: format!("{kind:?}") },
        }
    }
}

/// The names of a header as pandas changes them: a column without a name is `Unnamed: 1`, and the
/// second `text` is `text.1`.
fn distinct(mut header: Vec<String>) -> Vec<String> {
    let unnamed: Vec<bool> = header.iter().map(String::is_empty).collect();
    for (index, name) in header.iter_mut().enumerate().filter(|(_, name)| name.is_empty()) {
        *name = format!("Unnamed: {index}");
    }
    // A column without a name gives way to one that was named like it.
    let named_first = (0..header.len()).filter(|&at| !unnamed[at]).chain((0..header.len()).filter(|&at| unnamed[at]));
    let mut names: HashSet<String> = header.iter().cloned().collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for at in named_first.collect::<Vec<_>>() {
        let original = header[at].clone();
        let mut name = original.clone();
        let mut count = counts.get(&name).copied().unwrap_or(0);
        while count > 0 {
            counts.insert(original.clone(), count + 1);
            name = format!("{original}.{count}");
            count = if names.contains(&name) { count + 1 } else { counts.get(&name).copied().unwrap_or(0) };
        }
        counts.insert(name.clone(), count + 1);
        names.insert(name.clone());
        header[at] = name;
    }
    header
}
