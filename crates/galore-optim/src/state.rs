//! The state as a safetensors file, tensor by tensor: at no time is more than one of them in memory twice.
//!
//! The header's `__metadata__` holds `format`, `optimizer`, `num_steps` and, with stochastic rounding, `seed`. Headers are
//! written in order, so equal states are equal files.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, TchError, Tensor};

use crate::Error;
use crate::core::Core;

/// Version of the layout.
const FORMAT: &str = "galore-optim 1";
const LENGTH_BYTES: u64 = 8;
/// As in the safetensors crate.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// All tensors of the state.
pub(crate) fn tensors(core: &Core) -> Result<Vec<(String, Tensor)>, Error> {
    let mut all = Vec::new();
    for state in &core.parameters {
        all.push((step_name(&state.parameter.name), Tensor::f_from_slice(&[state.num_steps])?.f_view([0i64; 0])?));
        all.extend(state.tensors()?);
    }
    Ok(all)
}

fn step_name(parameter: &str) -> String {
    format!("{parameter}.step")
}

pub(crate) fn save(core: &Core, path: &Path) -> Result<(), Error> {
    let mut tensors = tensors(core)?;
    // Widest first keeps every tensor aligned.
    tensors.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.kind().elt_size_in_bytes()));

    let mut header = Map::new();
    let mut metadata = json!({
        "format": FORMAT,
        "optimizer": core.optimizer_name(),
        "num_steps": core.num_steps.to_string(),
    });
    if let Some(seed) = core.seed() {
        metadata["seed"] = json!(seed.to_string());
    }
    header.insert("__metadata__".to_owned(), metadata);
    let mut end = 0;
    for (name, tensor) in &tensors {
        let start = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        let info =
            json!({ "dtype": dtype(tensor.kind())?.to_string(), "shape": tensor.size(), "data_offsets": [start, end] });
        header.insert(name.clone(), info);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');

    let io = |source| Error::Io { path: path.to_owned(), action: "writing", source };
    let mut file = BufWriter::new(File::create(path).map_err(io)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(&header).map_err(io)?;
    let mut bytes = Vec::new();
    for (_, tensor) in &tensors {
        let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
        bytes.resize(tensor.numel() * tensor.kind().elt_size_in_bytes(), 0);
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        file.write_all(&bytes).map_err(io)?;
    }
    file.into_inner().map_err(|error| io(error.into_error()))?;
    Ok(())
}

pub(crate) fn load(core: &mut Core, path: &Path) -> Result<(), Error> {
    let mut file = StateFile::open(path)?;
    let optimizer = file.metadata("optimizer")?;
    if optimizer != core.optimizer_name() {
        return Err(file.bad(format!("holds the state of {optimizer}, this optimizer is {}", core.optimizer_name())));
    }
    let num_steps = file.metadata_number("num_steps")?;
    let seed = core.seed().map(|_| file.metadata_number("seed")).transpose()?;

    let mut expected = Vec::new();
    let mut steps = Vec::new();
    for state in &core.parameters {
        let name = step_name(&state.parameter.name);
        // One that is missing is reported with all others below.
        let num_steps = file.step(&name)?.unwrap_or(1);
        steps.push(num_steps);
        expected.push((name, Kind::Int64, Vec::new()));
        expected.extend(state.expected(num_steps));
    }
    file.check(&expected)?;

    for (state, num_steps) in core.parameters.iter_mut().zip(steps) {
        state.reset(num_steps)?;
        for (name, mut tensor) in state.tensors()? {
            file.read_into(&name, &mut tensor)?;
        }
    }
    core.num_steps = num_steps;
    if let Some(seed) = seed {
        core.set_seed(seed);
    }
    Ok(())
}

/// An open file whose header is known to describe all of its bytes.
struct StateFile<'p> {
    path: &'p Path,
    file: BufReader<File>,
    metadata: Metadata,
    data_start: u64,
}

impl<'p> StateFile<'p> {
    fn open(path: &'p Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), action: "reading", source };
        let bad = |reason: String| Error::StateFile { path: path.to_owned(), reason };
        let file = File::open(path).map_err(io)?;
        let file_bytes = file.metadata().map_err(io)?.len();
        let mut file = BufReader::new(file);
        let mut length = [0; LENGTH_BYTES as usize];
        if file_bytes < LENGTH_BYTES {
            return Err(bad(format!("is truncated: {file_bytes} bytes are no safetensors file")));
        }
        file.read_exact(&mut length).map_err(io)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(bad("is no safetensors file: its header length is absurd".to_owned()));
        }
        let data_start = LENGTH_BYTES + header_bytes;
        if data_start > file_bytes {
            return Err(bad(format!("is truncated: {file_bytes} bytes where the header alone ends at {data_start}")));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| bad(format!("has a bad safetensors header: {error}")))?;
        let expected_bytes = data_start + metadata.data_len() as u64;
        if file_bytes != expected_bytes {
            let what = if file_bytes < expected_bytes { "is truncated" } else { "has bytes past its end" };
            return Err(bad(format!("{what}: {file_bytes} bytes, its header describes {expected_bytes}")));
        }
        let state = StateFile { path, file, metadata, data_start };
        let format = state.metadata("format")?;
        if format != FORMAT {
            return Err(state.bad(format!("has format `{format}`, this version reads `{FORMAT}`")));
        }
        Ok(state)
    }

    fn bad(&self, reason: String) -> Error {
        Error::StateFile { path: self.path.to_owned(), reason }
    }

    fn metadata(&self, key: &str) -> Result<String, Error> {
        let value = self.metadata.metadata().as_ref().and_then(|metadata| metadata.get(key)).cloned();
        value.ok_or_else(|| self.bad(format!("is no optimizer state of this program: its metadata lacks `{key}`")))
    }

    fn metadata_number(&self, key: &str) -> Result<u64, Error> {
        let text = self.metadata(key)?;
        text.parse().map_err(|_| self.bad(format!("has {key} = `{text}` in its metadata, not a whole number")))
    }

    /// A step counter, if there is one by this name.
    fn step(&mut self, name: &str) -> Result<Option<i64>, Error> {
        match self.metadata.info(name) {
            Some(info) if info.dtype == Dtype::I64 && info.shape.is_empty() => {}
            _ => return Ok(None),
        }
        let mut bytes = [0; size_of::<i64>()];
        self.read(name, &mut bytes)?;
        match i64::from_le_bytes(bytes) {
            step if step >= 0 => Ok(Some(step)),
            step => Err(self.bad(format!("has {name} = {step}, a negative step"))),
        }
    }

    fn check(&self, expected: &[(String, Kind, Vec<i64>)]) -> Result<(), Error> {
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

    fn read_into(&mut self, name: &str, tensor: &mut Tensor) -> Result<(), Error> {
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
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

fn dtype(kind: Kind) -> Result<Dtype, TchError> {
    match kind {
        Kind::Int64 => Ok(Dtype::I64),
        Kind::Float => Ok(Dtype::F32),
        Kind::Int16 => Ok(Dtype::I16),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Half => Ok(Dtype::F16),
        other => Err(TchError::Kind(format!("no optimizer state is {other:?}"))),
    }
}
