//! Files and folders that survive a crash of the machine.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

const CHUNK_BYTES: usize = 1 << 20;

/// All files under `dir`, relative to it, in order of their names.
pub(crate) fn files_under(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = dir.join(&folder);
        for entry in fs::read_dir(&path).map_err(Error::file("list", &path))? {
            let entry = entry.map_err(Error::file("list", &path))?;
            let relative = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(Error::file("look at", &entry.path()))?;
            if kind.is_dir() { folders.push(relative) } else { files.push(relative) }
        }
    }
    files.sort();
    Ok(files)
}

/// Size and SHA-256 (in hexadecimal) of a file.
pub(crate) fn digest(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(Error::file("open", path))?;
    pass_through(&mut file, &mut std::io::sink()).map_err(Error::file("read", path))
}

/// Copies a file and flushes the copy to the disk; returns size and SHA-256 of what was read.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(u64, String)> {
    let mut source = File::open(from).map_err(Error::file("open", from))?;
    let mut target = File::create(to).map_err(Error::file("create", to))?;
    let copied = pass_through(&mut source, &mut target).map_err(Error::file("copy to", to))?;
    target.sync_all().map_err(Error::file("flush", to))?;
    Ok(copied)
}

fn pass_through(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += read as u64;
    }
    let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((size, hex))
}

/// Flushes a file or a folder's entries to the disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    let flushed = File::open(path).and_then(|file| file.sync_all());
    flushed.map_err(Error::file("flush", path))
}

/// Flushes `dir` and all folders in it. Their files must be flushed already.
pub(crate) fn sync_folders(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::file("list", dir))? {
        let path = entry.map_err(Error::file("list", dir))?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync(dir)
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::file("move into place", to))
}

/// Removes a folder, or nothing if it is not there.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}
