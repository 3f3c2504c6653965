//! The tensors an optimizer works on.

use crate::error::OnParameter;
use crate::{AdamConfig, Error};
use tch::{Kind, Tensor};

/// A named weight and where its gradient is found.
#[derive(Debug)]
pub struct Parameter {
    /// Name in state files and messages; unique within an optimizer.
    pub name: String,
    /// The weight, updated in place. May be a view into a larger buffer.
    pub weight: Tensor,
    /// A buffer of the weight's shape that holds the gradient at each step, in float32 or the
    /// weight's type. `None` uses the gradient that autograd left on the weight; a weight without
    /// one is passed over, as in torch.
    pub gradient: Option<Tensor>,
}

impl Parameter {
    /// The gradient of this step, or `None` if there is none.
    pub(crate) fn current_gradient(&self) -> Result<Option<Tensor>, Error> {
        let gradient = match &self.gradient {
            Some(gradient) => gradient.shallow_clone(),
            None => self.weight.f_grad().on(&self.name, "reading the gradient")?,
        };
        if !gradient.defined() {
            return Ok(None);
        }
        let (expected, found) = (self.weight.size(), gradient.size());
        if expected != found {
            return Err(Error::GradientShape { name: self.name.clone(), expected, found });
        }
        let kind = gradient.f_kind().on(&self.name, "reading the gradient")?;
        if !matches!(kind, Kind::Float | Kind::BFloat16 | Kind::Half) {
            return Err(Error::UnsupportedKind { name: self.name.clone(), what: "gradient", found: kind });
        }
        gradient
            .f_detach()
            .and_then(|gradient| gradient.f_contiguous())
            .map(Some)
            .on(&self.name, "reading the gradient")
    }
}

/// Parameters that share Adam's constants: weights with decay, and biases and norms without.
#[derive(Debug)]
pub struct ParameterGroup {
    /// The parameters.
    pub parameters: Vec<Parameter>,
    /// Their constants.
    pub adam: AdamConfig,
}
