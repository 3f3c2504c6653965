//! Limits on Arrow files.
//!
//! A compressed buffer states its size, which the library allocates before it decompresses. A batch
//! states its number of rows, and without buffers there can be any number of them. So all messages
//! are looked at first ([`check`]). A list of nothing may state any length, so the values of a
//! batch are counted while they are converted ([`Values`]).

use super::content_size::HumanBytes;
use super::panics;
use crate::Error;
use arrow_ipc::{MessageHeader, RecordBatch, root_as_message};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What a buffer may hold for each byte that it takes in the file. Gzip can do no better.
const MAX_BYTES_PER_COMPRESSED_BYTE: u64 = 1032;
/// What the buffers of a batch may hold together in addition.
const ALLOWANCE_BYTES: u64 = 4 << 20;
/// The smallest value takes a bit.
const MAX_VALUES_PER_BYTE: u64 = 8;
/// Rows and values that are always accepted.
const ALLOWANCE_VALUES: u64 = 1024;
const CONTINUATION: u32 = u32::MAX;

/// What the messages of a file state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stated {
    pub(crate) rows: u64,
    /// Whether the file ends with the mark that writers put there.
    pub(crate) has_end: bool,
    /// The most values that a batch can hold.
    pub(crate) max_values: u64,
}

/// Runs `work` on an Arrow file, and returns an error if the library panics.
pub(crate) fn catch_panics<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    panics::catch(work).unwrap_or_else(|_| Err(damaged(path, "it is damaged")))
}

/// The error about a file that cannot be read.
pub(crate) fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    let problem = format!("cannot be read as Arrow ({problem}); fetch it again");
    Error::BadFile { path: path.to_owned(), problem }
}

/// Looks at all messages from where the file stands to its end at `length`. The error says what is
/// wrong with one.
pub(crate) fn check<R: Read + Seek>(file: R, length: u64) -> io::Result<Stated> {
    let mut file = BufReader::new(file);
    let mut at = file.stream_position()?;
    let mut stated = Stated::default();
    let mut header = Vec::new();
    loop {
        if at == length {
            return Ok(stated);
        }
        let mut word = |file: &mut BufReader<R>| -> io::Result<u32> {
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes).map_err(|_| wrong("it is cut off"))?;
            at += 4;
            Ok(u32::from_le_bytes(bytes))
        };
        let size = match word(&mut file)? {
            CONTINUATION => word(&mut file)?,
            size => size,
        };
        if size == 0 {
            return Ok(Stated { has_end: true, ..stated });
        }
        if u64::from(size) > length - at.min(length) {
            return Err(wrong("it is cut off"));
        }
        header.resize(size as usize, 0);
        file.read_exact(&mut header)?;
        at += u64::from(size);
        let message = root_as_message(&header).map_err(|_| wrong("a message has a damaged header"))?;
        let body = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
        if body > length - at.min(length) {
            return Err(wrong("it is cut off"));
        }
        let batch = match message.header_type() {
            MessageHeader::RecordBatch => message.header_as_record_batch(),
            MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
            _ => None,
        };
        if let Some(batch) = batch {
            let content = content_bytes(&mut file, batch, (at, body))?;
            let max_values = content.saturating_mul(MAX_VALUES_PER_BYTE).saturating_add(ALLOWANCE_VALUES);
            let rows = u64::try_from(batch.length()).map_err(|_| wrong("a batch has a negative number of rows"))?;
            if rows > max_values {
                return Err(wrong(&format!("a batch of {} states {rows} rows", HumanBytes(body))));
            }
            stated.max_values = stated.max_values.max(max_values);
            if message.header_type() == MessageHeader::RecordBatch {
                stated.rows = stated.rows.saturating_add(rows);
            }
        }
        at += body;
        file.seek(SeekFrom::Start(at))?;
    }
}

/// What the buffers of a batch hold. Its body is at `start` and takes `body` bytes.
fn content_bytes<R: Read + Seek>(
    file: &mut BufReader<R>,
    batch: RecordBatch<'_>,
    (start, body): (u64, u64),
) -> io::Result<u64> {
    if batch.compression().is_none() {
        return Ok(body);
    }
    let most = body.saturating_mul(MAX_BYTES_PER_COMPRESSED_BYTE).saturating_add(ALLOWANCE_BYTES);
    let mut content = 0u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let (offset, length) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length()));
        let (Ok(offset), Ok(length)) = (offset, length) else { return Err(wrong("a buffer has a negative size")) };
        if offset.checked_add(length).is_none_or(|end| end > body) {
            return Err(wrong("a buffer goes beyond its batch"));
        }
        if length < 8 {
            continue;
        }
        file.seek(SeekFrom::Start(start + offset))?;
        let mut stated = [0; 8];
        file.read_exact(&mut stated)?;
        // -1 stands for a buffer that is not compressed.
        content = content.saturating_add(u64::try_from(i64::from_le_bytes(stated)).unwrap_or(length));
        if content > most {
            return Err(wrong(&format!("a batch of {} states {}", HumanBytes(body), HumanBytes(content))));
        }
    }
    Ok(content)
}

fn wrong(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// How many more values a batch may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values(u64);

impl Values {
    /// A batch may hold this many.
    pub(crate) fn of_batch(max_values: u64) -> Self {
        Self(max_values)
    }

    /// Counts values. The error is for a message about the file.
    pub(crate) fn spend(&mut self, values: usize) -> Result<(), String> {
        self.0 = self.0.checked_sub(values as u64).ok_or("a list holds more values than the file; is it damaged?")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
