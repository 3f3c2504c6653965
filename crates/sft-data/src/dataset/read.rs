//! Records out of files, one at a time.
//!
//! Every reader hands `{column: value}` records to a callback with their position, and stops when
//! it says so. Text files may be compressed; the first bytes tell.

mod csv;
mod json;
mod parquet;
mod text;

use super::format::Format;
use crate::{Error, Position};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

/// A row as it is in its file.
pub(super) type Record = Map<String, Value>;
/// What is done with each record.
pub(super) type OnRecord<'a> = dyn FnMut(Position, Record) -> Result<ControlFlow<()>, Error> + 'a;

/// Reads the records of a file in order. `columns` are those of interest; a format that can will
/// skip the others.
pub(super) fn read(path: &Path, format: Format, columns: &[&str], on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    match format {
        Format::Parquet => parquet::read(path, columns, on_record),
        Format::Json => json::read(path, on_record),
        Format::Csv => csv::read(path, b',', columns, on_record),
        Format::Tsv => csv::read(path, b'\t', columns, on_record),
        Format::Text => text::read(path, on_record),
    }
}

/// The names of a file's columns: of JSON, those of its first records.
pub(super) fn columns(path: &Path, format: Format) -> Result<Vec<String>, Error> {
    match format {
        Format::Parquet => parquet::columns(path),
        Format::Csv => csv::columns(path, b','),
        Format::Tsv => csv::columns(path, b'\t'),
        Format::Text => Ok(vec!["text".to_owned()]),
        Format::Json => json::columns(path),
    }
}

/// Opens a file, decompressed.
fn open(path: &Path) -> Result<BufReader<Box<dyn Read>>, Error> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    const ZSTANDARD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
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
    let reader: Box<dyn Read> = Box::new(Bounded { inner: reader, left: most_bytes(size) });
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

/// What the content of a file of `size` bytes may come to: no text that is worth training on is
/// compressed better than gzip can.
fn most_bytes(size: u64) -> u64 {
    const MOST_BYTES_OF_ONE: u64 = 1032;
    const FREE_BYTES: u64 = 1 << 30;
    size.saturating_mul(MOST_BYTES_OF_ONE).saturating_add(FREE_BYTES)
}

/// Fails where the content has more bytes than it may.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let left = self.left.checked_sub(length as u64);
        self.left = left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds too much for its size"))?;
        Ok(length)
    }
}

/// An error while reading: of a compressed file most likely its own.
fn unreadable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Error::BadFile {
            path: path.to_owned(),
            problem: format!("compressed data is damaged or cut off ({source}); fetch the file again"),
        },
        _ => Error::io(path, source),
    }
}

/// The next line without its end, `None` after the last one.
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
        let problem = format!("not UTF-8 from byte {} of it on; convert the file to UTF-8", error.valid_up_to() + 1);
        Error::BadRow { path: path.to_owned(), at, problem }
    })
}

#[cfg(test)]
mod tests;
