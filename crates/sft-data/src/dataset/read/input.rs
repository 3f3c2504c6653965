//! Opens a text file: decompresses it, and converts UTF-16 to UTF-8.

use super::options::Encoding;
use super::progress::{Progress, Purpose, Tracked};
use super::utf16::Utf16;
use crate::untrusted::content_size::{Limited, RecordTooLong};
use crate::untrusted::regular_file;
use crate::{Error, Position};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The text of a file, as UTF-8 without a byte order mark.
pub(super) type Text = BufReader<Box<dyn Read>>;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTANDARD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
const BUFFER_BYTES: usize = 1 << 16;

pub(super) fn open(path: &Path, encoding: Encoding, purpose: Purpose) -> Result<Text, Error> {
    let bad = |problem: &str| Error::BadFile { path: path.to_owned(), problem: problem.to_owned() };
    let mut text = decompressed(path, purpose)?;
    let start = text.fill_buf().map_err(|source| unreadable(path, source))?;
    if start.starts_with(b"version https://git-lfs") {
        return Err(bad("is a Git LFS pointer, not the file itself; run `git lfs pull`"));
    }
    let utf16 = match (encoding, start) {
        (_, [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..]) => return Err(bad("is UTF-32; convert it to UTF-8")),
        (Encoding::Utf16Big, _) | (_, [0xfe, 0xff, ..]) => Some(encoding_rs::UTF_16BE),
        (Encoding::Utf16Little, _) | (_, [0xff, 0xfe, ..]) => Some(encoding_rs::UTF_16LE),
        (_, [0, other, ..] | [other, 0, ..]) if *other != 0 => {
            return Err(bad("seems to be UTF-16 without a byte order mark; convert it to UTF-8"));
        }
        _ => None,
    };
    if let Some(utf16) = utf16 {
        if purpose == Purpose::Rows {
            tracing::info!("{} is {} and is read as that", path.display(), utf16.name());
        }
        let inner: Box<dyn Read> = Box::new(Utf16::new(text, utf16));
        text = BufReader::with_capacity(BUFFER_BYTES, inner);
    } else if start.starts_with(UTF8_MARK) {
        text.consume(UTF8_MARK.len());
    }
    Ok(text)
}

fn decompressed(path: &Path, purpose: Purpose) -> Result<Text, Error> {
    let failed = |source| Error::io(path, source);
    let file = regular_file::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut file = BufReader::new(Tracked { inner: file, progress: Progress::of_bytes(size, purpose) });
    let start = file.fill_buf().map_err(failed)?;
    let content: Box<dyn Read> = if start.starts_with(GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if start.starts_with(ZSTANDARD) {
        Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(failed)?)
    } else {
        Box::new(file)
    };
    let content: Box<dyn Read> = Box::new(Limited::new(content, size));
    Ok(BufReader::with_capacity(BUFFER_BYTES, content))
}

/// An error while reading. Some kinds of error mean that the content is damaged.
pub(super) fn unreadable(path: &Path, source: io::Error) -> Error {
    let bad = |problem: String| Error::BadFile { path: path.to_owned(), problem };
    match source.get_ref() {
        Some(inner) if inner.is::<RecordTooLong>() || inner.is::<super::utf16::NotUtf16>() => {
            return bad(inner.to_string());
        }
        _ => {}
    }
    match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            bad(format!("compressed data is damaged or cut off ({source}); fetch the file again"))
        }
        _ => Error::io(path, source),
    }
}

/// The next line without its line end. `None` after the last line.
pub(super) fn next_line<'a>(
    reader: &mut impl BufRead,
    line: &'a mut Vec<u8>,
    path: &Path,
) -> Result<Option<&'a [u8]>, Error> {
    line.clear();
    let mut limited = reader.take(RecordTooLong::MAX_BYTES + 1);
    let length = limited.read_until(b'\n', line).map_err(|source| unreadable(path, source))?;
    if length == 0 {
        return Ok(None);
    }
    if length as u64 > RecordTooLong::MAX_BYTES {
        return Err(Error::BadFile { path: path.to_owned(), problem: RecordTooLong.to_string() });
    }
    let content = line.strip_suffix(b"\n").unwrap_or(line);
    Ok(Some(content.strip_suffix(b"\r").unwrap_or(content)))
}

pub(super) fn utf8<'a>(bytes: &'a [u8], path: &Path, at: Position) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let problem = format!("not UTF-8 from byte {} on; convert the file to UTF-8", error.valid_up_to() + 1);
        Error::BadRow { path: path.to_owned(), at, problem }
    })
}
