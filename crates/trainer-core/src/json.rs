//! JSON files. Floats keep every bit (serde_json's `float_roundtrip`), which an exact resume needs.

use crate::{Error, Result, atomic_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_regular(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

/// Reads a regular file. Opening a pipe would wait for a writer, and a device may never end.
fn read_regular(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    std::fs::read(path)
}

/// The text of a file that holds `value`.
pub(crate) fn text<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = text(value).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    atomic_file::replace(path, &text).map_err(|source| Error::File { path: path.to_owned(), source })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A forged state can name any folder as that of the best checkpoint.
    #[test]
    fn devices_and_folders_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("trainer_state.json");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for path in [link.as_path(), dir.path(), Path::new("/dev/full")] {
            let message = read::<u64>(path).unwrap_err().to_string();
            assert!(message.ends_with("it is not a regular file"), "{message}");
        }
    }
}
