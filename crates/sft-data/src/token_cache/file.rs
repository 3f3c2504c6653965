//! The file of a split: a mark, the report as JSON, the examples, and a digest of all before it.
//! All numbers are little-endian.

use crate::prepare::Labels;
use crate::untrusted::regular_file;
use crate::{Example, Prepared};
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

/// Goes up with each change of the format.
pub(super) const VERSION: u8 = 1;
const MARK: [u8; 8] = [b'T', b'O', b'K', b'E', b'N', b'S', 0, VERSION];
const DIGEST_BYTES: u64 = 32;
/// A report has some hundred bytes.
const MAX_REPORT_BYTES: u64 = 1 << 16;
/// Stands for examples without labels.
const NO_LABELS: u32 = u32::MAX;

pub(super) fn write(prepared: &Prepared, to: impl Write) -> io::Result<()> {
    let mut out = Hashed { inner: to, digest: Sha256::new(), left: 0 };
    let report = serde_json::to_vec(&prepared.report)?;
    out.write_all(&MARK)?;
    out.write_all(&(report.len() as u64).to_le_bytes())?;
    out.write_all(&report)?;
    out.write_all(&(prepared.examples.len() as u64).to_le_bytes())?;
    let mut bytes = Vec::new();
    for Example { input_ids, labels, segment_lengths, rows } in &prepared.examples {
        bytes.clear();
        let mut put = |number: u32| bytes.extend(number.to_le_bytes());
        let num_ranges = labels.as_ref().map_or(NO_LABELS, |labels| labels.ranges().len() as u32);
        let lengths = [input_ids.len() as u32, num_ranges, segment_lengths.len() as u32, rows.len() as u32];
        lengths.into_iter().for_each(&mut put);
        input_ids.iter().for_each(|id| put(*id));
        labels.iter().flat_map(|labels| labels.ranges()).for_each(|range| {
            put(range.start);
            put(range.end);
        });
        segment_lengths.iter().for_each(|length| put(*length));
        rows.iter().for_each(|row| {
            put(*row as u32);
            put((*row >> 32) as u32);
        });
        out.write_all(&bytes)?;
    }
    let digest = out.digest.finalize();
    out.inner.write_all(&digest)?;
    out.inner.flush()
}

/// Reads a file. The error says what is wrong with it.
pub(super) fn read(path: &Path) -> io::Result<Prepared> {
    let file = regular_file::open(path)?;
    let length = file.metadata()?.len();
    let left = length.checked_sub(DIGEST_BYTES).ok_or_else(|| wrong("it is cut off"))?;
    let mut file = Hashed { inner: BufReader::with_capacity(1 << 20, file), digest: Sha256::new(), left };
    if file.array::<8>()? != MARK {
        return Err(wrong("it is not of this format"));
    }
    let report_bytes = u64::from_le_bytes(file.array()?);
    if report_bytes > MAX_REPORT_BYTES {
        return Err(wrong("its report is too long"));
    }
    let report = file.bytes(report_bytes)?;
    let report = serde_json::from_slice(&report).map_err(|_| wrong("its report is damaged"))?;
    let num_examples = u64::from_le_bytes(file.array()?);
    // The smallest example states four lengths.
    if num_examples > file.left / 16 {
        return Err(wrong("it states more examples than it holds"));
    }
    let mut examples = Vec::with_capacity(num_examples as usize);
    for _ in 0..num_examples {
        examples.push(example(&mut file)?);
    }
    if file.left > 0 {
        return Err(wrong("it holds more than its examples"));
    }
    let Hashed { mut inner, digest, .. } = file;
    let mut stored = [0; DIGEST_BYTES as usize];
    inner.read_exact(&mut stored)?;
    if digest.finalize()[..] != stored {
        return Err(wrong("its digest is not that of its content"));
    }
    Ok(Prepared { examples, report })
}

fn example<R: Read>(file: &mut Hashed<R>) -> io::Result<Example> {
    let [ids, ranges, segments, rows] = file.numbers(4)?[..] else { return Err(wrong("it is cut off")) };
    let input_ids = file.numbers(u64::from(ids))?;
    let labels = match ranges {
        NO_LABELS => None,
        ranges => {
            let mut labels = Labels::default();
            let mut end = 0;
            for range in file.numbers(2 * u64::from(ranges))?.chunks_exact(2) {
                if range[0] < end || range[1] <= range[0] || range[1] > ids {
                    return Err(wrong("its labels are damaged"));
                }
                end = range[1];
                labels.push(range[0] as usize..range[1] as usize);
            }
            Some(labels)
        }
    };
    let segment_lengths = file.numbers(u64::from(segments))?;
    if segment_lengths.iter().map(|length| u64::from(*length)).sum::<u64>() != u64::from(ids) {
        return Err(wrong("its documents are damaged"));
    }
    let halves = file.numbers(2 * u64::from(rows))?;
    let rows = halves.chunks_exact(2).map(|halves| u64::from(halves[0]) | u64::from(halves[1]) << 32).collect();
    Ok(Example { input_ids, labels, segment_lengths, rows })
}

/// Takes the digest of what goes through. `left` are the bytes that may still be read.
struct Hashed<T> {
    inner: T,
    digest: Sha256,
    left: u64,
}

impl<W: Write> Hashed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashed<R> {
    fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        self.left = self.left.checked_sub(length).ok_or_else(|| wrong("it is cut off"))?;
        let mut bytes = vec![0; length as usize];
        self.inner.read_exact(&mut bytes)?;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let bytes = self.bytes(N as u64)?;
        bytes.try_into().map_err(|_| wrong("it is cut off"))
    }

    fn numbers(&mut self, count: u64) -> io::Result<Vec<u32>> {
        let bytes = self.bytes(count * 4)?;
        Ok(bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect())
    }
}

fn wrong(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
