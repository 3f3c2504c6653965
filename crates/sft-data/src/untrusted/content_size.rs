//! A limit on the content of a compressed file.
//!
//! A few kilobytes of Zstandard can hold gigabytes. Text that is worth training on never compresses
//! better than gzip can compress at all, which is 1032 to 1.

use std::io::{self, Read};

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

#[cfg(test)]
mod tests {
    use super::*;

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
