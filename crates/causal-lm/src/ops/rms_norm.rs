//! Root-mean-square norm (Zhang and Sennrich, arXiv 1910.07467): y = w · x / √(mean(x²) + ε).
//! [`norm`](super::norm) has the variants of families.
//!
//! Shapes: `n` tokens, `d` hidden.

use super::norm::Gain;
use super::{accumulate, matrix_shape, wide_kind};
use crate::Error;
use tch::Tensor;
use torch_ext::kernels;
pub(super) use torch_ext::kernels::rms_norm::{Saved as SavedWith, Weight};

/// The values of the forward that [`backward`] needs.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// The forward's input `[n, d]`, with the residual added.
    pub x: &'a Tensor,
    /// The weight `[d]`.
    pub weight: &'a Tensor,
    /// 1 / √(mean(x²) + ε), `[n, 1]`.
    pub reciprocal_rms: &'a Tensor,
}

/// x `[n, d]`, weight `[d]` → y `[n, d]` and r = 1 / √(mean(x²) + ε), `[n, 1]` in float32.
///
/// As in transformers, the normalised x is rounded to the type of x before it is multiplied with
/// the weight.
///
/// # Errors
/// [`Error::Shape`] for an x that is not a matrix, [`Error::Torch`] for a weight that does not fit
/// it.
pub fn forward(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor), Error> {
    forward_with(x, Weight::rounded(weight), epsilon)
}

/// s = x + residual, `[n, d]`, and [`forward`] of s: (s, y, r). May reuse the memory of x.
///
/// # Errors
/// As [`forward`].
pub fn forward_of_sum(
    x: Tensor,
    residual: &Tensor,
    weight: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, Tensor, Tensor), Error> {
    forward_of_sum_with(x, residual, Weight::rounded(weight), epsilon)
}

/// With x̂ = x r and c = mean(dy w x̂): dx = r (dy w − x̂ c), dw += Σ dy x̂.
///
/// `residual`, the gradient that reaches x without going through the norm, is added to dx.
///
/// # Errors
/// [`Error::Shape`] for a dy that is not a matrix, [`Error::Torch`] for tensors that do not fit it.
pub fn backward(
    dy: &Tensor,
    saved: Saved<'_>,
    residual: Option<&Tensor>,
    weight_gradient: &mut Tensor,
) -> Result<Tensor, Error> {
    let Saved { x, weight, reciprocal_rms } = saved;
    let saved = SavedWith { x, weight: Weight::rounded(weight), reciprocal_rms };
    backward_with(dy, saved, residual, weight_gradient)
}

/// As [`forward`], with any gain.
pub(super) fn forward_with(x: &Tensor, weight: Weight<'_>, epsilon: f64) -> Result<(Tensor, Tensor), Error> {
    let (_, d) = matrix_shape("rms_norm", x)?;
    if kernels::available(&[x, weight.values]) && kernels::rms_norm::fits(d) {
        let fused = kernels::rms_norm::forward(x, None, weight, epsilon)?;
        return Ok((fused.y, fused.reciprocal_rms));
    }
    let kind = x.f_kind()?;
    let x = x.f_to_kind(wide_kind(kind))?;
    let reciprocal_rms = x
        .f_linalg_norm(2.0, [1].as_slice(), true, None)?
        .f_square_()?
        .f_div_scalar_(d as f64)?
        .f_add_scalar_(epsilon)?
        .f_rsqrt_()?; // [n, 1]
    let normalised = x.f_mul(&reciprocal_rms)?;
    let y = match weight.gain {
        Gain::Rounded => normalised.f_to_kind(kind)?.f_mul_(weight.values)?,
        Gain::Wide | Gain::WideOnePlus => { normalised }.f_mul_(&wide(weight)?)?.f_to_kind(kind)?,
    };
    Ok((y, reciprocal_rms))
}

