//! `manifest.json`: the list of a checkpoint's files. It is written last, so a folder without one
//! is not a complete checkpoint.

use crate::disk::Disk;
use crate::durable::{self, NewFile};
use crate::names::parse_checkpoint;
use crate::parallel::in_parallel;
use crate::untrusted::{self, contained_path};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The manifest's name in a checkpoint.
pub const MANIFEST_FILE_NAME: &str = "manifest.json";

/// Sizes and digests of a checkpoint's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub global_step: u64,
    pub files: Vec<FileEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    /// Relative to the checkpoint.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// In lower-case hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Writes the manifest into `dir`, whose files it lists, and flushes it.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST_FILE_NAME);
        let text = serde_json::to_vec_pretty(self).map_err(|source| Error::Json { path: path.clone(), source })?;
        let mut file = NewFile::create(disk, &path)?;
        file.write_all(&text).map_err(|error| file.error(error))?;
        file.finish().map(drop)
    }

    /// Reads the manifest of the checkpoint `dir` and checks the paths that it lists.
    pub fn read(dir: &Path) -> Result<Self> {
        let incomplete = |reason: String| Error::Incomplete { path: dir.to_owned(), reason };
        let mut text = Vec::new();
        let read =
            contained_path::open(dir, MANIFEST_FILE_NAME.as_ref()).and_then(|mut file| file.read_to_end(&mut text));
        read.map_err(|error| incomplete(format!("{MANIFEST_FILE_NAME}: {error}")))?;
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| incomplete(format!("{MANIFEST_FILE_NAME}: {error}")))?;
        untrusted::check_names(dir, &manifest)?;
        Ok(manifest)
    }
}

/// Checks that a checkpoint has all files that its manifest lists, with the sizes and contents they
/// had when they were saved, and that it contains nothing but regular files: no link in it leads a
/// reader out of it. All files are read once, in a few threads.
///
/// # Errors
/// [`Error::Incomplete`] when a file is missing or differs, [`Error::ManifestName`] and
/// [`Error::ForeignFile`] when the checkpoint cannot be trusted, [`Error::File`] when the disk
/// fails.
pub fn verify(checkpoint: &Path) -> Result<()> {
    let incomplete = |reason: String| Error::Incomplete { path: checkpoint.to_owned(), reason };
    let manifest = Manifest::read(checkpoint)?;
    let step_of_name = checkpoint.file_name().and_then(|name| parse_checkpoint(name.to_str()?));
    if step_of_name.is_some_and(|step| step != manifest.global_step) {
        return Err(incomplete(format!("{MANIFEST_FILE_NAME} belongs to step {}", manifest.global_step)));
    }
    untrusted::check_entries(checkpoint)?;
    // Sizes first: they reveal nearly all damage and cost nothing.
    for FileEntry { path, size, .. } in &manifest.files {
        match contained_path::size(checkpoint, path) {
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
        if sha256 == entry.sha256 { Ok(()) } else { Err(incomplete(entry.differs())) }
    })?;
    Ok(())
}

impl FileEntry {
    /// The reason to give when the content of the file is not what this entry says.
    pub fn differs(&self) -> String {
        format!("{} is not what was saved (its SHA-256 differs)", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{checkpoint, write_manifest};
    use std::fs;

    #[test]
    fn a_whole_checkpoint_verifies() {
        let dir = checkpoint();
        verify(dir.path()).unwrap();
        let manifest = Manifest::read(dir.path()).unwrap();
        assert_eq!(manifest.global_step, 12);
        let paths: Vec<_> = manifest.files.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["model.safetensors", "sub/empty"]);
        // The well-known digest of no bytes.
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

    /// A manifest has no checksum of its own, so each part of it must be compared with something.
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
}
