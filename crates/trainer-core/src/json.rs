//! JSON files. Floats keep every bit (serde_json's `float_roundtrip`), which an exact resume needs.

use crate::{Error, Result, atomic_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
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
