//! Unpacks zip archives.
//!
//! An archive states its own sizes, and a small one can hold terabytes. Its names can lead to any
//! place, and its entries can be links.

use super::content_size::HumanBytes;
use super::regular_file;
use crate::Error;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};
use tempfile::TempDir;
use zip::ZipArchive;
use zip::result::ZipError;

/// Text that is worth training on compresses far less well.
const MAX_BYTES_PER_COMPRESSED_BYTE: u64 = 100;
/// Content up to this size is always accepted.
const ALLOWANCE_BYTES: u64 = 4 << 20;
/// A dataset has fewer files.
const MAX_FILES: usize = 100_000;
/// Number of bytes between two events of progress.
const BYTES_BETWEEN: u64 = 4 << 20;

/// Unpacks an archive into a folder of its own, which is removed with what is returned.
///
/// # Errors
/// If the archive is damaged or encrypted, holds links or names that lead out of it, or holds far
/// more than its size allows.
pub(crate) fn unpack(path: &Path) -> Result<TempDir, Error> {
    let bad = |problem: String| Error::BadFile { path: path.to_owned(), problem };
    let folder = tempfile::tempdir().map_err(|source| Error::io(std::env::temp_dir(), source))?;
    let file = regular_file::open(path).map_err(|source| Error::io(path, source))?;
    let size = file.metadata().map_err(|source| Error::io(path, source))?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| bad(described(&error)))?;
    if archive.len() > MAX_FILES {
        return Err(bad(format!("holds {} files; unpack it, and name the folder", archive.len())));
    }
    let most = size.saturating_mul(MAX_BYTES_PER_COMPRESSED_BYTE).saturating_add(ALLOWANCE_BYTES);
    let mut unpacked = Unpacked { bytes: 0, told: 0, most };
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| bad(described(&error)))?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let shown: String = name.escape_default().take(100).collect();
        if !stays_inside(&name) {
            return Err(bad(format!("holds a file named {shown}, which leads out of it; pack it again")));
        }
        let inside = folder.path().join(&name);
        if entry.is_symlink() {
            return Err(bad(format!("holds the link {shown}; pack the file itself")));
        }
        let failed = |source| Error::io(&inside, source).moved(folder.path(), path);
        if entry.is_dir() {
            fs::create_dir_all(&inside).map_err(failed)?;
            continue;
        }
        if let Some(above) = inside.parent() {
            fs::create_dir_all(above).map_err(failed)?;
        }
        let mut file = File::create_new(&inside).map_err(failed)?;
        unpacked.copy(&mut entry, &mut file, size).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => {
                let problem = format!("holds more than {}; unpack it, and name the folder", HumanBytes(most));
                bad(problem)
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                bad(format!("its file {shown} is damaged ({error}); fetch it again"))
            }
            _ => failed(error),
        })?;
    }
    Ok(folder)
}

/// Whether a name is one of a file or a folder below another.
fn stays_inside(name: &str) -> bool {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    !name.is_empty() && !name.contains(['\\', '\0', ':']) && Path::new(name).components().all(is_plain)
}

/// How much has been unpacked.
struct Unpacked {
    bytes: u64,
    told: u64,
    most: u64,
}

impl Unpacked {
    fn copy(&mut self, from: &mut impl Read, to: &mut File, size: u64) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            self.bytes += length as u64;
            if self.bytes > self.most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            io::Write::write_all(to, &buffer[..length])?;
            if self.bytes >= self.told + BYTES_BETWEEN && size > BYTES_BETWEEN {
                self.told = self.bytes;
                tracing::info!(target: "progress", stage = "unpacking", done = self.bytes, unit = "bytes");
            }
        }
    }
}

fn described(error: &ZipError) -> String {
    match error {
        ZipError::UnsupportedArchive(what) => {
            format!("cannot be unpacked here ({}); unpack it, and name the folder", what.to_ascii_lowercase())
        }
        error => format!("cannot be read as zip ({error}); fetch it again"),
    }
}

#[cfg(test)]
mod tests;
