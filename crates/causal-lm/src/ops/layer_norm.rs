//! Layer norm (Ba et al., arXiv 1607.06450): y = w · x̂ + b with x̂ = (x − μ) r, μ the mean of x
//! and r = 1 / √(variance + ε).
//!
//! Shapes: `n` tokens, `d` hidden.

use super::norm::{Gradients, Norm, Saved, Statistics};
use super::{accumulate, matrix_shape, wide_kind};
use crate::Error;
use tch::Tensor;

pub(super) fn forward(x: &Tensor, norm: Norm<'_>) -> Result<(Tensor, Statistics), Error> {
    let (_, d) = matrix_shape("layer_norm", x)?;
    let Norm { weight, bias, epsilon, .. } = norm;
    let (y, mean, reciprocal) = x.f_native_layer_norm([d].as_slice(), Some(weight), bias, epsilon)?;
    let wide = wide_kind(x.f_kind()?);
    Ok((y, Statistics { reciprocal: reciprocal.f_to_kind(wide)?, mean: Some(mean.f_to_kind(wide)?) }))
}

/// With g = dy w: dx = r (g − mean(g) − x̂ mean(g x̂)), dw += Σ dy x̂, db += Σ dy.
pub(super) fn backward(dy: &Tensor, saved: Saved<'_>, gradients: &mut Gradients) -> Result<Tensor, Error> {
    matrix_shape("layer_norm backward", dy)?;
    let Saved { x, norm, statistics } = saved;
    let kind = x.f_kind()?;
    let wide = wide_kind(kind);
    let dy = dy.f_to_kind(wide)?;
    let centred = match &statistics.mean {
        Some(mean) => x.f_to_kind(wide)?.f_sub(mean)?,
        None => x.f_to_kind(wide)?,
    };
    let normalised = centred.f_mul(&statistics.reciprocal)?; // x̂
    accumulate(&mut gradients.weight, &dy.f_mul(&normalised)?.f_sum_dim_intlist(0, false, None)?)?;
    if let Some(bias) = &mut gradients.bias {
        accumulate(bias, &dy.f_sum_dim_intlist(0, false, None)?)?;
    }
    let mut scaled = dy.f_mul(&norm.weight.f_to_kind(wide)?)?; // g
    let mean = scaled.f_mean_dim(1, true, None)?;
    let projection = scaled.f_mul(&normalised)?.f_mean_dim(1, true, None)?;
    let dx = scaled.f_sub_(&mean)?.f_sub_(&normalised.f_mul(&projection)?)?.f_mul_(&statistics.reciprocal)?;
    Ok(dx.f_to_kind(kind)?)
}
