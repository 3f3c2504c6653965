//! The state as a safetensors file, written in pieces from the tensors themselves or from a copy in
//! host memory.
//!
//! The header's `__metadata__` holds `format`, `optimizer`, `num_steps` and, with stochastic
//! rounding, `seed`. Headers are written in order, so equal states are equal files.

use crate::Error;
use crate::core::Core;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tch::{Device, Kind, TchError, Tensor};
use torch_ext::{HostCopy, HostMemory};

/// Version of the layout.
const FORMAT: &str = "galore-optim 1";
const LENGTH_BYTES: u64 = 8;
/// Elements written at a time.
const PIECE_ELEMENTS: i64 = 1 << 20;
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

/// The state of an optimizer at one moment, as it is written to a file.
#[derive(Debug)]
pub struct StateSnapshot {
    metadata: Value,
    /// In the order of the file.
    tensors: Vec<(String, Tensor)>,
    /// Their bytes, where they are not to be those of the time of writing.
    copy: Option<HostCopy>,
}

impl StateSnapshot {
    /// The state as it is now. Its tensors are those of the optimizer: it must be written before
    /// the next step.
    pub(crate) fn borrow(core: &Core) -> Result<Self, Error> {
        let mut metadata = json!({
            "format": FORMAT,
            "optimizer": core.optimizer_name(),
            "num_steps": core.num_steps.to_string(),
        });
        if let Some(seed) = core.seed() {
            metadata["seed"] = json!(seed.to_string());
        }
        let mut tensors = tensors(core)?;
        // Widest first keeps every tensor aligned.
        tensors.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.kind().elt_size_in_bytes()));
        Ok(Self { metadata, tensors, copy: None })
    }

    /// The state as it is now, copied to `memory`: steps taken later do not change it.
    pub(crate) fn copy(core: &Core, memory: &HostMemory) -> Result<Self, Error> {
        let snapshot = Self::borrow(core)?;
        let tensors: Vec<Tensor> = snapshot.tensors.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        Ok(Self { copy: Some(memory.copy(&tensors)?), ..snapshot })
    }

    /// Writes the state file, as [`Optimizer::save`](crate::Optimizer::save) does.
    ///
    /// # Errors
    /// [`Error::Write`] if `file` fails, [`Error::Torch`] if a tensor cannot be read.
    pub fn write_to(&self, file: &mut dyn Write) -> Result<(), Error> {
        let mut header = Map::from_iter([("__metadata__".to_owned(), self.metadata.clone())]);
        let mut end = 0;
        for (name, tensor) in &self.tensors {
            let start = end;
            end += num_bytes(tensor);
            let info = json!({ "dtype": dtype(tensor.kind())?.to_string(), "shape": tensor.size(), "data_offsets": [start, end] });
            header.insert(name.clone(), info);
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut header);
        file.write_all(&bytes).map_err(Error::Write)?;
        if let Some(copy) = &self.copy {
            return file.write_all(copy).map_err(Error::Write);
        }
        for (_, tensor) in &self.tensors {
            let flat = tensor.f_contiguous()?.f_view([-1])?;
            let length = flat.size1()?;
            for start in (0..length).step_by(PIECE_ELEMENTS as usize) {
                let piece = flat.f_narrow(0, start, PIECE_ELEMENTS.min(length - start))?.f_to_device(Device::Cpu)?;
                bytes.resize(num_bytes(&piece), 0);
                piece.f_copy_data_u8(&mut bytes, piece.numel())?;
                file.write_all(&bytes).map_err(Error::Write)?;
            }
        }
        Ok(())
    }
}

fn num_bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

pub(crate) fn save(core: &Core, path: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), action: "writing", source };
    let mut file = File::create(path).map_err(io)?;
    StateSnapshot::borrow(core)?.write_to(&mut file).map_err(|error| match error {
        Error::Write(source) => io(source),
        other => other,
    })
}

/// Bytes of the state file once every parameter has taken a step, but for its header.
pub(crate) fn full_size_bytes(core: &Core) -> u64 {
    let expected = core.parameters.iter().flat_map(|state| state.expected(1));
    let bytes = expected.map(|(_, kind, shape)| shape.iter().product::<i64>() * kind.elt_size_in_bytes() as i64);
    bytes.sum::<i64>().unsigned_abs() + (core.parameters.len() * size_of::<i64>()) as u64
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
