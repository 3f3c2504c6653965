//! Moments carried over to a new basis (LDAdam, [2410.16103](https://arxiv.org/abs/2410.16103)).
//!
//! `C = Pᵀ P₋` takes coordinates in the old basis `P₋` to those in the new basis `P`. With `m̂` and
//! `v̂` the bias-corrected moments after `t` steps, and squares of matrices taken elementwise:
//!
//! ```text
//! m ← C m        v ← (1 − β2ᵗ) |C² (v̂ − m̂²) + (C m̂)²|
//! ```
//!
//! The first is exact. The second takes `v̂ − m̂²` as the variances of uncorrelated coordinates,
//! which is what Adam knows of them. The right side multiplies from the right by `Cᵀ`; with both
//! sides, one matrix does each.

use crate::AdamConfig;
use crate::basis::Bases;
use tch::{TchError, Tensor};

/// The change from one basis to another.
#[derive(Debug)]
pub(crate) struct Change {
    /// `[b, r, r]`, multiplied from the left.
    left: Option<Tensor>,
    /// `[b, r, r]`, multiplied from the right.
    right: Option<Tensor>,
}

impl Change {
    /// From `previous` to `fresh`, which have the same sides, in float32.
    pub(crate) fn new(fresh: &Bases, previous: &Bases) -> Result<Self, TchError> {
        let left = fresh.left.as_ref().zip(previous.left.as_ref());
        let right = fresh.right.as_ref().zip(previous.right.as_ref());
        Ok(Change {
            left: left.map(|(fresh, previous)| fresh.f_transpose(1, 2)?.f_bmm(previous)).transpose()?,
            right: right.map(|(fresh, previous)| previous.f_bmm(&fresh.f_transpose(1, 2)?)).transpose()?,
        })
    }

    /// Replaces moments `[b, …]`, in float32, that hold this many steps.
    pub(crate) fn carry(
        &self,
        mut first: Tensor,
        mut second: Tensor,
        (adam, steps): (&AdamConfig, i64),
    ) -> Result<(), TchError> {
        if steps == 0 {
            return Ok(());
        }
        let correction = |beta: f64| 1.0 - beta.powf(steps as f64);
        let (correction1, correction2) = (correction(adam.beta1), correction(adam.beta2));
        let mean_square = first.f_div_scalar(correction1)?.f_square()?;
        let variance = second.f_div_scalar(correction2)?.f_sub(&mean_square)?;
        let moved = self.apply(&first)?;
        let moved_square = moved.f_div_scalar(correction1)?.f_square()?;
        let carried = self.squared()?.apply(&variance)?.f_add(&moved_square)?.f_abs()?;
        second.f_copy_(&carried.f_mul_scalar(correction2)?)?;
        first.f_copy_(&moved)
    }

    fn apply(&self, moment: &Tensor) -> Result<Tensor, TchError> {
        let half = match &self.left {
            Some(left) => left.f_bmm(moment)?,
            None => moment.shallow_clone(),
        };
        match &self.right {
            Some(right) => half.f_bmm(right),
            None => Ok(half),
        }
    }

    fn squared(&self) -> Result<Self, TchError> {
        let squared = |side: &Option<Tensor>| side.as_ref().map(Tensor::f_square).transpose();
        Ok(Change { left: squared(&self.left)?, right: squared(&self.right)? })
    }
}
