//! The subspace of one weight: its basis, the projection into the subspace, and the projection
//! back.
//!
//! Shapes: gradient `G [rows, cols]`, `left` basis `U [rows, r]`, `right` basis `V [r, cols]`, `r`
//! the effective rank.
//!
//! | side | into the subspace | and back |
//! |---|---|---|
//! | right | `R = G Vᵀ [rows, r]` | `N V` |
//! | left | `R = Uᵀ G [r, cols]` | `U N` |
//! | both | `R = Uᵀ G Vᵀ [r, r]` | `U N V` |

use crate::basis::{self, Bases, FindBases, Side};
use crate::refresh_schedule::{BasisAge, Schedule};
use crate::scratch::{Scratch, Slot};
use crate::{BasisChange, GaLoreConfig, ProjectionType};
use tch::{Device, Kind, TchError, Tensor};

/// Projector of one target.
#[derive(Debug)]
pub(crate) struct Projector {
    rows: i64,
    cols: i64,
    rank: i64,
    /// Type of the basis: float32 or float16.
    kind: Kind,
    side: Side,
    /// How bases are found.
    way: &'static dyn FindBases,
    pub(crate) config: GaLoreConfig,
    pub(crate) schedule: Schedule,
    pub(crate) scale: f64,
    left: Option<Tensor>,
    right: Option<Tensor>,
    /// Memory for a one-sided basis, if it is part of a stack.
    stacked: Option<Tensor>,
}

impl Projector {
    pub(crate) fn new([rows, cols]: [i64; 2], config: &GaLoreConfig, (kind, device): (Kind, Device)) -> Self {
        let tall = rows >= cols;
        // The weight's shape decides the side, once. galore-torch decides it again for the
        // projection back, by the shape of the projected gradient, and so takes the wrong side with
        // `reverse_std` for wide weights at full rank.
        let side = match config.proj_type {
            ProjectionType::Std if tall => Side::Right,
            ProjectionType::Std => Side::Left,
            ProjectionType::ReverseStd if tall => Side::Left,
            ProjectionType::ReverseStd => Side::Right,
            ProjectionType::Right => Side::Right,
            ProjectionType::Left => Side::Left,
            ProjectionType::Full => Side::Both,
        };
        Projector {
            rows,
            cols,
            rank: config.effective_rank(rows, cols),
            kind,
            side,
            way: basis::way(config.subspace, device),
            config: config.clone(),
            schedule: Schedule::new(config.update_proj_gap, config.lazy_refresh),
            scale: config.effective_scale(rows, cols),
            left: None,
            right: None,
            stacked: None,
        }
    }

    /// Shape of the projected gradient, which is that of the moments.
    pub(crate) fn low_rank_shape(&self) -> [i64; 2] {
        match self.side {
            Side::Left => [self.rank, self.cols],
            Side::Right => [self.rows, self.rank],
            Side::Both => [self.rank, self.rank],
        }
    }

    /// Whether the basis must be refreshed before `step`, counted from 0.
    pub(crate) fn is_due(&self, step: i64) -> bool {
        !self.has_basis() || self.schedule.is_due(step)
    }

