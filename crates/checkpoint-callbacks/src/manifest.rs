//! `manifest.json`: what a checkpoint consists of. Written last, so a folder without it is not a checkpoint.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, durable};

/// The manifest's name in a checkpoint.
pub const MANIFEST_FILE_NAME: &str = "manifest.json";

/// More threads than this do not make disks faster.
const MAX_THREADS: usize = 4;

/// Sizes and digests of a checkpoint's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub global_step: u64,
    pub files: Vec<FileEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub path: PathBuf,
    pub size: u64,
    pub sha256: String,
}

impl Manifest {
    /// Flushes all files of `dir` to the disk and writes its manifest, flushed as well.
    pub fn write(dir: &Path, global_step: u64) -> Result<()> {
        let paths = durable::files_under(dir)?;
        let files = in_parallel(&paths, |path| {
            let full = dir.join(path);
            durable::sync(&full)?;
            let (size, sha256) = durable::digest(&full)?;
            Ok(FileEntry { path: path.clone(), size, sha256 })
        })?;
        let path = dir.join(MANIFEST_FILE_NAME);
        let text = serde_json::to_vec_pretty(&Self { global_step, files })
            .map_err(|source| Error::Json { path: path.clone(), source })?;
        fs::write(&path, text).map_err(Error::file("write", &path))?;
        durable::sync(&path)
    }

    /// Reads a checkpoint's manifest.
    pub fn read(dir: &Path) -> Result<Self> {
        let incomplete = |reason: String| Error::Incomplete { path: dir.to_owned(), reason };
        let text = match fs::read(dir.join(MANIFEST_FILE_NAME)) {
            Ok(text) => text,
            Err(error) => return Err(incomplete(format!("{MANIFEST_FILE_NAME}: {error}"))),
        };
        serde_json::from_slice(&text).map_err(|error| incomplete(format!("{MANIFEST_FILE_NAME}: {error}")))
    }

    /// The entry of a file.
    pub fn entry(&self, path: &Path) -> Option<&FileEntry> {
        self.files.iter().find(|entry| entry.path == path)
    }
}

/// Checks that a checkpoint has all files of its manifest, with the sizes and contents they had when it was saved.
pub fn verify(checkpoint: &Path) -> Result<()> {
    let incomplete = |reason: String| Error::Incomplete { path: checkpoint.to_owned(), reason };
    let manifest = Manifest::read(checkpoint)?;
    // Sizes first: they find nearly all damage and cost nothing.
    for FileEntry { path, size, .. } in &manifest.files {
        match fs::metadata(checkpoint.join(path)) {
            Ok(found) if found.len() == *size => {}
            Ok(found) => {
                let reason = format!("{} has {} bytes and should have {size}", path.display(), found.len());
                return Err(incomplete(reason));
            }
            Err(error) => return Err(incomplete(format!("{}: {error}", path.display()))),
        }
    }
    in_parallel(&manifest.files, |entry| {
        let (_, sha256) = durable::digest(&checkpoint.join(&entry.path))?;
        let reason = || format!("{} is not what was saved (its SHA-256 differs)", entry.path.display());
        if sha256 == entry.sha256 { Ok(()) } else { Err(incomplete(reason())) }
    })?;
    Ok(())
}

/// Maps in a few threads, keeping the order; the first error wins.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let num_threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let next = AtomicUsize::new(0);
    let take_turns = || -> Result<Vec<(usize, R)>> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return Ok(done) };
            done.push((index, work(item)?));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..num_threads).map(|_| scope.spawn(take_turns)).collect();
        let mut results = take_turns()?;
        for helper in helpers {
            match helper.join() {
                Ok(done) => results.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(results)
    })?;
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), vec![7; 3 << 20]).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/empty"), "").unwrap();
        Manifest::write(dir.path(), 12).unwrap();
        dir
    }

    #[test]
    fn a_whole_checkpoint_verifies() {
        let dir = checkpoint();
        verify(dir.path()).unwrap();
        let manifest = Manifest::read(dir.path()).unwrap();
        assert_eq!(manifest.global_step, 12);
        let paths: Vec<_> = manifest.files.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["model.safetensors", "sub/empty"]);
        // Of nothing, as everyone knows it.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(manifest.entry(Path::new("sub/empty")).unwrap().sha256, empty);
    }

    #[test]
    fn damage_is_named() {
        type Harm = fn(&Path);
        let damage: [(&str, Harm); 5] = [
            ("model.safetensors has 100 bytes and should have 3145728", |dir| {
                fs::OpenOptions::new().write(true).open(dir.join("model.safetensors")).unwrap().set_len(100).unwrap();
            }),
            ("model.safetensors is not what was saved", |dir| {
                let mut bytes = vec![7; 3 << 20];
                bytes[2_000_000] ^= 1;
                fs::write(dir.join("model.safetensors"), bytes).unwrap();
            }),
            ("sub/empty: No such file", |dir| fs::remove_file(dir.join("sub/empty")).unwrap()),
            ("manifest.json: No such file", |dir| fs::remove_file(dir.join(MANIFEST_FILE_NAME)).unwrap()),
            ("manifest.json: EOF", |dir| fs::write(dir.join(MANIFEST_FILE_NAME), "").unwrap()),
        ];
        for (expected, harm) in damage {
            let dir = checkpoint();
            harm(dir.path());
            let message = verify(dir.path()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn parallel_work_keeps_the_order_and_the_error() {
        let items: Vec<u64> = (0..100).collect();
        assert_eq!(in_parallel(&items, |item| Ok(item * 2)).unwrap(), (0..200).step_by(2).collect::<Vec<u64>>());
        let fails = |item: &u64| {
            let path = PathBuf::from(item.to_string());
            if *item == 57 { Err(Error::OutputDirIsAFile { path }) } else { Ok(()) }
        };
        assert!(in_parallel(&items, fails).unwrap_err().to_string().contains("57"));
    }
}
