//! The gated unit of the MLP (Shazeer, arXiv 2002.05202): a = silu(gate) · up, with silu(x) = x σ(x).

use crate::Error;
use tch::Tensor;
use torch_ext::kernels;

/// gate and up `[n, f]` → `[n, f]`.
///
/// # Errors
/// [`Error::Torch`] when the shapes differ.
pub fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
    if kernels::available(&[gate, up]) {
        return Ok(kernels::swiglu::forward(gate, up)?);
    }
    Ok(gate.f_silu()?.f_mul_(up)?)
}

/// Gradients of gate and up: (da · up · silu′(gate), da · silu(gate)).
///
/// # Errors
/// [`Error::Torch`] when the shapes differ.
pub fn backward(da: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Tensor), Error> {
    if kernels::available(&[da, gate, up]) {
        return Ok(kernels::swiglu::backward(da, gate, up)?);
    }
    let d_gate = gate.f_silu_backward(&da.f_mul(up)?)?;
    let d_up = gate.f_silu()?.f_mul_(da)?;
    Ok((d_gate, d_up))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, each_precision, random};

    #[test]
    fn equals_autograd() {
        for shape in [[1, 1], [4, 7]] {
            each_precision(|kind| {
                let (gate, up, da) = (random(&shape, kind), random(&shape, kind), random(&shape, kind));
                let mut check = Check::of(&[&gate, &up], &da, |t| &t[0] * t[0].sigmoid() * &t[1]);
                check.forward(&forward(&gate, &up).unwrap());
                let (d_gate, d_up) = backward(&da, &gate, &up).unwrap();
                check.gradient(0, &d_gate);
                check.gradient(1, &d_up);
            });
        }
    }
}
