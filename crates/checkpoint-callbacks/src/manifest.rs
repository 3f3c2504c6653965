//! `manifest.json`: what a checkpoint consists of. Written last, so a folder without it is not a
//! checkpoint.

use crate::disk::Disk;
use crate::durable::{self, NewFile};
use crate::names::parse_checkpoint;
use crate::{Error, Result, inside};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// Reads a checkpoint's manifest. The paths in it are plain ones, each named once.
    pub fn read(dir: &Path) -> Result<Self> {
        let incomplete = |reason: String| Error::Incomplete { path: dir.to_owned(), reason };
        let mut text = Vec::new();
        let read = inside::open(dir, MANIFEST_FILE_NAME.as_ref()).and_then(|mut file| file.read_to_end(&mut text));
        read.map_err(|error| incomplete(format!("{MANIFEST_FILE_NAME}: {error}")))?;
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| incomplete(format!("{MANIFEST_FILE_NAME}: {error}")))?;
        let mut names = HashSet::new();
        for FileEntry { path, .. } in &manifest.files {
            let refused = |problem| Error::ManifestName { path: dir.to_owned(), file: path.clone(), problem };
            if !inside::is_plain(path) {
                return Err(refused("which is no path inside it"));
            }
            if !names.insert(path) {
                return Err(refused("more than once"));
            }
        }
        Ok(manifest)
    }
}

/// Checks that a checkpoint has all files of its manifest, with the sizes and contents they had
/// when it was saved, and regular files alone: nothing in it leads elsewhere, whoever reads it.
pub fn verify(checkpoint: &Path) -> Result<()> {
    let incomplete = |reason: String| Error::Incomplete { path: checkpoint.to_owned(), reason };
    let manifest = Manifest::read(checkpoint)?;
    let step_of_name = checkpoint.file_name().and_then(|name| parse_checkpoint(name.to_str()?));
    if step_of_name.is_some_and(|step| step != manifest.global_step) {
        return Err(incomplete(format!("{MANIFEST_FILE_NAME} is that of step {}", manifest.global_step)));
    }
    for file in durable::files_under(checkpoint)? {
        if let Err(source) = inside::size(checkpoint, &file) {
            return Err(Error::NoFileOfCheckpoint { path: checkpoint.to_owned(), file, source });
        }
    }
    // Sizes first: they find nearly all damage and cost nothing.
    for FileEntry { path, size, .. } in &manifest.files {
        match inside::size(checkpoint, path) {
            Ok(found) if found == *size => {}
            Ok(found) => {
                let reason = format!("{} has {found} bytes and should have {size}", path.display());
                return Err(incomplete(reason));
            }
            Err(error) => return Err(incomplete(format!("{}: {error}", path.display()))),
        }
    }
    in_parallel(&manifest.files, |entry| {
        let (_, sha256) = durable::digest(checkpoint, &entry.path)?;
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
    use crate::disk::RealDisk;
    use crate::testing::write_manifest;
    use std::fs;

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
        assert_eq!(manifest.files[1].sha256, empty);
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

    /// What is in the manifest comes before any file is opened.
    #[test]
    fn a_manifest_names_files_of_its_checkpoint_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint-12");
        fs::create_dir_all(checkpoint.join("sub")).unwrap();
        for file in [dir.path().join("outside"), checkpoint.join("model"), checkpoint.join("sub/model")] {
            fs::write(file, "weights").unwrap();
        }
        let (size, sha256) = durable::digest(&checkpoint, Path::new("model")).unwrap();
        let check = |paths: &[&str]| {
            let entry = |path: &&str| FileEntry { path: path.into(), size, sha256: sha256.clone() };
            let manifest = Manifest { global_step: 12, files: paths.iter().map(entry).collect() };
            manifest.write(&RealDisk, &checkpoint).unwrap();
            verify(&checkpoint)
        };
        check(&["model", "sub/model"]).unwrap();
        let outside = dir.path().join("outside");
        for path in [outside.to_str().unwrap(), "../outside", "sub/../model", "./model", "sub//model", "model/", ""] {
            let error = check(&["sub/model", path]).unwrap_err();
            assert!(matches!(&error, Error::ManifestName { file, .. } if file == Path::new(path)), "{path}: {error}");
            assert!(error.to_string().contains("no path inside it"), "{error}");
        }
        let error = check(&["model", "sub/model", "model"]).unwrap_err();
        assert!(error.to_string().contains(r#"names "model", more than once"#), "{error}");
    }

    /// Each of these would be waited for, or read without an end.
    #[cfg(unix)]
    #[test]
    fn nothing_in_a_checkpoint_leads_elsewhere() {
        use std::os::unix::fs::symlink;
        let pipe = |path: PathBuf| {
            let mode = rustix::fs::Mode::from(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        };
        // In the place of a file of the manifest, as the manifest, and beside them, where a resumed
        // run might look.
        for name in ["model.safetensors", "trainer_state.json", MANIFEST_FILE_NAME] {
            for is_link in [true, false] {
                let dir = checkpoint();
                let path = dir.path().join(name);
                let _ = fs::remove_file(&path);
                if is_link {
                    symlink("/dev/zero", path).unwrap()
                } else {
                    pipe(path)
                }
                let message = verify(dir.path()).unwrap_err().to_string();
                let expected = if is_link { "a link that leads out of the folder" } else { "not a regular file" };
                assert!(message.contains(name) && message.contains(expected), "{message}");
            }
        }
        let dir = checkpoint();
        fs::rename(dir.path().join("sub"), dir.path().join("moved")).unwrap();
        symlink("moved", dir.path().join("sub")).unwrap();
        let message = verify(dir.path()).unwrap_err().to_string();
        assert!(message.contains("sub is not a regular file"), "{message}");
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