/// As [`forward_of_sum`], with any gain.
pub(super) fn forward_of_sum_with(
    x: Tensor,
    residual: &Tensor,
    weight: Weight<'_>,
    epsilon: f64,
) -> Result<(Tensor, Tensor, Tensor), Error> {
    let (_, d) = matrix_shape("rms_norm", &x)?;
    if kernels::available(&[&x, residual, weight.values]) && kernels::rms_norm::fits(d) {
        let fused = kernels::rms_norm::forward(&x, Some(residual), weight, epsilon)?;
        if let Some(sum) = fused.sum {
            return Ok((sum, fused.y, fused.reciprocal_rms));
        }
    }
    let sum = { x }.f_add_(residual)?;
    let (y, reciprocal_rms) = forward_with(&sum, weight, epsilon)?;
    Ok((sum, y, reciprocal_rms))
}

/// As [`backward`], with any gain; w is what x̂ is multiplied with.
pub(super) fn backward_with(
    dy: &Tensor,
    saved: SavedWith<'_>,
    residual: Option<&Tensor>,
    weight_gradient: &mut Tensor,
) -> Result<Tensor, Error> {
    let (_, d) = matrix_shape("rms_norm backward", dy)?;
    let SavedWith { x, weight, reciprocal_rms } = saved;
    let operands = [dy, x, weight.values, reciprocal_rms, weight_gradient, residual.unwrap_or(dy)];
    if kernels::available(&operands) && kernels::rms_norm::fits(d) {
        return Ok(kernels::rms_norm::backward(dy, saved, residual, weight_gradient)?);
    }
    let kind = x.f_kind()?;
    let dy = dy.f_to_kind(wide_kind(kind))?;
    let normalised = x.f_to_kind(wide_kind(kind))?.f_mul(reciprocal_rms)?; // [n, d]
    let product = dy.f_mul(&normalised)?; // dy x̂
    accumulate(weight_gradient, &product.f_sum_dim_intlist(0, false, None)?)?;
    let weight = wide(weight)?;
    let mean = product.f_mv(&weight)?.f_div_scalar_(d as f64)?.f_unsqueeze(1)?; // c, [n, 1]
    let dx = dy.f_mul(&weight)?.f_sub_(&normalised.f_mul(&mean)?)?.f_mul_(reciprocal_rms)?.f_to_kind(kind)?;
    match residual {
        Some(residual) => Ok({ dx }.f_add_(residual)?),
        None => Ok(dx),
    }
}

/// What x̂ is multiplied with, in float32 or wider, `[d]`.
fn wide(weight: Weight<'_>) -> Result<Tensor, Error> {
    let values = weight.values.f_to_kind(wide_kind(weight.values.f_kind()?))?;
    match weight.gain {
        Gain::Rounded | Gain::Wide => Ok(values),
        Gain::WideOnePlus => Ok(values.f_add_scalar(1.0)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, assert_close, each_precision, random};
    use tch::Kind;

    #[test]
    fn equals_autograd() {
        for (n, d) in [(1, 1), (3, 7), (20, 33)] {
            each_precision(|kind| {
                let (x, weight, dy) = (random(&[n, d], kind), random(&[d], kind), random(&[n, d], kind));
                let reference = |t: &[Tensor]| {
                    let mean = (&t[0] * &t[0]).mean_dim(1, true, Kind::Double);
                    &t[0] * (mean + 1e-5).rsqrt() * &t[1]
                };
                let mut check = Check::of(&[&x, &weight], &dy, reference);
                let (y, reciprocal_rms) = forward(&x, &weight, 1e-5).unwrap();
                check.forward(&y);
                let (sum, y, _) = forward_of_sum(&x - 1.0, &x.ones_like(), &weight, 1e-5).unwrap();
                assert_close(&sum, &x, kind, "sum");
                check.forward(&y);
                let mut weight_gradient = weight.zeros_like();
                if d > 1 {
                    // In one dimension x / |x| is constant: the gradient is rounding errors.
                    let saved = Saved { x: &x, weight: &weight, reciprocal_rms: &reciprocal_rms };
                    check.gradient(0, &backward(&dy, saved, None, &mut weight_gradient).unwrap());
                    check.gradient(1, &weight_gradient);
                    let dx = backward(&dy, saved, Some(&dy), &mut weight_gradient).unwrap();
                    check.gradient(0, &(dx - &dy));
                    check.gradient(1, &(weight_gradient / 2.0)); // added, not overwritten
                }
            });
        }
    }
}
