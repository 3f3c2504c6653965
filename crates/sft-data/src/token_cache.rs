//! Keeps tokenized rows on the disk, so that a second run need not tokenize them.
//!
//! A file holds what [`prepare`] made of one split. Its name is a digest of the rows, the files of
//! the tokenizer, the options and this crate's version, so what is found is what would be made. It
//! is written beside its place and renamed, and ends with a digest of its content: two runs at once
//! write the same file, and a damaged one is made again. Files that have not been used for the
//! longest time are removed when all of them together exceed a limit.

mod file;

use crate::{ByteSize, ChatTokenizer, Error, PrepareConfig, Prepared, Row, prepare};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The extension of the files.
const EXTENSION: &str = "tokens";
/// Fewer rows are tokenized in less than a second.
const MIN_ROWS: usize = 5000;
/// What an interrupted run left is removed after this time.
const LONGEST_WRITE: Duration = Duration::from_secs(24 * 3600);
/// The start of the names of files that are being written.
const UNFINISHED: &str = ".writing-";
/// Function of chat templates whose result changes with the day.
const DATE: &[u8] = b"strftime_now";

/// A folder with tokenized rows. Several programs may use it at once.
#[derive(Debug, Clone)]
pub struct TokenCache {
    folder: PathBuf,
    max_bytes: ByteSize,
    min_rows: usize,
    also: Value,
}

impl TokenCache {
    /// A cache in a folder, which is made if necessary. Its files take at most `max_bytes`
    /// together.
    pub fn new(folder: impl Into<PathBuf>, max_bytes: ByteSize) -> Self {
        Self { folder: folder.into(), max_bytes, min_rows: MIN_ROWS, also: Value::Null }
    }

    /// Distinguishes by this value too, such as the options of the tokenizer.
    pub fn keyed_by(mut self, also: Value) -> Self {
        self.also = also;
        self
    }

    /// Keeps splits of so many rows or more. 5000 by default: fewer are tokenized in no time.
    pub fn min_rows(mut self, rows: usize) -> Self {
        self.min_rows = rows;
        self
    }

    /// What [`prepare`] makes of the rows: from the cache, or made now and kept. A cache that
    /// cannot be used is told with a warning and is no error. Warnings of `prepare` are told only
    /// when the examples are made.
    ///
    /// # Errors
    /// As for [`prepare`].
    pub fn prepare(
        &self,
        rows: Vec<Row>,
        tokenizer: &ChatTokenizer,
        config: &PrepareConfig,
    ) -> Result<Prepared, Error> {
        if rows.len() < self.min_rows {
            return prepare(rows, tokenizer, config);
        }
        let key = self.key(&rows, tokenizer, config);
        let path = self.folder.join(format!("{key}.{EXTENSION}"));
        match file::read(&path) {
            Ok(prepared) => {
                // The time of use. Without it the file is only removed sooner.
                let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                tracing::info!("the tokens of {} rows come from {}", rows.len(), path.display());
                return Ok(prepared);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{}: {error}; the rows are tokenized again", path.display()),
        }
        let prepared = prepare(rows, tokenizer, config)?;
        match self.write(&path, &prepared) {
            Ok(()) => tracing::info!("tokens are kept in {}", path.display()),
            Err(error) => {
                tracing::warn!("{}: tokens cannot be kept ({error}); the next run makes them again", path.display())
            }
        }
        Ok(prepared)
    }

    fn key(&self, rows: &[Row], tokenizer: &ChatTokenizer, config: &PrepareConfig) -> String {
        let mut digest = Parts(Sha256::new());
        digest.part(&[file::VERSION]);
        digest.part(env!("CARGO_PKG_VERSION").as_bytes());
        digest.part(self.also.to_string().as_bytes());
        digest.part(serde_json::to_string(config).unwrap_or_default().as_bytes());
        for (name, content) in tokenizer.files() {
            digest.part(name.to_string_lossy().as_bytes());
            digest.part(content);
            if content.windows(DATE.len()).any(|window| window == DATE) {
                digest.part(chrono::Local::now().date_naive().to_string().as_bytes());
            }
        }
        for id in [Some(tokenizer.eos_token_id()), Some(tokenizer.pad_token_id()), tokenizer.bos_token_id()] {
            digest.part(&id.unwrap_or(u32::MAX).to_le_bytes());
        }
        let mut text = String::new();
        for row in rows {
            match row {
                Row::Text(text) => digest.part(text.as_bytes()),
                row => {
                    text.clear();
                    // All of the row, whatever fields it has.
                    let _ = write!(text, "\u{0}{row:?}");
                    digest.part(text.as_bytes());
                }
            }
        }
        hex::encode(digest.0.finalize())
    }

    fn write(&self, path: &Path, prepared: &Prepared) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        self.remove_unfinished();
        let mut unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
        file::write(prepared, io::BufWriter::with_capacity(1 << 20, unfinished.as_file_mut()))?;
        unfinished.as_file_mut().flush()?;
        unfinished.persist(path).map_err(|error| error.error)?;
        self.remove_oldest(path)
    }

    /// Removes files until the rest is within the limit. The one that was just written stays.
    fn remove_oldest(&self, written: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        let mut total = 0u64;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_file() && path.extension().is_some_and(|extension| extension == EXTENSION) {
                total += metadata.len();
                files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), path));
            }
        }
        files.sort();
        for (_, bytes, path) in files.into_iter().filter(|(_, _, path)| path != written) {
            if total <= self.max_bytes.0 {
                break;
            }
            // Another run may have removed it.
            let _ = fs::remove_file(&path);
            total -= bytes;
        }
        Ok(())
    }

    fn remove_unfinished(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
            let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|time| time.elapsed().ok());
            if is_unfinished && age.is_some_and(|age| age > LONGEST_WRITE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A digest of parts, none of which can pass for another.
struct Parts(Sha256);

impl Parts {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests;
