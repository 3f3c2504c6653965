//! The norm of a block as its family declares it: root-mean-square norm in its variants
//! ([`rms_norm`](super::rms_norm)), or layer norm ([`layer_norm`](super::layer_norm)).
//!
//! Shapes: `n` tokens, `d` hidden.

use super::{layer_norm, rms_norm};
use crate::Error;
use tch::Tensor;
pub use torch_ext::kernels::rms_norm::Gain;

/// Which norm it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Root-mean-square norm.
    Rms(Gain),
    /// Layer norm (Ba et al., arXiv 1607.06450), with a bias or without.
    Layer,
}

/// A norm and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Which norm it is.
    pub kind: NormKind,
    /// `[d]`.
    pub weight: &'a Tensor,
    /// `[d]`, only for a layer norm.
    pub bias: Option<&'a Tensor>,
    /// Added to the mean square or the variance.
    pub epsilon: f64,
}

/// What a norm found of each token. Both are `[n, 1]`, in float32 or wider.
#[derive(Debug)]
pub struct Statistics {
    /// 1 / √(mean(x²) + ε), or of a layer norm 1 / √(variance + ε).
    pub reciprocal: Tensor,
    /// Of a layer norm.
    pub mean: Option<Tensor>,
}

/// What the backward needs of the forward.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// The input `[n, d]`, with the residual added.
    pub x: &'a Tensor,
    /// The norm.
    pub norm: Norm<'a>,
    /// What the forward returned.
    pub statistics: &'a Statistics,
}

/// The buffers that a backward adds gradients of the parameters to.
#[derive(Debug)]
pub struct Gradients {
    /// `[d]`.
    pub weight: Tensor,
    /// `[d]`, if the norm has a bias.
    pub bias: Option<Tensor>,
}

/// x `[n, d]` → y `[n, d]`, and what the backward needs.
///
/// # Errors
/// [`Error::Shape`] for an x that is not a matrix, [`Error::Torch`] for parameters that do not fit
/// it.
pub fn forward(x: &Tensor, norm: Norm<'_>) -> Result<(Tensor, Statistics), Error> {
    match norm.kind {
        NormKind::Rms(gain) => {
            let weight = rms_norm::Weight { values: norm.weight, gain };
            let (y, reciprocal) = rms_norm::forward_with(x, weight, norm.epsilon)?;
            Ok((y, Statistics { reciprocal, mean: None }))
        }
        NormKind::Layer => layer_norm::forward(x, norm),
    }
}

/// s = x + residual, `[n, d]`, and [`forward`] of s: (s, y, statistics). May reuse the memory of x.
///
/// # Errors
/// As [`forward`].
pub fn forward_of_sum(x: Tensor, residual: &Tensor, norm: Norm<'_>) -> Result<(Tensor, Tensor, Statistics), Error> {
    if let NormKind::Rms(gain) = norm.kind {
        let weight = rms_norm::Weight { values: norm.weight, gain };
        let (sum, y, reciprocal) = rms_norm::forward_of_sum_with(x, residual, weight, norm.epsilon)?;
        return Ok((sum, y, Statistics { reciprocal, mean: None }));
    }
    let sum = { x }.f_add_(residual)?;
    let (y, statistics) = forward(&sum, norm)?;
    Ok((sum, y, statistics))
}

