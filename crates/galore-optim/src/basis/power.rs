//! One step of power iteration from the old basis (LDAdam, 2410.16103).
//!
//! For the right side, with `P₋ [cols, r]` the old basis and `m̂ [rows, r]` the bias-corrected
//! first moment: `B = β1 · m̂ P₋ᵀ + (1 − β1) G` and `P = qr(Bᵀ (B P₋))`. The left side is the same
//! with `G` transposed. Power iteration converges while training goes on, and `B` averages the
//! noise of single gradients away.

use super::eigen::Eigenvectors;
use super::orthonormal::columns;
use super::{Bases, FindBases, Memory, Wanted, scaled};
use tch::{TchError, Tensor};

#[derive(Debug)]
pub(super) struct PowerStep;

impl FindBases for PowerStep {
    fn name(&self) -> &'static str {
        "the power step"
    }

    fn find(&self, gradients: &Tensor, largest: &Tensor, wanted: &Wanted<'_>) -> Result<Bases, TchError> {
        let Some(previous) = &wanted.previous else {
            return Eigenvectors.find(gradients, largest, wanted);
        };
        let mut estimate = scaled(gradients, largest)?;
        if let Some(Memory { first_moment, share }) = &wanted.memory {
            let remembered = back_projected(first_moment, previous)?.f_div(&largest.f_view([-1, 1, 1])?)?;
            estimate = estimate.f_mul_scalar_(1.0 - share)?.f_add_(&remembered.f_mul_scalar(*share)?)?;
            // A large memory of a gradient that is now tiny would leave float32's range when it is
            // squared.
            estimate = scaled(&estimate, &super::largest(&estimate)?)?;
        }
        let turned = estimate.f_transpose(1, 2)?;
        let left = |left: &Tensor| columns(&estimate.f_bmm(&turned.f_bmm(left)?)?);
        let right =
            |right: &Tensor| columns(&turned.f_bmm(&estimate.f_bmm(&right.f_transpose(1, 2)?)?)?)?.f_transpose(1, 2);
        Ok(Bases {
            left: previous.left.as_ref().map(left).transpose()?,
            right: previous.right.as_ref().map(right).transpose()?,
        })
    }

    /// Each column continues its predecessor as it is. Another order would make the next step's
    /// columns orthonormal in another order, and so turn the axes.
    fn matches_previous(&self) -> bool {
        false
    }

    fn uses_memory(&self) -> bool {
        true
    }
}

/// Moments `[b, …]` in the space of the gradient.
fn back_projected(moments: &Tensor, bases: &Bases) -> Result<Tensor, TchError> {
    let half = match &bases.left {
        Some(left) => left.f_bmm(moments)?,
        None => moments.shallow_clone(),
    };
    match &bases.right {
        Some(right) => half.f_bmm(right),
        None => Ok(half),
    }
}
