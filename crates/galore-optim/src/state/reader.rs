//! Reading state files. The reader checks sizes before it allocates.

use super::{FORMAT, LENGTH_BYTES, dtype, num_bytes};
use crate::Error;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tch::{Kind, Tensor};

/// As in the safetensors crate.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An open state file whose header describes all of its bytes.
pub(super) struct StateReader<'p> {
    path: &'p Path,
    file: BufReader<File>,
    metadata: Metadata,
    data_start: u64,
}

impl<'p> StateReader<'p> {
    pub(super) fn open(path: &'p Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), action: "reading", source };
        let bad = |reason: String| Error::StateFile { path: path.to_owned(), reason };
        let file = File::open(path).map_err(io)?;
        let file_bytes = file.metadata().map_err(io)?.len();
        let mut file = BufReader::new(file);
        let mut length = [0; LENGTH_BYTES as usize];
        if file_bytes < LENGTH_BYTES {
            return Err(bad(format!("is truncated: it has only {file_bytes} bytes")));
        }
        file.read_exact(&mut length).map_err(io)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(bad("is not a safetensors file: its header length is absurd".to_owned()));
        }
        let data_start = LENGTH_BYTES + header_bytes;
        if data_start > file_bytes {
            return Err(bad(format!(
                "is truncated: it has {file_bytes} bytes, and the header alone ends at {data_start}"
            )));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| bad(format!("has a bad safetensors header: {error}")))?;
        let expected_bytes = data_start + metadata.data_len() as u64;
        if file_bytes != expected_bytes {
            let what = if file_bytes < expected_bytes { "is truncated" } else { "has bytes past its end" };
            return Err(bad(format!("{what}: it has {file_bytes} bytes, and its header describes {expected_bytes}")));
        }
        let state = StateReader { path, file, metadata, data_start };
        let format = state.metadata("format")?;
        if format != FORMAT {
            return Err(state.bad(format!("has format `{format}`, this version reads `{FORMAT}`")));
        }
        Ok(state)
    }

    pub(super) fn bad(&self, reason: String) -> Error {
        Error::StateFile { path: self.path.to_owned(), reason }
    }

    pub(super) fn metadata(&self, key: &str) -> Result<String, Error> {
        let value = self.metadata.metadata().as_ref().and_then(|metadata| metadata.get(key)).cloned();
        value.ok_or_else(|| self.bad(format!("is not an optimizer state: its metadata lacks `{key}`")))
    }

    pub(super) fn metadata_number(&self, key: &str) -> Result<u64, Error> {
        let text = self.metadata(key)?;
        text.parse().map_err(|_| self.bad(format!("has {key} = `{text}` in its metadata, which is not a whole number")))
    }

    /// The step counter of this name, if there is one.
    pub(super) fn step(&mut self, name: &str) -> Result<Option<i64>, Error> {
        match self.metadata.info(name) {
            Some(info) if info.dtype == Dtype::I64 && info.shape.is_empty() => {}
            _ => return Ok(None),
        }
        let mut bytes = [0; size_of::<i64>()];
        self.read(name, &mut bytes)?;
        match i64::from_le_bytes(bytes) {
            step if step >= 0 => Ok(Some(step)),
            step => Err(self.bad(format!("has {name} = {step}, which is negative"))),
        }
    }

    pub(super) fn check(&self, expected: &[(String, Kind, Vec<i64>)]) -> Result<(), Error> {
        let mut problems = Vec::new();
        for (name, kind, shape) in expected {
            match self.metadata.info(name) {
                None => problems.push(format!("`{name}` is missing")),
                Some(TensorInfo { dtype: found_dtype, shape: found, .. }) => {
                    if !shape.iter().map(|&size| size as usize).eq(found.iter().copied()) {
                        problems.push(format!("`{name}` has shape {found:?}, expected {shape:?}"));
                    }
                    let dtype = dtype(*kind)?;
                    if *found_dtype != dtype {
                        problems.push(format!("`{name}` is {found_dtype}, expected {dtype}"));
                    }
                }
            }
        }
        let known: HashSet<&str> = expected.iter().map(|(name, ..)| name.as_str()).collect();
        let extra = self.metadata.offset_keys().into_iter().filter(|name| !known.contains(name.as_str()));
        problems.extend(extra.map(|name| format!("`{name}` belongs to no parameter")));
        if problems.is_empty() { Ok(()) } else { Err(Error::StateMismatch { path: self.path.to_owned(), problems }) }
    }

    pub(super) fn read_into(&mut self, name: &str, tensor: &mut Tensor) -> Result<(), Error> {
        let mut bytes = vec![0; num_bytes(tensor)];
        self.read(name, &mut bytes)?;
        tensor.f_copy_(&Tensor::f_from_data_size(&bytes, &tensor.size(), tensor.kind())?)?;
        Ok(())
    }

    fn read(&mut self, name: &str, bytes: &mut [u8]) -> Result<(), Error> {
        let info = self.metadata.info(name).ok_or_else(|| self.bad(format!("lacks `{name}`")))?;
        let start = self.data_start + info.data_offsets.0 as u64;
        let io = |source| Error::Io { path: self.path.to_owned(), action: "reading", source };
        self.file.seek(SeekFrom::Start(start)).map_err(io)?;
        self.file.read_exact(bytes).map_err(io)
    }
}