    pub(crate) fn way(&self) -> &'static dyn FindBases {
        self.way
    }

    #[cfg(test)]
    pub(crate) fn use_way(&mut self, way: &'static dyn FindBases) {
        self.way = way;
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn has_basis(&self) -> bool {
        self.left.is_some() || self.right.is_some()
    }

    pub(crate) fn rank(&self) -> i64 {
        self.rank
    }

    /// Replaces the basis by this one, in a contiguous copy, or in the stack if there is one. The
    /// larger matrix that it was part of can then be freed, and products are the same bit for bit
    /// after a resume.
    pub(crate) fn set_bases(&mut self, bases: &Bases) -> Result<(), TchError> {
        let stored = bases.map(|basis| self.store(basis))?;
        (self.left, self.right) = (stored.left, stored.right);
        Ok(())
    }

    fn store(&self, basis: &Tensor) -> Result<Tensor, TchError> {
        match &self.stacked {
            None => contiguous(basis, self.kind),
            Some(stacked) => {
                stacked.shallow_clone().f_copy_(basis)?;
                Ok(stacked.shallow_clone())
            }
        }
    }

    /// Keeps the basis until the next step, which tries again. If there is none yet, it is zero
    /// until then, and so is the update.
    pub(crate) fn postpone(&mut self, device: Device) -> Result<(), TchError> {
        if self.is_from_gradient() {
            self.schedule.postpone(BasisAge::Overdue);
            return Ok(());
        }
        self.reset(Basis::Present, device)?;
        for basis in [&mut self.left, &mut self.right].into_iter().flatten() {
            basis.f_zero_().map(drop)?;
        }
        self.schedule.postpone(BasisAge::Missing);
        Ok(())
    }

    /// Whether there is a basis that comes from a gradient.
    pub(crate) fn is_from_gradient(&self) -> bool {
        self.has_basis() && self.schedule.progress().basis != BasisAge::Missing
    }

    /// The basis in float32 as one of a batch, `[1, …]`, if there is one that comes from a
    /// gradient.
    pub(crate) fn batch_of_bases(&self) -> Result<Option<Bases>, TchError> {
        if !self.is_from_gradient() {
            return Ok(None);
        }
        let wide = |basis: &Option<Tensor>| {
            basis.as_ref().map(|basis| basis.f_to_kind(Kind::Float)?.f_unsqueeze(0)).transpose()
        };
        Ok(Some(Bases { left: wide(&self.left)?, right: wide(&self.right)? }))
    }

    /// Takes what has been written into the memory of the stack as the basis.
    pub(crate) fn use_stacked_basis(&mut self) {
        let stacked = self.stacked.as_ref().map(Tensor::shallow_clone);
        match self.side {
            Side::Left => self.left = stacked,
            Side::Right => self.right = stacked,
            Side::Both => {}
        }
    }

    /// Shape and side of the basis, if the target can take its step with others: its basis has one
    /// side, and a refresh changes nothing but the basis.
    pub(crate) fn for_stack(&self) -> Option<([i64; 2], Side)> {
        if self.config.moments != BasisChange::Keep || self.schedule.is_lazy() || self.way.uses_memory() {
            return None;
        }
        match self.side {
            Side::Left => Some(([self.rows, self.rank], Side::Left)),
            Side::Right => Some(([self.rank, self.cols], Side::Right)),
            Side::Both => None,
        }
    }

    /// Keeps a one-sided basis in memory of a stack from now on.
    pub(crate) fn move_into_stack(&mut self, stacked: Tensor) -> Result<(), TchError> {
        for basis in [&mut self.left, &mut self.right].into_iter().flatten() {
            stacked.shallow_clone().f_copy_(basis)?;
            *basis = stacked.shallow_clone();
        }
        self.stacked = Some(stacked);
        Ok(())
    }

    /// The projected gradient, in the slot [`Slot::LowRank`].
    pub(crate) fn project(&self, gradient: &Tensor, scratch: &mut Scratch) -> Result<Tensor, TchError> {
        let shape = self.low_rank_shape();
        let out = scratch.floats(Slot::LowRank, shape[0] * shape[1])?.f_view(shape)?;
        let (left, right) = self.wide_basis(scratch)?;
        match (&left, &right) {
            (Some(left), None) => left.f_tr()?.f_mm_out(&out, gradient).map(drop)?,
            (None, Some(right)) => gradient.f_mm_out(&out, &right.f_tr()?).map(drop)?,
            (Some(left), Some(right)) => {
                let half =
                    scratch.floats(Slot::HalfProjected, self.rank * self.cols)?.f_view([self.rank, self.cols])?;
                left.f_tr()?.f_mm_out(&half, gradient)?.f_mm_out(&out, &right.f_tr()?).map(drop)?
            }
            (None, None) => return Err(no_basis()),
        };
        Ok(out)
    }

    /// The basis in float32.
    fn wide_basis(&self, scratch: &mut Scratch) -> Result<(Option<Tensor>, Option<Tensor>), TchError> {
        let mut wide = |basis: &Option<Tensor>| {
            let Some(basis) = basis else { return Ok(None) };
            match self.side {
                // Two bases do not fit in one buffer.
                Side::Both => basis.f_to_kind(Kind::Float).map(Some),
                Side::Left | Side::Right => scratch.widened(Slot::Basis, basis).map(Some),
            }
        };
        Ok((wide(&self.left)?, wide(&self.right)?))
    }

    /// `weight [rows, cols]` ← `weight` + the back-projection of `direction`.
    pub(crate) fn add_back(
        &self,
        direction: &Tensor,
        weight: &mut Tensor,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let (left, right) = self.wide_basis(scratch)?;
        match (&left, &right) {
            (Some(left), None) => weight.f_addmm_(left, direction).map(drop)?,
            (None, Some(right)) => weight.f_addmm_(direction, right).map(drop)?,
            (Some(left), Some(right)) => {
                let half =
                    scratch.floats(Slot::HalfProjected, self.rows * self.rank)?.f_view([self.rows, self.rank])?;
                weight.f_addmm_(&left.f_mm_out(&half, direction)?, right).map(drop)?
            }
            (None, None) => return Err(no_basis()),
        };
        Ok(())
    }

    /// The basis: suffixes of the weight's name in the state, and the tensors.
    pub(crate) fn state(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.left.iter().map(|left| ("basis_left", left)).chain(self.right.iter().map(|right| ("basis_right", right)))
    }

    /// Suffixes and shapes of the basis.
    pub(crate) fn basis_shapes(&self) -> impl Iterator<Item = (&'static str, [i64; 2])> + use<> {
        let left = self.side.has_left().then_some(("basis_left", [self.rows, self.rank]));
        let right = self.side.has_right().then_some(("basis_right", [self.rank, self.cols]));
        left.into_iter().chain(right)
    }

    /// Allocates the basis, to be read from a state file, or drops it.
    pub(crate) fn reset(&mut self, presence: Basis, device: Device) -> Result<(), TchError> {
        (self.left, self.right) = (None, None);
        for (suffix, shape) in self.basis_shapes().filter(|_| presence == Basis::Present) {
            let basis = match &self.stacked {
                Some(stacked) => stacked.shallow_clone(),
                None => Tensor::f_zeros(shape, (self.kind, device))?,
            };
            if suffix == "basis_left" { self.left = Some(basis) } else { self.right = Some(basis) }
        }
        Ok(())
    }
}

/// Whether a state holds a basis. It has none before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    Present,
    Absent,
}

fn no_basis() -> TchError {
    TchError::Torch("projection before the first refresh".to_owned())
}

/// A contiguous copy, even of a contiguous tensor: a narrowed view would keep the whole alive.
fn contiguous(tensor: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    let mut copy = Tensor::f_empty(tensor.size(), (kind, tensor.device()))?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

#[cfg(test)]
mod tests;
