//! Updates that scale the gradient itself by what Adam does in a subspace. With the projected
//! gradient `R`, Adam's direction `N` for it (bias-corrected), and a channel `j` along the longer
//! side of the matrix:
//!
//! ```text
//! s_j = ‖N_j‖ / (‖R_j‖ + 1e-8)
//!
//! APOLLO (2412.05270):  S = s ∘ G                 W ← W − lr √scale S       one s for all with Mini
//! Fira (2410.01623):    S = s ∘ (G − G P Pᵀ)      W ← W − lr scale (N Pᵀ + S)
//!
//! both:  if ‖S‖ > 1.01 ‖S before‖:  S ← 1.01 ‖S before‖ S / ‖S‖
//! ```
//!
//! APOLLO's subspace is random: its `P` is normally distributed with variance 1/r. Here its columns
//! are also orthonormal up to the factor √(n/r), which keeps the same lengths on average with less
//! noise.

use super::{ApolloScaling, Turn};
use crate::adam::{AdamFormula, AdamStep};
use crate::parameter_state::ParameterState;
use crate::projector::Projector;
use crate::scratch::Scratch;
use tch::{Kind, TchError, Tensor};

const GROWTH_LIMIT: f64 = 1.01;
const EPSILON: f64 = 1e-8;

pub(super) fn kept() -> Vec<(&'static str, Vec<i64>)> {
    vec![("scaled_norm", Vec::new())]
}

impl ParameterState {
    pub(super) fn apollo(
        &mut self,
        gradient: &Tensor,
        projector: &Projector,
        (mut low_rank, scaling, turn): (Tensor, ApolloScaling, &Turn<'_>),
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let side = *gradient.size().iter().min().unwrap_or(&1);
        low_rank.f_mul_scalar_((side as f64 / projector.rank() as f64).sqrt()).map(drop)?;
        let along = match scaling {
            ApolloScaling::Channel => Some(channel_dimension(gradient)),
            ApolloScaling::Tensor => None,
        };
        let factors = self.factors(&low_rank, along, (turn, AdamFormula::Torch), scratch)?;
        let scaled = self.limited(gradient.f_mul(&factors)?)?;
        let step = scaled.f_mul_scalar(-turn.learning_rate * projector.scale.abs().sqrt())?;
        let shape = gradient.size();
        self.change_master(turn, scratch, |master, _| master.f_view(&shape[..])?.f_add_(&step).map(drop))
    }

    pub(super) fn fira(
        &mut self,
        gradient: &Tensor,
        projector: &Projector,
        (low_rank, turn): (Tensor, &Turn<'_>),
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let mut residual = gradient.f_add_scalar(0.0)?;
        projector.add_back(&low_rank.f_neg()?, &mut residual, scratch)?;
        let along = channel_dimension(gradient);
        let factors = self.factors(&low_rank, Some(along), (turn, turn.rule.formula()), scratch)?;
        let scaled = self.limited(residual.f_mul(&factors)?)?;
        let factor = -turn.learning_rate * projector.scale;
        let (subspace, rest) = (low_rank.f_mul_scalar(factor)?, scaled.f_mul_scalar(factor)?);
        let shape = gradient.size();
        self.change_master(turn, scratch, |master, scratch| {
            let mut master = master.f_view(&shape[..])?;
            projector.add_back(&subspace, &mut master, scratch)?;
            master.f_add_(&rest).map(drop)
        })
    }

    /// `s`, shaped to multiply the gradient. Replaces the projected gradient by Adam's direction.
    fn factors(
        &self,
        low_rank: &Tensor,
        along: Option<i64>,
        (turn, formula): (&Turn<'_>, AdamFormula),
        scratch: &mut Scratch,
    ) -> Result<Tensor, TchError> {
        let norm = |tensor: &Tensor| match along {
            Some(dimension) => tensor.f_norm_scalaropt_dim_dtype(2.0, [dimension].as_slice(), true, Kind::Float),
            None => tensor.f_norm(),
        };
        let before = norm(low_rank)?.f_add_scalar(EPSILON)?;
        // A learning rate of one gives the direction itself.
        let unit = AdamStep::new(formula, &self.adam, 1.0, turn.adam_step);
        self.plain_direction(&low_rank.f_view([-1])?, &unit, -1.0, scratch)?;
        norm(low_rank)?.f_div(&before)
    }

    /// `S` with limited growth. Remembers its norm.
    fn limited(&self, scaled: Tensor) -> Result<Tensor, TchError> {
        let Some((_, previous)) = self.kept.tensors().next() else { return Ok(scaled) };
        let norm = scaled.f_norm()?;
        let limit = previous.f_mul_scalar(GROWTH_LIMIT)?;
        // Before the first step, and after one without a gradient, there is nothing to grow from.
        let is_over = norm.f_gt_tensor(&limit)?.f_logical_and(&previous.f_gt(0.0)?)?;
        let factor = limit.f_div(&norm)?.f_where_self(&is_over, &norm.f_ones_like()?)?;
        let scaled = scaled.f_mul(&factor)?;
        previous.shallow_clone().f_copy_(&norm.f_mul(&factor)?)?;
        Ok(scaled)
    }
}

/// The dimension to take norms along, so that one is left for each channel of the longer side.
fn channel_dimension(gradient: &Tensor) -> i64 {
    match gradient.size()[..] {
        [rows, cols] if rows < cols => 0,
        _ => 1,
    }
}
