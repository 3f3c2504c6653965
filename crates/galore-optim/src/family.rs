//! Weights `[experts, rows, cols]`: each matrix is a target of its own, with its own subspace. In
//! state files they are one parameter, whose tensors have the experts as their first dimension.

use crate::error::OnParameter;
use crate::parameter_state::ParameterState;
use crate::{Error, Parameter};
use tch::{TchError, Tensor};

/// The parameter that a matrix is part of.
#[derive(Debug)]
pub(crate) struct Family {
    whole: Parameter,
    index: i64,
}

/// The matrices of a parameter `[experts, rows, cols]`, named `name[index]`, each with its family.
pub(crate) fn matrices(whole: &Parameter) -> Result<Vec<(Parameter, Family)>, Error> {
    let action = "taking its matrices";
    let size = whole.weight.size();
    // A gradient that does not fit is refused at the step, by the name of the whole.
    let gradient = whole.gradient.as_ref().filter(|gradient| gradient.defined() && gradient.size() == size);
    let matrix = |index| {
        let of = |tensor: &Tensor| tensor.f_detach()?.f_select(0, index);
        let name = format!("{}[{index}]", whole.name);
        let weight = of(&whole.weight).for_parameter(&name, action)?;
        let gradient = gradient.map(of).transpose().for_parameter(&name, action)?;
        let gradient_of_whole = whole.gradient.as_ref().map(Tensor::shallow_clone);
        let family =
            Parameter { name: whole.name.clone(), weight: whole.weight.shallow_clone(), gradient: gradient_of_whole };
        Ok((Parameter { name, weight, gradient }, Family { whole: family, index }))
    };
    (0..size.first().copied().unwrap_or(0)).map(matrix).collect()
}

impl ParameterState {
    /// The gradient of this step, or `None` if there is none.
    pub(crate) fn current_gradient(&self) -> Result<Option<Tensor>, Error> {
        let Some(family) = &self.family else { return self.parameter.current_gradient() };
        let Family { whole, index } = family;
        let gradient = whole.current_gradient()?;
        gradient.map(|all| all.f_select(0, *index)).transpose().for_parameter(&whole.name, "reading the gradient")
    }

    /// The name in state files.
    pub(crate) fn name_in_state(&self) -> &str {
        self.family.as_ref().map_or(&self.parameter.name, |family| &family.whole.name)
    }

    /// What follows the parameter's name in the name of one of its tensors.
    pub(crate) fn suffix<'n>(&self, tensor: &'n str) -> &'n str {
        tensor.strip_prefix(self.parameter.name.as_str()).unwrap_or(tensor)
    }

    /// This matrix's part of an entry of a state file.
    pub(crate) fn own_part(&self, entry: &Tensor) -> Result<Tensor, TchError> {
        match &self.family {
            Some(family) => entry.f_select(0, family.index),
            None => Ok(entry.shallow_clone()),
        }
    }
}
