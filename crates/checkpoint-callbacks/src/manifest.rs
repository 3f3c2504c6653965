//! `manifest.json`: what a checkpoint consists of. Written last, so a folder without it is not a checkpoint.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    disk::Disk,
    durable::{self, NewFile},
    names::parse_checkpoint,
};

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
    /// Writes it into `dir`, whose files it lists, and flushes it.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST_FILE_NAME);
        let text = serde_json::to_vec_pretty(self).map_err(|source| Error::Json { path: path.clone(), source })?;
        let mut file = NewFile::create(disk, &path)?;
        file.write_all(&text).map_err(|error| file.error(error))?;
        file.finish().map(drop)
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
    let step_of_name = checkpoint.file_name().and_then(|name| parse_checkpoint(name.to_str()?));
    if step_of_name.is_some_and(|step| step != manifest.global_step) {
        return Err(incomplete(format!("{MANIFEST_FILE_NAME} is that of step {}", manifest.global_step)));
    }
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
    use crate::testing::write_manifest;

    fn checkpoint() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), vec![7; 3 << 20]).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/empty"), "").unwrap();
        write_manifest(dir.path(), 12);
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

    /// A manifest has no checksum of its own: every part of it is compared with something.
    #[test]
    fn any_flipped_bit_of_the_manifest_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint-12");
        fs::create_dir_all(&checkpoint).unwrap();
        fs::write(checkpoint.join("model"), "weights").unwrap();
        write_manifest(&checkpoint, 12);
        verify(&checkpoint).unwrap();
        let path = checkpoint.join(MANIFEST_FILE_NAME);
        let text = fs::read(&path).unwrap();
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[place] ^= 1 << bit;
                fs::write(&path, &flipped).unwrap();
                let is_white = |byte: u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
                if !(is_white(text[place]) && is_white(flipped[place])) {
                    let context = String::from_utf8_lossy(&flipped[place.saturating_sub(20)..]).into_owned();
                    verify(&checkpoint).expect_err(&context);
                }
            }
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
