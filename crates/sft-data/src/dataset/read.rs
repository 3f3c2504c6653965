//! Reads the records of a file, one at a time.
//!
//! Every reader passes `{column: value}` records and their positions to a callback, and stops when
//! the callback says so. Text files may be compressed, which their first bytes show.

mod csv;
mod json;
mod parquet;
mod text;

use super::format::Format;
use crate::untrusted::content_size::Limited;
use crate::untrusted::regular_file;
use crate::{Error, Position};
use serde_json::{Map, Value};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

/// A row as it is in the file: column names and values.
pub(super) type Record = Map<String, Value>;
/// Called for each record.
pub(super) type OnRecord<'a> = dyn FnMut(Position, Record) -> Result<ControlFlow<()>, Error> + 'a;

/// Reads the records of a file in order. Only `columns` are needed; formats that can skip the other
/// columns do so.
pub(super) fn read(path: &Path, format: Format, columns: &[&str], on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    let _span = tracing::info_span!("read", path = %path.display()).entered();
    match format {
        Format::Parquet => parquet::read(path, columns, on_record),
        Format::Json => json::read(path, on_record),
        Format::Csv => csv::read(path, b',', columns, on_record),
        Format::Tsv => csv::read(path, b'\t', columns, on_record),
        Format::Text => text::read(path, on_record),
    }
}

/// The names of a file's columns. For JSON they are the names in the first records.
pub(super) fn columns(path: &Path, format: Format) -> Result<Vec<String>, Error> {
    match format {
        Format::Parquet => parquet::columns(path),
        Format::Csv => csv::columns(path, b','),
        Format::Tsv => csv::columns(path, b'\t'),
        Format::Text => Ok(vec!["text".to_owned()]),
        Format::Json => json::columns(path),
    }
}

/// Opens a text file, decompressing it if necessary.
fn open(path: &Path) -> Result<BufReader<Box<dyn Read>>, Error> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    const ZSTANDARD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let file = regular_file::open(path).map_err(|source| Error::io(path, source))?;
    let size = file.metadata().map_err(|source| Error::io(path, source))?.len();
    let mut file = BufReader::new(file);
    let start = file.fill_buf().map_err(|source| Error::io(path, source))?;
    let reader: Box<dyn Read> = if start.starts_with(&GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if start.starts_with(&ZSTANDARD) {
        Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(|source| Error::io(path, source))?)
    } else {
        Box::new(file)
    };
    let reader: Box<dyn Read> = Box::new(Limited::new(reader, size));
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let start = reader.fill_buf().map_err(|source| unreadable(path, source))?;
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Err(Error::BadFile { path: path.to_owned(), problem: "is UTF-16; convert it to UTF-8".to_owned() });
    }
    if start.starts_with(b"version https://git-lfs") {
        let problem = "is a Git LFS pointer, not the file itself; run `git lfs pull`".to_owned();
        return Err(Error::BadFile { path: path.to_owned(), problem });
    }
    if start.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(reader)
}

/// An error while reading. Some kinds of error mean that the compressed data is damaged.
fn unreadable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Error::BadFile {
            path: path.to_owned(),
            problem: format!("compressed data is damaged or cut off ({source}); fetch the file again"),
        },
        _ => Error::io(path, source),
    }
}

/// The next line without its line end. `None` after the last line.
fn next_line<'a>(reader: &mut impl BufRead, line: &'a mut Vec<u8>, path: &Path) -> Result<Option<&'a [u8]>, Error> {
    line.clear();
    if reader.read_until(b'\n', line).map_err(|source| unreadable(path, source))? == 0 {
        return Ok(None);
    }
    let content = line.strip_suffix(b"\n").unwrap_or(line);
    Ok(Some(content.strip_suffix(b"\r").unwrap_or(content)))
}

fn utf8<'a>(bytes: &'a [u8], path: &Path, at: Position) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let problem = format!("not UTF-8 from byte {} on; convert the file to UTF-8", error.valid_up_to() + 1);
        Error::BadRow { path: path.to_owned(), at, problem }
    })
}

#[cfg(test)]
mod tests;