/// From dy `[n, d]`: dx `[n, d]`, plus `residual`, the gradient that reaches x without going
/// through the norm. Adds the gradients of the parameters to their buffers.
///
/// # Errors
/// [`Error::Shape`] for a dy that is not a matrix, [`Error::Torch`] for tensors that do not fit it.
pub fn backward(
    dy: &Tensor,
    saved: Saved<'_>,
    residual: Option<&Tensor>,
    gradients: &mut Gradients,
) -> Result<Tensor, Error> {
    let Saved { x, norm: Norm { kind, weight, .. }, statistics } = saved;
    match kind {
        NormKind::Rms(gain) => {
            let weight = rms_norm::Weight { values: weight, gain };
            let saved = rms_norm::SavedWith { x, weight, reciprocal_rms: &statistics.reciprocal };
            rms_norm::backward_with(dy, saved, residual, &mut gradients.weight)
        }
        NormKind::Layer => {
            let dx = layer_norm::backward(dy, saved, gradients)?;
            match residual {
                Some(residual) => Ok({ dx }.f_add_(residual)?),
                None => Ok(dx),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, assert_close, each_precision, random};
    use tch::Kind;

    const EPSILON: f64 = 1e-5;

    fn reference(kind: NormKind, t: &[Tensor]) -> Tensor {
        let (x, weight) = (&t[0], &t[1]);
        let normalised = |x: &Tensor| x * ((x * x).mean_dim(1, true, Kind::Double) + EPSILON).rsqrt();
        match kind {
            NormKind::Rms(Gain::Rounded | Gain::Wide) => normalised(x) * weight,
            NormKind::Rms(Gain::WideOnePlus) => normalised(x) * (weight + 1.0),
            NormKind::Layer => {
                let y = normalised(&(x - x.mean_dim(1, true, Kind::Double))) * weight;
                if let Some(bias) = t.get(2) { y + bias } else { y }
            }
        }
    }

    #[test]
    fn every_kind_equals_autograd() {
        let kinds = [
            (NormKind::Rms(Gain::Rounded), false),
            (NormKind::Rms(Gain::Wide), false),
            (NormKind::Rms(Gain::WideOnePlus), false),
            (NormKind::Layer, false),
            (NormKind::Layer, true),
        ];
        for (kind, has_bias) in kinds {
            for (n, d) in [(1, 3), (3, 7), (20, 33)] {
                each_precision(|precision| {
                    let (x, weight, bias) =
                        (random(&[n, d], precision), random(&[d], precision), random(&[d], precision));
                    let dy = random(&[n, d], precision);
                    let inputs = if has_bias { vec![&x, &weight, &bias] } else { vec![&x, &weight] };
                    let mut check = Check::of(&inputs, &dy, |t| reference(kind, t));
                    let norm = Norm { kind, weight: &weight, bias: has_bias.then_some(&bias), epsilon: EPSILON };
                    let (y, statistics) = forward(&x, norm).unwrap();
                    check.forward(&y);
                    let (sum, y, _) = forward_of_sum(&x - 1.0, &x.ones_like(), norm).unwrap();
                    assert_close(&sum, &x, precision, "sum");
                    check.forward(&y);
                    let bias_gradient = has_bias.then(|| bias.zeros_like());
                    let mut gradients = Gradients { weight: weight.zeros_like(), bias: bias_gradient };
                    let saved = Saved { x: &x, norm, statistics: &statistics };
                    check.gradient(0, &backward(&dy, saved, None, &mut gradients).unwrap());
                    check.gradient(1, &gradients.weight);
                    let dx = backward(&dy, saved, Some(&dy), &mut gradients).unwrap();
                    check.gradient(0, &(dx - &dy));
                    check.gradient(1, &(gradients.weight / 2.0)); // added, not overwritten
                    if let Some(bias) = gradients.bias {
                        check.gradient(2, &(bias / 2.0));
                    }
                });
            }
        }
    }

    /// In bfloat16, where a result is rounded makes a difference of a bit.
    #[test]
    fn results_are_rounded_where_transformers_rounds_them() {
        let (x, weight) = (random(&[40, 33], Kind::BFloat16), random(&[33], Kind::BFloat16));
        let wide = x.to_kind(Kind::Float);
        let normalised = &wide * ((&wide * &wide).mean_dim(1, true, Kind::Float) + EPSILON).rsqrt();
        let wide_weight = weight.to_kind(Kind::Float);
        let expected = [
            (Gain::Rounded, normalised.to_kind(Kind::BFloat16) * &weight),
            (Gain::Wide, (&normalised * &wide_weight).to_kind(Kind::BFloat16)),
            (Gain::WideOnePlus, (&normalised * (&wide_weight + 1.0)).to_kind(Kind::BFloat16)),
        ];
        for (gain, expected) in expected {
            let norm = Norm { kind: NormKind::Rms(gain), weight: &weight, bias: None, epsilon: EPSILON };
            let (y, _) = forward(&x, norm).unwrap();
            let different = y.ne_tensor(&expected).sum(Kind::Int64).int64_value(&[]);
            assert!(different <= 2, "{gain:?}: {different} of {} differ", y.numel());
        }
    }
}
