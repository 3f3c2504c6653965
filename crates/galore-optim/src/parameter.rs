//! The tensors an optimizer works on.

use crate::error::OnParameter;
use crate::{AdamConfig, Error, GaLoreConfig};
use tch::{Kind, Tensor};

/// A named weight, and where its gradient is.
#[derive(Debug)]
pub struct Parameter {
    /// Name in state files and messages. Unique within an optimizer.
    pub name: String,
    /// The weight, updated in place. It may be a view into a larger buffer.
    pub weight: Tensor,
    /// A buffer of the weight's shape that holds the gradient at each step, in float32 or the
    /// weight's type. `None` means the gradient that autograd left on the weight. A weight without
    /// a gradient is skipped, as in torch.
    pub gradient: Option<Tensor>,
}

impl Parameter {
    /// A parameter that shares the weight's memory and takes autograd's gradient.
    pub fn new(name: impl Into<String>, weight: &Tensor) -> Self {
        Parameter { name: name.into(), weight: weight.shallow_clone(), gradient: None }
    }

    /// The same parameter with its gradient in this buffer.
    #[must_use]
    pub fn with_gradient(self, gradient: &Tensor) -> Self {
        Parameter { gradient: Some(gradient.shallow_clone()), ..self }
    }

    /// The gradient of this step, or `None` if there is none.
    pub(crate) fn current_gradient(&self) -> Result<Option<Tensor>, Error> {
        let gradient = match &self.gradient {
            Some(gradient) => gradient.shallow_clone(),
            None => self.weight.f_grad().for_parameter(&self.name, "reading the gradient")?,
        };
        if !gradient.defined() {
            return Ok(None);
        }
        let (expected, found) = (self.weight.size(), gradient.size());
        if expected != found {
            return Err(Error::GradientShape { name: self.name.clone(), expected, found });
        }
        let kind = gradient.f_kind().for_parameter(&self.name, "reading the gradient")?;
        if !matches!(kind, Kind::Float | Kind::BFloat16 | Kind::Half) {
            return Err(Error::UnsupportedKind { name: self.name.clone(), what: "gradient", found: kind });
        }
        gradient
            .f_detach()
            .and_then(|gradient| gradient.f_contiguous())
            .map(Some)
            .for_parameter(&self.name, "reading the gradient")
    }
}

/// Parameters that share their settings, such as weights with decay, or biases and norms without.
#[derive(Debug)]
pub struct ParameterGroup {
    /// The parameters. With `galore`, all must be matrices `[rows, cols]` or stacks of them
    /// `[experts, rows, cols]`, in which each matrix has its own subspace.
    pub parameters: Vec<Parameter>,
    /// Adam's constants.
    pub adam: AdamConfig,
    /// How the gradients are projected. `None`, the default, means that they are not.
    pub galore: Option<GaLoreConfig>,
}

impl ParameterGroup {
    /// A group without projection.
    pub fn new(parameters: Vec<Parameter>, adam: AdamConfig) -> Self {
        ParameterGroup { parameters, adam, galore: None }
    }

    /// The same group as GaLore targets.
    #[must_use]
    pub fn with_galore(self, galore: GaLoreConfig) -> Self {
        ParameterGroup { galore: Some(galore), ..self }
    }
}
