//! Checks the page headers of a column before the library reads the pages, because the library
//! allocates whatever size a header states.
//!
//! A header is a struct in Thrift's compact protocol. Only the sizes and the number of values are
//! read here.

use std::io::{self, BufReader, Read, Seek};

/// Pages up to this size are always accepted.
const ALLOWANCE_BYTES: u64 = 64 << 20;
/// Larger pages may be as large as gzip can make them.
const MAX_BYTES_PER_COMPRESSED_BYTE: u64 = 1032;
/// The headers in the format are nested three deep.
const MAX_DEPTH: usize = 8;

/// Where a column is in the file, and how many values its pages hold together.
pub(super) struct Column {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) num_values: u64,
}

/// Checks the headers of all pages of a column. The error says what is wrong with them.
pub(super) fn check<R: Read + Seek>(file: R, column: &Column) -> io::Result<()> {
    let mut pages = Pages { file: BufReader::new(file), left: column.length };
    pages.file.seek(io::SeekFrom::Start(column.start))?;
    let mut num_values = 0;
    // Some writers leave bytes after the last page.
    while num_values < column.num_values && pages.left > 0 {
        let page = pages.header()?;
        if page.compressed > pages.left {
            return Err(wrong("a page that goes beyond its column"));
        }
        if page.uncompressed > ALLOWANCE_BYTES.max(page.compressed.saturating_mul(MAX_BYTES_PER_COMPRESSED_BYTE)) {
            return Err(wrong("a page that holds too much for its size"));
        }
        pages.skip(page.compressed)?;
        num_values += page.num_values;
    }
    Ok(())
}

#[derive(Default)]
struct Page {
    uncompressed: u64,
    compressed: u64,
    num_values: u64,
}

struct Pages<R> {
    file: BufReader<R>,
    /// Number of bytes of the column that have not been read.
    left: u64,
}

/// Reads a field and returns true, or returns false without reading it.
type ReadField<'t, R> = dyn FnMut(&mut Pages<R>, &[i64], u8) -> io::Result<bool> + 't;

impl<R: Read + Seek> Pages<R> {
    fn header(&mut self) -> io::Result<Page> {
        let mut page = Page::default();
        self.fields(&mut Vec::new(), 0, &mut |pages, path, kind| {
            let place = match path {
                [2] => &mut page.uncompressed,
                [3] => &mut page.compressed,
                // The header of a data page, version 1 or 2.
                [5 | 8, 1] => &mut page.num_values,
                _ => return Ok(false),
            };
            *place = u64::try_from(pages.integer(kind)?).map_err(|_| wrong("a negative size"))?;
            Ok(true)
        })?;
        Ok(page)
    }

    /// Calls `read_field` for each field, with the ids of the fields on the path to it and its
    /// type. Skips the field if `read_field` did not read it.
    fn fields(&mut self, path: &mut Vec<i64>, depth: usize, read_field: &mut ReadField<'_, R>) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(wrong("a header that is too deep"));
        }
        let mut id = 0i64;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(());
            }
            let (step, kind) = (i64::from(byte >> 4), byte & 15);
            id = if step == 0 { self.integer(I16)? } else { id + step };
            path.push(id);
            if kind == STRUCT {
                self.fields(path, depth + 1, read_field)?;
            } else if !read_field(self, path, kind)? && !matches!(kind, TRUE | FALSE) {
                self.skip_value(kind, depth)?;
            }
            path.pop();
        }
    }

    fn skip_value(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        match kind {
            // In a list, each of these takes one byte.
            TRUE | FALSE | BYTE => self.skip(1),
            I16 | I32 | I64 => self.varint().map(|_| ()),
            DOUBLE => self.skip(8),
            BINARY => {
                let length = self.varint()?;
                self.skip(length)
            }
            LIST | SET => {
                let byte = self.byte()?;
                let length = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                if length > self.left || depth > MAX_DEPTH {
                    return Err(wrong("a list longer than its column"));
                }
                (0..length).try_for_each(|_| self.skip_value(byte & 15, depth + 1))
            }
            STRUCT => self.fields(&mut Vec::new(), depth + 1, &mut |_, _, _| Ok(false)),
            _ => Err(wrong("a header of unknown content")),
        }
    }

    /// Reads a signed number, which is zigzag-encoded.
    fn integer(&mut self, kind: u8) -> io::Result<i64> {
        if !matches!(kind, I16 | I32 | I64) {
            return Err(wrong("a size that is no number"));
        }
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(wrong("a number without end"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.take(1)?;
        self.file.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        self.take(length)?;
        let offset = i64::try_from(length).map_err(|_| wrong("a page that goes beyond its column"))?;
        self.file.seek_relative(offset)
    }

    fn take(&mut self, length: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(length).ok_or_else(|| wrong("a header that goes beyond its column"))?;
        Ok(())
    }
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

fn wrong(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of `num_values` values, whose statistics hold a text of `text` bytes.
    fn page(uncompressed: u64, compressed: u64, num_values: u64, text: u64) -> Vec<u8> {
        fn varint(mut value: u64, to: &mut Vec<u8>) {
            while value >= 128 {
                to.push(value as u8 | 128);
                value >>= 7;
            }
            to.push(value as u8);
        }
        let mut bytes = vec![0x15, 0];
        for (byte, value) in [(0x15, uncompressed * 2), (0x15, compressed * 2)] {
            bytes.push(byte);
            varint(value, &mut bytes);
        }
        bytes.extend([0x2c, 0x15]); // field 5, its field 1
        varint(num_values * 2, &mut bytes);
        bytes.extend([0x4c, 0x18]); // field 5: statistics, their field 1
        varint(text, &mut bytes);
        bytes.extend(vec![b'a'; text.min(10) as usize]);
        bytes.extend([0, 0, 0]);
        bytes.extend(vec![0; compressed.min(1000) as usize]);
        bytes
    }

    fn checked(bytes: &[u8], num_values: u64) -> Result<(), String> {
        let column = Column { start: 0, length: bytes.len() as u64, num_values };
        check(io::Cursor::new(bytes), &column).map_err(|error| error.to_string())
    }

    #[test]
    fn impossible_page_headers_are_refused() {
        let sound = [page(900, 100, 7, 3), page(20 << 20, 50, 5, 0)].concat();
        assert_eq!(checked(&sound, 12), Ok(()));
        assert_eq!(checked(&[sound.clone(), b"left behind".to_vec()].concat(), 12), Ok(()));
        assert!(checked(&[sound.clone(), b"left behind".to_vec()].concat(), 13).is_err());
        for (bytes, expected) in [
            (page(65 << 20, 50, 5, 0), "holds too much"),
            (page(10, 5000, 5, 0), "beyond its column"),
            (page(10, 50, 5, 1 << 45), "beyond its column"),
            (vec![0x15, 0, 0x15, 1], "a negative size"),
            (vec![0x18, 0x15], "beyond its column"),
            (vec![0x1c; 20], "too deep"),
            ([vec![0x15], vec![255; 20]].concat(), "without end"),
            ([vec![0x19, 0xf5], vec![255; 9], vec![1; 8]].concat(), "longer than its column"),
        ] {
            let found = checked(&bytes, 9).unwrap_err();
            assert!(found.contains(expected), "{found}, not {expected}");
        }
    }
}
