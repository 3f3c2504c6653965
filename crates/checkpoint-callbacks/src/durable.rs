//! Files and folders that survive a crash of the machine.

use crate::disk::Disk;
use crate::untrusted::contained_path;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 1 << 20;

/// All files under `dir`, as paths relative to it, sorted.
pub(crate) fn files_under(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = dir.join(&folder);
        for entry in fs::read_dir(&path).map_err(Error::file("list", &path))? {
            let entry = entry.map_err(Error::file("list", &path))?;
            let relative = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(Error::file("read the metadata of", &entry.path()))?;
            if kind.is_dir() { folders.push(relative) } else { files.push(relative) }
        }
    }
    files.sort();
    Ok(files)
}

/// Size and hexadecimal SHA-256 of a file of `folder`.
pub(crate) fn digest(folder: &Path, path: &Path) -> Result<(u64, String)> {
    let opened = contained_path::open(folder, path);
    let path = &folder.join(path);
    let mut file = opened.map_err(Error::file("open", path))?;
    let mut digest = RunningDigest::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digest.finish()),
            Ok(read) => digest.update(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::file("read", path)(error)),
        }
    }
}

/// Copies a file of `folder` and flushes the copy to the disk. Returns size and SHA-256 of the
/// bytes that were read.
pub(crate) fn copy(disk: &dyn Disk, folder: &Path, path: &Path, to: &Path) -> Result<(u64, String)> {
    let opened = contained_path::open(folder, path);
    let from = &folder.join(path);
    let mut source = opened.map_err(Error::file("open", from))?;
    let mut target = NewFile::create(disk, to)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return target.finish(),
            Ok(read) => target.write_all(&buffer[..read]).map_err(|error| target.error(error))?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::file("read", from)(error)),
        }
    }
}

#[derive(Default)]
struct RunningDigest {
    hasher: Sha256,
    size: u64,
}

impl RunningDigest {
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn finish(self) -> (u64, String) {
        (self.size, hex::encode(self.hasher.finalize()))
    }
}

/// A file that is hashed while it is written.
pub(crate) struct NewFile<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    file: File,
    digest: RunningDigest,
    /// The disk's error when a write failed. Writers of files often wrap or replace it.
    failure: Option<io::Error>,
}

impl<'a> NewFile<'a> {
    pub fn create(disk: &'a dyn Disk, path: &'a Path) -> Result<Self> {
        let file = disk.create_file(path).map_err(Error::file("create", path))?;
        Ok(Self { disk, path, file, digest: RunningDigest::default(), failure: None })
    }

    /// The error to report when a writer returned `error`: the disk's, if a write failed.
    pub fn error(&mut self, error: io::Error) -> Error {
        Error::file("write", self.path)(self.failure.take().unwrap_or(error))
    }

    /// The disk's error, if a write failed.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take().map(Error::file("write", self.path))
    }

    /// Flushes the file to the disk. Returns its size and SHA-256.
    pub fn finish(self) -> Result<(u64, String)> {
        self.disk.sync(&self.file).map_err(Error::file("flush", self.path))?;
        Ok(self.digest.finish())
    }
}

impl Write for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Short writes: the hash then reads bytes that are still in the processor's cache.
        let bytes = &bytes[..bytes.len().min(CHUNK_BYTES)];
        match self.disk.write(&mut self.file, bytes) {
            Ok(written) => {
                self.digest.update(&bytes[..written]);
                Ok(written)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Flushes the entries of a folder to the disk.
pub(crate) fn sync(disk: &dyn Disk, path: &Path) -> Result<()> {
    // The parent of a bare file name is the empty path, which stands for the current folder.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flushed = File::open(path).and_then(|file| disk.sync(&file));
    flushed.map_err(Error::file("flush", path))
}

/// Flushes `dir` and all folders in it. Their files must have been flushed already.
pub(crate) fn sync_folders(disk: &dyn Disk, dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::file("list", dir))? {
        let path = entry.map_err(Error::file("list", dir))?.path();
        if path.is_dir() {
            sync_folders(disk, &path)?;
        }
    }
    sync(disk, dir)
}

/// Flushes the parent folders of `files`, each once.
pub(crate) fn sync_folders_of<'a>(disk: &dyn Disk, files: impl Iterator<Item = &'a Path>) -> Result<()> {
    let folders: BTreeSet<&Path> = files.filter_map(Path::parent).collect();
    folders.into_iter().try_for_each(|folder| sync(disk, folder))
}

pub(crate) fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    disk.rename(from, to).map_err(Error::file("move into place", to))
}

/// The name that a file has beside its place until it is complete.
pub(crate) fn partial_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

/// Writes a file completely or not at all: the bytes go into a file beside it, which is flushed and
/// then renamed. Whoever reads `path` finds the old content or the new one.
pub(crate) fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = partial_path(path);
    let write = || {
        let mut file = NewFile::create(disk, &partial)?;
        file.write_all(bytes).map_err(|error| file.error(error))?;
        file.finish()?;
        rename(disk, &partial, path)
    };
    let outcome = write();
    if outcome.is_err() {
        // The first error is the one to report. The next write replaces the file if it stays.
        let _ = disk.remove_file(&partial);
    }
    outcome?;
    path.parent().map_or(Ok(()), |folder| sync(disk, folder))
}

/// Removes a file if it exists.
pub(crate) fn remove_file(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(Error::file("remove", path)),
    }
}

/// Removes a folder with everything in it, if it exists. Links are removed and not followed.
pub(crate) fn remove_folder(disk: &dyn Disk, path: &Path) -> Result<()> {
    if path.is_symlink() {
        return remove_file(disk, path);
    }
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::file("list", path))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::file("list", path))?;
        let inner = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => remove_folder(disk, &inner)?,
            _ => disk.remove_file(&inner).map_err(Error::file("remove", &inner))?,
        }
    }
    disk.remove_folder(path).map_err(Error::file("remove", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_file_replaces_the_one_before_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for text in ["first", "second"] {
            write_file(&RealDisk, &path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(files_under(dir.path()).unwrap(), [Path::new("file")]);
        remove_file(&RealDisk, &path).unwrap();
        remove_file(&RealDisk, &path).unwrap();
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn removing_a_folder_does_not_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, inside) = (dir.path().join("outside"), dir.path().join("folder/inside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        fs::create_dir_all(&inside).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        remove_folder(&RealDisk, &dir.path().join("folder")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("link")).unwrap();
        remove_folder(&RealDisk, &dir.path().join("link")).unwrap();
        assert_eq!(files_under(dir.path()).unwrap(), [Path::new("outside/file")]);
        remove_folder(&RealDisk, &dir.path().join("link")).unwrap();
    }
}
