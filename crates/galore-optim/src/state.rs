//! The state as a safetensors file.
//!
//! The header's `__metadata__` holds `format`, `optimizer`, `num_steps` and, with stochastic
//! rounding, `seed`. `settings` has the settings of every group, so that a state is not continued
//! with others unnoticed, and `refresh` has the targets whose refreshes depart from the plan. All
//! entries have a fixed order, so equal states are equal files.

mod entries;
mod reader;
mod settings;
mod writer;

use self::entries::{Entry, entries};
use self::reader::StateReader;
use crate::Error;
use crate::engine::Engine;
use crate::refresh_schedule::Progress;
use safetensors::Dtype;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use tch::{Kind, TchError, Tensor};

pub use self::writer::StateFile;

/// Version of the layout.
const FORMAT: &str = "galore-optim 2";
/// The version before, without settings and departures from the plan.
const FORMAT_WITHOUT_SETTINGS: &str = "galore-optim 1";
const LENGTH_BYTES: u64 = 8;

/// All tensors of the state.
pub(crate) fn tensors(engine: &Engine) -> Result<Vec<(String, Tensor)>, Error> {
    entries(engine)?.into_iter().map(Entry::into_tensor).collect()
}

/// Departures from the plan, by the name of the target.
fn departures(engine: &Engine) -> BTreeMap<&str, &Progress> {
    let targets = engine.parameters.iter().filter_map(|state| {
        let progress = state.projector.as_ref()?.schedule.progress();
        Some((state.parameter.name.as_str(), progress))
    });
    targets.filter(|(_, progress)| **progress != Progress::default()).collect()
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
    read(engine, StateReader::open(path)?)
}

fn read(engine: &mut Engine, mut file: StateReader<'_>) -> Result<(), Error> {
    let path = file.path();
    let optimizer = file.metadata("optimizer")?;
    if optimizer != engine.optimizer_name() {
        return Err(file.bad(format!("holds the state of {optimizer}, this optimizer is {}", engine.optimizer_name())));
    }
    let num_steps = file.metadata_number("num_steps")?;
    let seed = engine.seed().map(|_| file.metadata_number("seed")).transpose()?;

    let steps = file.steps(&engine.parameters)?;
    let mut differences = Vec::new();
    let mut departures: HashMap<String, Progress> = HashMap::new();
    if file.has_settings() {
        differences = settings::differences(engine, &file.metadata("settings")?).map_err(|error| file.bad(error))?;
        departures = file.departures()?;
    }
    let expected = entries::expected(engine, &steps);
    let problems = file.problems(&expected)?;
    if !problems.is_empty() {
        // A setting that changed often says why.
        let problems = differences.into_iter().chain(problems).collect();
        return Err(Error::StateMismatch { path: path.to_owned(), problems });
    }
    if !differences.is_empty() {
        return Err(Error::StateSettings { path: path.to_owned(), differences });
    }
    let mut progresses = Vec::new();
    for (state, num_steps) in engine.parameters.iter().zip(&steps) {
        let progress = departures.remove(&state.parameter.name).unwrap_or_default();
        let rank = state.projector.as_ref().map_or(1, |projector| projector.rank());
        if !progress.is_possible(*num_steps, rank) {
            return Err(file.bad(format!("has refreshes of `{}` that cannot be", state.parameter.name)));
        }
        progresses.push(progress);
    }
    if let Some(unknown) = departures.keys().min() {
        return Err(file.bad(format!("has refreshes of `{unknown}`, which is no parameter")));
    }
    // Everything is read before anything changes, so an error leaves the state as it was.
    let mut tensors = HashMap::new();
    for (name, kind, shape) in expected {
        let tensor = file.read_tensor(&name, (kind, &shape))?;
        tensors.insert(name, tensor);
    }

    for ((state, num_steps), progress) in engine.parameters.iter_mut().zip(steps).zip(progresses) {
        state.reset(num_steps)?;
        if let Some(projector) = &mut state.projector {
            projector.schedule.set_progress(progress);
        }
        for (name, mut tensor) in state.tensors()? {
            let name = format!("{}{}", state.name_in_state(), state.suffix(&name));
            if let Some(read) = tensors.get(&name) {
                tensor.f_copy_(&state.own_part(read)?)?;
            }
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

#[cfg(test)]
mod tests;
