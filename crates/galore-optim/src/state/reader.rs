//! Reading state files. The reader checks sizes before it allocates.

use super::entries::{Expected, families};
use super::{FORMAT, FORMAT_WITHOUT_SETTINGS, LENGTH_BYTES, dtype, step_name};
use crate::Error;
use crate::parameter_state::ParameterState;
use crate::refresh_schedule::Progress;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::{HashMap, HashSet};
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
    has_settings: bool,
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
        let mut state = StateReader { path, file, metadata, data_start, has_settings: true };
        match state.metadata("format")?.as_str() {
            FORMAT => {}
            FORMAT_WITHOUT_SETTINGS => state.has_settings = false,
            other => return Err(state.bad(format!("has format `{other}`, this version reads `{FORMAT}`"))),
        }
        Ok(state)
    }

    pub(super) fn path(&self) -> &'p Path {
        self.path
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

    /// Whether the file says with which settings it was made.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Targets whose refreshes depart from the plan, by name.
    pub(super) fn departures(&self) -> Result<HashMap<String, Progress>, Error> {
        let text = self.metadata.metadata().as_ref().and_then(|metadata| metadata.get("refresh"));
        let Some(text) = text else { return Ok(HashMap::new()) };
        serde_json::from_str(text).map_err(|error| self.bad(format!("has bad refreshes: {error}")))
    }

    /// The step counter of each parameter, 1 where there is none of the right type and shape: that
    /// is reported with all other entries.
    pub(super) fn steps(&mut self, parameters: &[ParameterState]) -> Result<Vec<i64>, Error> {
        let mut all = Vec::new();
        for family in families(parameters) {
            let name = step_name(family[0].name_in_state());
            let shape = if family[0].family.is_some() { vec![family.len()] } else { Vec::new() };
            match self.metadata.info(&name) {
                Some(info) if info.dtype == Dtype::I64 && info.shape == shape => {}
                _ => {
                    all.extend(std::iter::repeat_n(1, family.len()));
                    continue;
                }
            }
            let mut bytes = vec![0; size_of::<i64>() * family.len()];
            self.read(&name, &mut bytes)?;
            for bytes in bytes.chunks_exact(size_of::<i64>()) {
                let step = bytes.iter().rev().fold(0, |value: i64, byte| (value << 8) | i64::from(*byte));
                if step < 0 {
                    return Err(self.bad(format!("has {name} = {step}, which is negative")));
                }
                all.push(step);
            }
        }
        Ok(all)
    }

    /// Each entry that is missing, extra, or not what is expected.
    pub(super) fn problems(&self, expected: &[Expected]) -> Result<Vec<String>, Error> {
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
        Ok(problems)
    }

    /// An entry that [`Self::problems`] has accepted, as a new tensor on the CPU.
    pub(super) fn read_tensor(&mut self, name: &str, (kind, shape): (Kind, &[i64])) -> Result<Tensor, Error> {
        let numel = shape.iter().product::<i64>().unsigned_abs() as usize;
        let mut bytes = vec![0; numel * kind.elt_size_in_bytes()];
        self.read(name, &mut bytes)?;
        Ok(Tensor::f_from_data_size(&bytes, shape, kind)?)
    }

    fn read(&mut self, name: &str, bytes: &mut [u8]) -> Result<(), Error> {
        let info = self.metadata.info(name).ok_or_else(|| self.bad(format!("lacks `{name}`")))?;
        let start = self.data_start + info.data_offsets.0 as u64;
        let io = |source| Error::Io { path: self.path.to_owned(), action: "reading", source };
        self.file.seek(SeekFrom::Start(start)).map_err(io)?;
        self.file.read_exact(bytes).map_err(io)
    }
}
