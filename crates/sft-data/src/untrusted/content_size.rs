//! Limits on the content of a file.
//!
//! A few kilobytes of Zstandard can hold gigabytes. Text that is worth training on never compresses
//! better than gzip can compress at all, which is 1032 to 1. And a row has to fit into memory,
//! although a line of a file can be as long as the file.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

const MAX_BYTES_PER_COMPRESSED_BYTE: u64 = 1032;
/// Content up to this size is always accepted.
const ALLOWANCE_BYTES: u64 = 1 << 30;

/// The largest content that is accepted of a file of `file_bytes`.
pub(crate) fn max_content_bytes(file_bytes: u64) -> u64 {
    file_bytes.saturating_mul(MAX_BYTES_PER_COMPRESSED_BYTE).saturating_add(ALLOWANCE_BYTES)
}

/// A reader that fails when the content exceeds a limit.
pub(crate) struct Limited<R> {
    inner: R,
    bytes_left: u64,
}

impl<R> Limited<R> {
    /// Limits the content that `inner` decompresses from a file of `file_bytes`.
    pub(crate) fn new(inner: R, file_bytes: u64) -> Self {
        Self { inner, bytes_left: max_content_bytes(file_bytes) }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let left = self.bytes_left.checked_sub(length as u64);
        self.bytes_left =
            left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds too much for its size"))?;
        Ok(length)
    }
}

/// A line or a record is longer than any that is worth training on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has a line or a record of more than {}; is it damaged? Split it", HumanBytes(RecordTooLong::MAX_BYTES))]
pub(crate) struct RecordTooLong;

impl RecordTooLong {
    /// The longest line or record that is read.
    pub(crate) const MAX_BYTES: u64 = 256 << 20;
}

/// A reader that fails with [`RecordTooLong`] when a record is too long. [`Bytes::restart`] starts
/// a new record.
pub(crate) struct RecordLimited<R> {
    inner: R,
    bytes: Bytes,
}

/// How many bytes have been read for a record.
#[derive(Clone, Default)]
pub(crate) struct Bytes(Rc<Cell<u64>>);

impl Bytes {
    pub(crate) fn restart(&self) {
        self.0.set(0);
    }
}

impl<R> RecordLimited<R> {
    pub(crate) fn new(inner: R) -> (Self, Bytes) {
        let bytes = Bytes::default();
        (Self { inner, bytes: bytes.clone() }, bytes)
    }
}

impl<R: Read> Read for RecordLimited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let read = self.bytes.0.get() + length as u64;
        self.bytes.0.set(read);
        if read > RecordTooLong::MAX_BYTES { Err(io::Error::other(RecordTooLong)) } else { Ok(length) }
    }
}

/// A size as people read it: `1.5 GiB`.
pub(crate) struct HumanBytes(pub(crate) u64);

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        let power = (self.0.max(1).ilog2() / 10).min(4);
        let number = format!("{:.1}", self.0 as f64 / 1024_f64.powi(power as i32));
        write!(f, "{} {}", number.trim_end_matches(".0"), units.get(power as usize).unwrap_or(&units[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (bytes, expected) in [(0, "0 bytes"), (1000, "1000 bytes"), (1 << 20, "1 MiB"), (1_500_000, "1.4 MiB")] {
            assert_eq!(HumanBytes(bytes).to_string(), expected);
        }
    }

    #[test]
    fn a_record_cannot_be_longer_than_the_limit() {
        let (mut reader, bytes) = RecordLimited::new(io::repeat(b'a'));
        let mut read = |length| io::copy(&mut reader.by_ref().take(length), &mut io::sink());
        read(RecordTooLong::MAX_BYTES - 1).unwrap();
        bytes.restart();
        read(RecordTooLong::MAX_BYTES - (1 << 20)).unwrap();
        assert!(read(2 << 20).unwrap_err().to_string().starts_with("has a line or a record of more than 256 MiB"));
    }

    #[test]
    fn content_above_the_limit_is_an_error() {
        let limited = |bytes_left| Limited { inner: io::repeat(b'a').take(100), bytes_left };
        assert_eq!(io::copy(&mut limited(100), &mut io::sink()).unwrap(), 100);
        let error = io::copy(&mut limited(99), &mut io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "it holds too much for its size");
    }

    #[test]
    fn a_small_compressed_file_cannot_hold_everything() {
        // 2 GiB in some 65 KB, which no reader may decompress to the end.
        let content = io::repeat(b'a').take(2 << 30);
        let mut compressed = Vec::new();
        zstd::stream::copy_encode(content, &mut compressed, 1).unwrap();
        let file_bytes = compressed.len() as u64;
        assert!(max_content_bytes(file_bytes) < 2 << 30, "{file_bytes}");
        let decoder = zstd::stream::read::Decoder::new(compressed.as_slice()).unwrap();
        assert!(io::copy(&mut Limited::new(decoder, file_bytes), &mut io::sink()).is_err());
    }
}
