//! What is in a state file: an entry for each tensor of a parameter. The matrices of a family are
//! one parameter there.

use super::step_name;
use crate::Error;
use crate::engine::Engine;
use crate::parameter_state::ParameterState;
use tch::{Kind, TchError, Tensor};

/// Name, type and shape of an entry.
pub(super) type Expected = (String, Kind, Vec<i64>);

/// An entry of a state file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) shape: Vec<i64>,
    /// What its bytes consist of, end to end: one tensor, or one for each matrix of a family.
    pub(super) pieces: Vec<Tensor>,
}

impl Entry {
    /// The entry as one tensor, which is the state's own memory except for a family.
    pub(super) fn into_tensor(mut self) -> Result<(String, Tensor), Error> {
        let tensor = match (self.pieces.pop(), self.pieces.is_empty()) {
            (Some(only), true) if only.size() == self.shape => only,
            (last, _) => {
                self.pieces.extend(last);
                Tensor::f_stack(&self.pieces, 0)?.f_view(&self.shape[..])?
            }
        };
        Ok((self.name, tensor))
    }
}

/// All entries, in the order of the parameters.
pub(super) fn entries(engine: &Engine) -> Result<Vec<Entry>, Error> {
    let mut all = Vec::new();
    for family in families(&engine.parameters) {
        let mut entries: Vec<Entry> = Vec::new();
        for (index, state) in family.iter().enumerate() {
            let step = Tensor::f_from_slice(&[state.num_steps])?.f_view([0i64; 0])?;
            let tensors = std::iter::once((step_name(&state.parameter.name), step)).chain(state.tensors()?);
            for (place, (name, tensor)) in tensors.enumerate() {
                let name = name_in_file(state, &name);
                match entries.get_mut(place) {
                    Some(entry) if entry.name == name => entry.pieces.push(tensor),
                    None if index == 0 => {
                        let (kind, shape) = (tensor.f_kind()?, with_experts(state, family.len(), tensor.size()));
                        entries.push(Entry { name, kind, shape, pieces: vec![tensor] });
                    }
                    _ => return Err(uneven(state)),
                }
            }
        }
        if entries.iter().any(|entry| entry.pieces.len() != family.len()) {
            return Err(uneven(&family[0]));
        }
        all.extend(entries);
    }
    Ok(all)
}

/// The entries of a file whose parameters have taken these numbers of steps.
pub(super) fn expected(engine: &Engine, steps: &[i64]) -> Vec<Expected> {
    let mut all = Vec::new();
    let mut steps = steps.iter();
    for family in families(&engine.parameters) {
        let first = &family[0];
        let num_steps = steps.by_ref().take(family.len()).copied().max().unwrap_or(0);
        all.push((step_name(first.name_in_state()), Kind::Int64, with_experts(first, family.len(), Vec::new())));
        let tensors = first.expected(num_steps).into_iter();
        all.extend(
            tensors.map(|(name, kind, shape)| {
                (name_in_file(first, &name), kind, with_experts(first, family.len(), shape))
            }),
        );
    }
    all
}

/// The matrices of one parameter each, in order.
pub(super) fn families(parameters: &[ParameterState]) -> impl Iterator<Item = &[ParameterState]> {
    parameters.chunk_by(|state, next| {
        state.family.is_some() && next.family.is_some() && state.name_in_state() == next.name_in_state()
    })
}

fn name_in_file(state: &ParameterState, name: &str) -> String {
    format!("{}{}", state.name_in_state(), state.suffix(name))
}

fn with_experts(state: &ParameterState, count: usize, mut shape: Vec<i64>) -> Vec<i64> {
    if state.family.is_some() {
        shape.insert(0, count as i64);
    }
    shape
}

/// An error between the steps of two matrices leaves them at different ones.
fn uneven(state: &ParameterState) -> Error {
    Error::Parameter {
        name: state.name_in_state().to_owned(),
        action: "writing the state of matrices at different steps",
        source: TchError::Shape("load a saved state after a failed step".to_owned()),
    }
}
