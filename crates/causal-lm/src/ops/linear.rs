//! A linear layer: y = x Wᵀ + b.
//!
//! Shapes: `n` tokens, `i` inputs, `o` outputs.

use super::{accumulate, accumulate_product, matrix_shape};
use crate::Error;
use tch::Tensor;
use torch_ext::kernels;

/// x `[n, i]`, weight `[o, i]`, bias `[o]` → `[n, o]`.
///
/// # Errors
/// [`Error::Shape`] for an x that is not a matrix, [`Error::Torch`] for a weight that does not fit
/// it.
pub fn forward(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, Error> {
    matrix_shape("linear", x)?;
    Ok(x.f_linear(weight, bias)?)
}

/// As [`forward`], written to `y` `[n, o]`, which may be columns of a wider matrix.
///
/// # Errors
/// As [`forward`].
pub fn forward_into(y: &Tensor, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<(), Error> {
    matrix_shape("linear", x)?;
    let _ = match bias {
        Some(bias) => bias.f_addmm_out(y, x, &weight.f_tr()?)?,
        None => x.f_mm_out(y, &weight.f_tr()?)?,
    };
    Ok(())
}

/// What the backward needs of the forward.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// `[n, i]`.
    pub x: &'a Tensor,
    /// `[o, i]`.
    pub weight: &'a Tensor,
}

/// The buffers that the gradients of weight and bias are added to.
#[derive(Debug)]
pub struct Gradients {
    /// `[o, i]`.
    pub weight: Tensor,
    /// `[o]`.
    pub bias: Option<Tensor>,
}

/// dx = dy W; dW += dyᵀ x; db += Σ dy.
///
/// # Errors
/// [`Error::Shape`] for a dy that is not a matrix, [`Error::Torch`] for tensors that do not fit it.
pub fn backward(dy: &Tensor, saved: Saved<'_>, gradients: &mut Gradients) -> Result<Tensor, Error> {
    add_weight_gradients(dy, saved.x, gradients)?;
    input_gradient(dy, saved.weight)
}

/// Only dx = dy W.
///
/// # Errors
/// As [`backward`].
pub fn input_gradient(dy: &Tensor, weight: &Tensor) -> Result<Tensor, Error> {
    Ok(dy.f_mm(weight)?)
}

/// As [`backward`], but adds to `dx` instead of returning it, for layers that share their input.
///
/// # Errors
/// As [`backward`].
pub fn backward_into(dx: &mut Tensor, dy: &Tensor, saved: Saved<'_>, gradients: &mut Gradients) -> Result<(), Error> {
    add_weight_gradients(dy, saved.x, gradients)?;
    let _ = dx.f_addmm_(dy, saved.weight)?;
    Ok(())
}

/// Only dW += dyᵀ x and db += Σ dy.
///
/// # Errors
/// As [`backward`].
pub fn add_weight_gradients(dy: &Tensor, x: &Tensor, gradients: &mut Gradients) -> Result<(), Error> {
    matrix_shape("linear backward", dy)?;
    accumulate_product(&mut gradients.weight, &dy.f_tr()?, x)?;
    let Some(bias) = &mut gradients.bias else { return Ok(()) };
    if kernels::column_sum::available(dy, bias) {
        kernels::column_sum::add(dy, bias)?;
    } else {
        accumulate(bias, &dy.f_sum_dim_intlist(0, false, bias.f_kind()?)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, each_precision, random};
    use tch::Kind;

    #[test]
    fn equals_autograd() {
        for (n, i, o, with_bias) in [(5, 3, 4, true), (1, 1, 1, false), (17, 9, 2, true)] {
            each_precision(|kind| {
                let (x, weight, bias) = (random(&[n, i], kind), random(&[o, i], kind), random(&[o], kind));
                let dy = random(&[n, o + 1], kind).narrow(1, 1, o); // columns of a wider matrix
                let reference = |t: &[Tensor]| {
                    t[0].matmul(&t[1].tr()) + if with_bias { t[2].shallow_clone() } else { t[2].zeros_like() }
                };
                let mut check = Check::of(&[&x, &weight, &bias], &dy, reference);
                let bias_if_any = with_bias.then_some(&bias);
                check.forward(&forward(&x, &weight, bias_if_any).unwrap());
                let wider = Tensor::zeros([n, o + 3], (kind, x.device()));
                forward_into(&wider.narrow(1, 2, o), &x, &weight, bias_if_any).unwrap();
                check.forward(&wider.narrow(1, 2, o));
                assert_eq!(wider.narrow(1, 0, 2).abs().sum(Kind::Double).double_value(&[]), 0.0);
                let saved = Saved { x: &x, weight: &weight };
                let mut gradients =
                    Gradients { weight: weight.zeros_like(), bias: with_bias.then(|| bias.zeros_like()) };
                check.gradient(0, &backward(&dy, saved, &mut gradients).unwrap());
                check.gradient(1, &gradients.weight);
                if let Some(bias) = &gradients.bias {
                    check.gradient(2, bias);
                }
                let mut dx = x.copy();
                backward_into(&mut dx, &dy, saved, &mut gradients).unwrap();
                check.gradient(0, &(dx - &x));
                check.gradient(1, &(&gradients.weight / 2.0)); // added, not overwritten
            });
        }
    }
}
