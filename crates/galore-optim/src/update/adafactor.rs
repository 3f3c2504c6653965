//! Adafactor ([1804.04235](https://arxiv.org/abs/1804.04235), algorithm 4) as transformers and
//! galore-torch compute it with `scale_parameter=False, relative_step=False`, which is what Hugging
//! Face's `adafactor` and `galore_adafactor` set. With gradient `G [a, b]` and step `t` from 1:
//!
//! ```text
//! β = 1 − t^−0.8       r ← β r + (1 − β) row means of (G² + 1e-30)      c likewise, of columns
//! U = G / √(r cᵀ / mean r)       U ← U / max(1, RMS(U))       W ← (1 − lr λ) W − lr U
//! ```
//!
//! A tensor of one dimension keeps the mean of `G² + 1e-30` as a whole. Of a tensor of more than
//! two dimensions, the last two are rows and columns.

use super::{Kept, Turn};
use tch::{Kind, TchError, Tensor};

const EPSILON: f64 = 1e-30;
const DECAY_RATE: f64 = -0.8;
const CLIP_THRESHOLD: f64 = 1.0;

pub(super) fn kept(shape: &[i64]) -> Vec<(&'static str, Vec<i64>)> {
    match shape {
        [.., _, cols] if shape.len() >= 2 => {
            let rows = shape[..shape.len() - 1].to_vec();
            let mut columns = shape[..shape.len() - 2].to_vec();
            columns.push(*cols);
            vec![("exp_avg_sq_row", rows), ("exp_avg_sq_col", columns)]
        }
        _ => vec![("exp_avg_sq", shape.to_vec())],
    }
}

/// `lr U` of a float32 gradient.
pub(super) fn update(kept: &Kept, gradient: &Tensor, turn: &Turn<'_>) -> Result<Tensor, TchError> {
    let beta = 1.0 - (turn.step as f64).powf(DECAY_RATE);
    let squares = gradient.f_square()?.f_add_scalar(EPSILON)?;
    let follow = |mean: &Tensor, now: &Tensor| {
        let mut mean = mean.shallow_clone();
        mean.f_mul_scalar_(beta)?.f_add_(&now.f_mul_scalar(1.0 - beta)?).map(drop)
    };
    let factor = match &kept.0[..] {
        [(_, rows), (_, cols)] => {
            follow(rows, &squares.f_mean_dim([-1i64].as_slice(), false, Kind::Float)?)?;
            follow(cols, &squares.f_mean_dim([-2i64].as_slice(), false, Kind::Float)?)?;
            let row_mean = rows.f_mean_dim([-1i64].as_slice(), true, Kind::Float)?;
            let rows = rows.f_div(&row_mean)?.f_rsqrt()?.f_unsqueeze(-1)?;
            rows.f_mul(&cols.f_unsqueeze(-2)?.f_rsqrt()?)?
        }
        [(_, whole)] => {
            follow(whole, &squares)?;
            whole.f_rsqrt()?
        }
        _ => return Err(TchError::Kind("Adafactor's state is missing".to_owned())),
    };
    let update = factor.f_mul(gradient)?;
    let root_mean_square = update.f_norm()?.f_div_scalar((update.numel() as f64).sqrt())?;
    let clip = root_mean_square.f_div_scalar(CLIP_THRESHOLD)?.f_clamp_min(1.0)?;
    update.f_div(&clip)?.f_mul_scalar(turn.learning_rate)
}
