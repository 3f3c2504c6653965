//! The state as a safetensors file.
//!
//! The header's `__metadata__` holds `format`, `optimizer`, `num_steps` and, with stochastic
//! rounding, `seed`. All entries have a fixed order, so equal states are equal files.

mod reader;
mod writer;

use self::reader::StateReader;
use crate::Error;
use crate::engine::Engine;
use safetensors::Dtype;
use std::fs::File;
use std::path::Path;
use tch::{Kind, TchError, Tensor};

pub use self::writer::StateFile;

/// Version of the layout.
const FORMAT: &str = "galore-optim 1";
const LENGTH_BYTES: u64 = 8;

/// All tensors of the state.
pub(crate) fn tensors(engine: &Engine) -> Result<Vec<(String, Tensor)>, Error> {
    let mut all = Vec::new();
    for state in &engine.parameters {
        all.push((step_name(&state.parameter.name), Tensor::f_from_slice(&[state.num_steps])?.f_view([0i64; 0])?));
        all.extend(state.tensors()?);
    }
    Ok(all)
}

fn step_name(parameter: &str) -> String {
    format!("{parameter}.step")
}

fn num_bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

pub(crate) fn save(engine: &Engine, path: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), action: "writing", source };
    let state = StateFile::new(engine)?;
    let mut file = File::create(path).map_err(io)?;
    state.write_to(&mut file).map_err(|error| match error {
        Error::Write(source) => io(source),
        other => other,
    })
}

/// Bytes of the state file once every parameter has taken a step, without its header.
pub(crate) fn full_size_bytes(engine: &Engine) -> u64 {
    let expected = engine.parameters.iter().flat_map(|state| state.expected(1));
    let bytes = expected.map(|(_, kind, shape)| shape.iter().product::<i64>() * kind.elt_size_in_bytes() as i64);
    bytes.sum::<i64>().unsigned_abs() + (engine.parameters.len() * size_of::<i64>()) as u64
}

pub(crate) fn load(engine: &mut Engine, path: &Path) -> Result<(), Error> {
    let mut file = StateReader::open(path)?;
    let optimizer = file.metadata("optimizer")?;
    if optimizer != engine.optimizer_name() {
        return Err(file.bad(format!("holds the state of {optimizer}, this optimizer is {}", engine.optimizer_name())));
    }
    let num_steps = file.metadata_number("num_steps")?;
    let seed = engine.seed().map(|_| file.metadata_number("seed")).transpose()?;

    let mut expected = Vec::new();
    let mut steps = Vec::new();
    for state in &engine.parameters {
        let name = step_name(&state.parameter.name);
        // A missing counter is reported with all other problems below.
        let num_steps = file.step(&name)?.unwrap_or(1);
        steps.push(num_steps);
        expected.push((name, Kind::Int64, Vec::new()));
        expected.extend(state.expected(num_steps));
    }
    file.check(&expected)?;

    for (state, num_steps) in engine.parameters.iter_mut().zip(steps) {
        state.reset(num_steps)?;
        for (name, mut tensor) in state.tensors()? {
            file.read_into(&name, &mut tensor)?;
        }
    }
    engine.num_steps = num_steps;
    if let Some(seed) = seed {
        engine.set_seed(seed);
    }
    Ok(())
}

fn dtype(kind: Kind) -> Result<Dtype, TchError> {
    match kind {
        Kind::Int64 => Ok(Dtype::I64),
        Kind::Float => Ok(Dtype::F32),
        Kind::Int16 => Ok(Dtype::I16),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Half => Ok(Dtype::F16),
        other => Err(TchError::Kind(format!("an optimizer state holds no {other:?}"))),
    }
}
