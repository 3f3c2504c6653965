//! The middle of an MLP: act(x), or with a gate (Shazeer, arXiv 2002.05202) act(gate) · up.
//!
//! Gate and up are the halves of one matrix `[n, 2 f]`, because one product computes both.
//!
//! Shapes: `n` tokens, `f` intermediate.

use super::{matrix_shape, swiglu};
use crate::Error;
use tch::Tensor;
use torch_ext::kernels;

/// The activation act, by transformers' names (`hidden_act`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `silu`: x σ(x).
    Silu,
    /// `gelu`: x Φ(x) (Hendrycks and Gimpel, arXiv 1606.08415).
    Gelu,
    /// `gelu_pytorch_tanh`: [`Activation::Gelu`] with Φ approximated by tanh.
    GeluTanh,
}

impl Activation {
    fn apply(self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(match self {
            Self::Silu => x.f_silu()?,
            Self::Gelu => x.f_gelu("none")?,
            Self::GeluTanh => x.f_gelu("tanh")?,
        })
    }

    /// The fused kernel's name for it, if there is one that takes these operands.
    fn fused(self, operands: &[&Tensor]) -> Option<kernels::swiglu::Activation> {
        let fused = match self {
            Self::Silu => kernels::swiglu::Activation::Silu,
            Self::GeluTanh => kernels::swiglu::Activation::GeluTanh,
            Self::Gelu => return None,
        };
        kernels::available(operands).then_some(fused)
    }

    /// Writes dy act′(x) to `dx`.
    fn backward_into(self, dx: &Tensor, dy: &Tensor, x: &Tensor) -> Result<(), Error> {
        let _ = match self {
            Self::Silu => x.f_silu_backward_grad_input(dx, dy)?,
            Self::Gelu => x.f_gelu_backward_grad_input(dx, dy, "none")?,
            Self::GeluTanh => x.f_gelu_backward_grad_input(dx, dy, "tanh")?,
        };
        Ok(())
    }
}

/// Whether the activation is multiplied with a second product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The columns are gate and up.
    Gated,
    /// There is no gate: the columns are x.
    Plain,
}

/// What the middle of an MLP computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// The activation.
    pub activation: Activation,
    /// Of what.
    pub gate: Gate,
}

impl Unit {
    /// Columns of the input for each of the output's.
    pub fn inputs(self) -> i64 {
        match self.gate {
            Gate::Gated => 2,
            Gate::Plain => 1,
        }
    }
}

/// gate and up `[n, 2 f]`, or x `[n, f]` → a `[n, f]`.
///
/// # Errors
/// [`Error::Shape`] unless x is a matrix, with a gate of an even number of columns;
/// [`Error::Torch`] from libtorch.
pub fn forward(unit: Unit, x: &Tensor) -> Result<Tensor, Error> {
    match unit {
        Unit { activation: Activation::Silu, gate: Gate::Gated } => swiglu::forward(x),
        Unit { activation, gate: Gate::Gated } => {
            let (gate, up) = swiglu::halves(x)?;
            if let Some(fused) = activation.fused(&[x]) {
                return Ok(kernels::swiglu::forward(fused, x)?);
            }
            Ok(activation.apply(&gate)?.f_mul_(&up)?)
        }
        Unit { activation, gate: Gate::Plain } => {
            matrix_shape("activation", x)?;
            activation.apply(x)
        }
    }
}

/// From da, the gradient of a: that of x, in its shape; and a, which costs little to compute here.
/// May reuse the memory of da.
///
/// # Errors
/// As [`forward`].
pub fn backward(unit: Unit, da: Tensor, x: &Tensor) -> Result<(Tensor, Tensor), Error> {
    match unit {
        Unit { activation: Activation::Silu, gate: Gate::Gated } => swiglu::backward(da, x),
        Unit { activation, gate: Gate::Gated } => {
            let (gate, up) = swiglu::halves(x)?;
            if let Some(fused) = activation.fused(&[&da, x]) {
                return Ok(kernels::swiglu::backward(fused, da, x)?);
            }
            let dx = x.f_empty_like()?;
            let (d_gate, d_up) = swiglu::halves(&dx)?;
            let activated = activation.apply(&gate)?;
            let _ = activated.f_mul_out(&d_up, &da)?;
            activation.backward_into(&d_gate, &{ da }.f_mul_(&up)?, &gate)?;
            Ok((dx, { activated }.f_mul_(&up)?))
        }
        Unit { activation, gate: Gate::Plain } => {
            matrix_shape("activation", x)?;
            let dx = x.f_empty_like()?;
            activation.backward_into(&dx, &da, x)?;
            Ok((dx, activation.apply(x)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, each_precision, random};
    use tch::Kind;

    fn reference(activation: Activation, x: &Tensor) -> Tensor {
        let root = |value: f64| value.sqrt();
        match activation {
            Activation::Silu => x * x.sigmoid(),
            Activation::Gelu => x * ((x / root(2.0)).erf() + 1.0) * 0.5,
            Activation::GeluTanh => {
                let inner = (x + x * x * x * 0.044715) * root(2.0 / std::f64::consts::PI);
                x * (inner.tanh() + 1.0) * 0.5
            }
        }
    }

    #[test]
    fn every_unit_equals_autograd() {
        for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            for gate in [Gate::Gated, Gate::Plain] {
                let unit = Unit { activation, gate };
                for [n, f] in [[1, 1], [4, 7], [3, 16]] {
                    each_precision(|kind| {
                        let (x, da) = (random(&[n, unit.inputs() * f], kind), random(&[n, f], kind));
                        let mut check = Check::of(&[&x], &da, |t| match gate {
                            Gate::Gated => reference(activation, &t[0].chunk(2, 1)[0]) * &t[0].chunk(2, 1)[1],
                            Gate::Plain => reference(activation, &t[0]),
                        });
                        check.forward(&forward(unit, &x).unwrap());
                        let (dx, a) = backward(unit, da.copy(), &x).unwrap();
                        check.gradient(0, &dx);
                        check.forward(&a);
                    });
                }
            }
        }
        let unit = Unit { activation: Activation::Gelu, gate: Gate::Gated };
        assert!(forward(unit, &random(&[2, 3], Kind::Float)).unwrap_err().to_string().contains("[2, 3]"));
    }
}
