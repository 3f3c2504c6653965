//! The gated unit of the MLP (Shazeer, arXiv 2002.05202): a = silu(gate) · up, with silu(x) = x
//! σ(x).
//!
//! Gate and up are the halves of one matrix `[n, 2 f]`, because one product computes both.
//!
//! Shapes: `n` tokens, `f` intermediate.

use super::matrix_shape;
use crate::Error;
use tch::Tensor;
use torch_ext::kernels;
use torch_ext::kernels::swiglu::Activation;

/// gate and up `[n, 2 f]` → a `[n, f]`.
///
/// # Errors
/// [`Error::Shape`] unless gate_up is a matrix with an even number of columns, [`Error::Torch`]
/// from libtorch.
pub fn forward(gate_up: &Tensor) -> Result<Tensor, Error> {
    let (gate, up) = halves(gate_up)?;
    if kernels::available(&[gate_up]) {
        return Ok(kernels::swiglu::forward(Activation::Silu, gate_up)?);
    }
    Ok(gate.f_silu()?.f_mul_(&up)?)
}

/// From da, the gradient of a: that of gate and up, (da · up · silu′(gate), da · silu(gate)),
/// `[n, 2 f]`. Also returns a, which costs little to compute here. May reuse the memory of da.
///
/// # Errors
/// As [`forward`].
pub fn backward(da: Tensor, gate_up: &Tensor) -> Result<(Tensor, Tensor), Error> {
    let (gate, up) = halves(gate_up)?;
    if kernels::available(&[&da, gate_up]) {
        return Ok(kernels::swiglu::backward(Activation::Silu, da, gate_up)?);
    }
    let d_gate_up = gate_up.f_empty_like()?;
    let (d_gate, d_up) = halves(&d_gate_up)?;
    let silu = gate.f_silu()?;
    let _ = silu.f_mul_out(&d_up, &da)?;
    let _ = gate.f_silu_backward_grad_input(&d_gate, &{ da }.f_mul_(&up)?)?;
    Ok((d_gate_up, { silu }.f_mul_(&up)?))
}

pub(super) fn halves(gate_up: &Tensor) -> Result<(Tensor, Tensor), Error> {
    let (n, width) = matrix_shape("gated unit", gate_up)?;
    if width % 2 != 0 {
        let expected = "gate and up side by side".to_owned();
        return Err(Error::Shape { operation: "gated unit", expected, found: format!("[{n}, {width}]") });
    }
    let half = |start| gate_up.f_narrow(1, start, width / 2);
    Ok((half(0)?, half(width / 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, each_precision, random};

    #[test]
    fn equals_autograd() {
        for [n, f] in [[1, 1], [4, 7], [3, 16]] {
            each_precision(|kind| {
                let (gate_up, da) = (random(&[n, 2 * f], kind), random(&[n, f], kind));
                let reference = |t: &[Tensor]| {
                    let halves = t[0].chunk(2, 1);
                    &halves[0] * halves[0].sigmoid() * &halves[1]
                };
                let mut check = Check::of(&[&gate_up], &da, reference);
                check.forward(&forward(&gate_up).unwrap());
                let (d_gate_up, a) = backward(da.copy(), &gate_up).unwrap();
                check.gradient(0, &d_gate_up);
                check.forward(&a);
            });
        }
        let odd = random(&[2, 3], tch::Kind::Float);
        assert!(forward(&odd).unwrap_err().to_string().contains("[2, 3]"));
    }
}
