//! The subspace of one weight: basis from the gradient's singular vectors, projection into it and
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

use crate::in_place::InPlace;
use crate::scratch::{Scratch, Slot};
use crate::{GaLoreConfig, ProjectionType, SubspaceSolver, eigenbasis};
use tch::{Device, Kind, TchError, Tensor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Both,
}

/// Projector of one target.
#[derive(Debug)]
pub(crate) struct Projector {
    rows: i64,
    cols: i64,
    rank: i64,
    /// Of the basis: float32, or float16.
    kind: Kind,
    side: Side,
    /// Steps between two refreshes, and the step of such a gap, from 1 on, that refreshes.
    update_proj_gap: i64,
    refresh_step: i64,
    solver: SubspaceSolver,
    pub(crate) scale: f64,
    left: Option<Tensor>,
    right: Option<Tensor>,
    /// Where a one-sided basis is to lie, as part of a stack.
    room: Option<Tensor>,
}

impl Projector {
    pub(crate) fn new(rows: i64, cols: i64, config: &GaLoreConfig, kind: Kind) -> Self {
        let tall = rows >= cols;
        // The side is settled here by the weight's shape. galore-torch settles it again on the way
        // back, by the shape of the projected gradient, and so takes the wrong one in `reverse_std`
        // for wide weights at full rank.
        let side = match config.proj_type {
            ProjectionType::Std => {
                if tall {
                    Side::Right
                } else {
                    Side::Left
                }
            }
            ProjectionType::ReverseStd => {
                if tall {
                    Side::Left
                } else {
                    Side::Right
                }
            }
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
            update_proj_gap: config.update_proj_gap,
            refresh_step: config.update_proj_gap,
            solver: config.solver,
            scale: config.scale,
            left: None,
            right: None,
            room: None,
        }
    }

    /// Shape of the projected gradient and so of the moments.
    pub(crate) fn low_rank_shape(&self) -> [i64; 2] {
        match self.side {
            Side::Left => [self.rank, self.cols],
            Side::Right => [self.rows, self.rank],
            Side::Both => [self.rank, self.rank],
        }
    }

    /// Refreshes on this step of each gap, from 1 to the gap's length, in place of its last.
    pub(crate) fn refresh_at(&mut self, step: i64) {
        self.refresh_step = step;
    }

    /// Whether the basis must be made anew before `step`, counted from 0.
    pub(crate) fn is_due(&self, step: i64) -> bool {
        (step - self.refresh_step) % self.update_proj_gap == 0 || !self.has_basis()
    }

    /// Whether bases come from eigenvectors, which can be found for many matrices at a time.
    pub(crate) fn by_eigenvectors(&self, device: Device) -> bool {
        match self.solver {
            SubspaceSolver::Auto => device.is_cuda(),
            SubspaceSolver::Svd => false,
            SubspaceSolver::Eigenvectors => true,
        }
    }

    pub(crate) fn has_basis(&self) -> bool {
        self.left.is_some() || self.right.is_some()
    }

    pub(crate) fn rank(&self) -> i64 {
        self.rank
    }

    /// Takes the basis from a float32 gradient.
    pub(crate) fn refresh(&mut self, gradient: &Tensor) -> Result<(), TchError> {
        if self.by_eigenvectors(gradient.device()) {
            self.refresh_by_eigenvectors(gradient)
        } else {
            self.refresh_by_svd(gradient)
        }
    }

    fn refresh_by_eigenvectors(&mut self, gradient: &Tensor) -> Result<(), TchError> {
        let gradient = scaled(&gradient.f_unsqueeze(0)?)?;
        let basis = |side, previous: Option<&Tensor>| {
            let previous = previous.map(|previous| previous.f_unsqueeze(0)).transpose()?;
            basis(gradient.shallow_clone(), side, self.rank, previous.as_ref())?.f_squeeze_dim(0)
        };
        let left = (self.side != Side::Right).then(|| basis(OneSide::Left, self.left.as_ref())).transpose()?;
        let right = (self.side != Side::Left).then(|| basis(OneSide::Right, self.right.as_ref())).transpose()?;
        self.left = left.map(|left| self.kept(&left)).transpose()?;
        self.right = right.map(|right| self.kept(&right)).transpose()?;
        Ok(())
    }

    fn refresh_by_svd(&mut self, gradient: &Tensor) -> Result<(), TchError> {
        // `svd` is `linalg.svd` with V for Vᴴ; tch's own `linalg_svd` insists on a driver, which
        // only CUDA takes.
        let (left, _, right) = gradient.f_svd(true, true)?;
        // Contiguous copies: free the larger matrices, and multiply bit for bit alike after a
        // resume.
        if self.side != Side::Right {
            self.left = Some(self.kept(&left.f_narrow(1, 0, self.rank)?)?);
        }
        if self.side != Side::Left {
            self.right = Some(self.kept(&right.f_narrow(1, 0, self.rank)?.f_tr()?)?);
        }
        Ok(())
    }

    /// A basis where it is to lie: contiguous, and free of the larger matrix it was part of.
    fn kept(&self, basis: &Tensor) -> Result<Tensor, TchError> {
        match &self.room {
            None => contiguous(basis, self.kind),
            Some(room) => {
                room.shallow_clone().f_copy_(basis)?;
                Ok(room.shallow_clone())
            }
        }
    }

    /// The basis is what has been written into the place it was given by [`Self::move_basis`].
    pub(crate) fn adopt_room(&mut self) {
        let room = self.room.as_ref().map(Tensor::shallow_clone);
        match self.side {
            Side::Left => self.left = room,
            Side::Right => self.right = room,
            Side::Both => {}
        }
    }

    /// Shape of a one-sided basis, and its side.
    pub(crate) fn one_sided(&self) -> Option<([i64; 2], OneSide)> {
        match self.side {
            Side::Left => Some(([self.rows, self.rank], OneSide::Left)),
            Side::Right => Some(([self.rank, self.cols], OneSide::Right)),
            Side::Both => None,
        }
    }

    /// From now on a one-sided basis lies in `room`.
    pub(crate) fn move_basis(&mut self, room: Tensor) -> Result<(), TchError> {
        for basis in [&mut self.left, &mut self.right].into_iter().flatten() {
            room.shallow_clone().f_copy_(basis)?;
            *basis = room.shallow_clone();
        }
        self.room = Some(room);
        Ok(())
    }

    /// The projected gradient, in the slot [`Slot::LowRank`].
    pub(crate) fn project(&self, gradient: &Tensor, scratch: &mut Scratch) -> Result<Tensor, TchError> {
        let shape = self.low_rank_shape();
        let out = scratch.floats(Slot::LowRank, shape[0] * shape[1])?.f_view(shape)?;
        let (left, right) = self.wide_basis(scratch)?;
        match (&left, &right) {
            (Some(left), None) => left.f_tr()?.f_mm_out(&out, gradient).done()?,
            (None, Some(right)) => gradient.f_mm_out(&out, &right.f_tr()?).done()?,
            (Some(left), Some(right)) => {
                let half =
                    scratch.floats(Slot::HalfProjected, self.rank * self.cols)?.f_view([self.rank, self.cols])?;
                left.f_tr()?.f_mm_out(&half, gradient)?.f_mm_out(&out, &right.f_tr()?).done()?
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
                // With two bases one buffer would not do.
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
            (Some(left), None) => weight.f_addmm_(left, direction).done()?,
            (None, Some(right)) => weight.f_addmm_(direction, right).done()?,
            (Some(left), Some(right)) => {
                let half =
                    scratch.floats(Slot::HalfProjected, self.rows * self.rank)?.f_view([self.rows, self.rank])?;
                weight.f_addmm_(&left.f_mm_out(&half, direction)?, right).done()?
            }
            (None, None) => return Err(no_basis()),
        };
        Ok(())
    }

    /// The basis in use: suffixes of the weight's name, and the tensors.
    pub(crate) fn state(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.left.iter().map(|left| ("basis_left", left)).chain(self.right.iter().map(|right| ("basis_right", right)))
    }

    /// Suffixes and shapes of a basis.
    pub(crate) fn basis_shapes(&self) -> impl Iterator<Item = (&'static str, [i64; 2])> + use<> {
        let left = (self.side != Side::Right).then_some(("basis_left", [self.rows, self.rank]));
        let right = (self.side != Side::Left).then_some(("basis_right", [self.rank, self.cols]));
        left.into_iter().chain(right)
    }

    /// Makes room for the basis of a state file, or drops the basis.
    pub(crate) fn reset(&mut self, presence: Basis, device: Device) -> Result<(), TchError> {
        (self.left, self.right) = (None, None);
        for (suffix, shape) in self.basis_shapes().filter(|_| presence == Basis::Present) {
            let room = match &self.room {
                Some(room) => room.shallow_clone(),
                None => Tensor::f_zeros(shape, (self.kind, device))?,
            };
            if suffix == "basis_left" { self.left = Some(room) } else { self.right = Some(room) }
        }
        Ok(())
    }
}

/// Which side of a gradient a one-sided basis multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OneSide {
    Left,
    Right,
}

/// Whether a state holds a basis: it has none before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    Present,
    Absent,
}

/// Gradients `[b, rows, cols]` in float32, each divided by its largest element: squares of small
/// ones would leave float32's range.
pub(crate) fn scaled(gradients: &Tensor) -> Result<Tensor, TchError> {
    let largest = gradients.f_abs()?.f_amax([1i64, 2].as_slice(), true)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
    // A copy even of float32 gradients, to divide in place: while it lives, no other of its size
    // does.
    gradients.f_to_dtype(Kind::Float, false, true)?.f_div_(&largest)
}

/// Bases of one side for `gradients [b, rows, cols]`, float32 and [`scaled`]: `[b, rows, rank]` or
/// `[b, rank, cols]`. Each vector has the sign that points along its predecessor, so that moments
/// kept across a refresh mean nearly the same. The gradients are given up, as the solver needs
/// memory when they have done their part.
pub(crate) fn basis(
    gradients: Tensor,
    side: OneSide,
    rank: i64,
    previous: Option<&Tensor>,
) -> Result<Tensor, TchError> {
    let turned = gradients.f_transpose(1, 2)?;
    let grams = match side {
        OneSide::Left => gradients.f_bmm(&turned)?,
        OneSide::Right => turned.f_bmm(&gradients)?,
    };
    drop((gradients, turned));
    // The solver may return what it likes for NaN; one look a decomposition costs nothing beside
    // it.
    if grams.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        return Err(TchError::Torch("the Gram matrix is not finite".to_owned()));
    }
    let vectors = eigenbasis::leading(grams, rank)?;
    let (basis, along) = match side {
        OneSide::Left => (vectors.f_transpose(1, 2)?, 1),
        OneSide::Right => (vectors, 2),
    };
    let Some(previous) = previous else { return Ok(basis) };
    let overlap = basis.f_mul(previous)?.f_sum_dim_intlist(along, true, None)?;
    let sign = overlap.f_ge(0.0)?.f_to_kind(basis.f_kind()?)?.f_mul_scalar_(2.0)?.f_sub_scalar_(1.0)?;
    basis.f_mul(&sign)
}

fn no_basis() -> TchError {
    TchError::Torch("projection before the first decomposition".to_owned())
}

/// A contiguous copy, even of what is contiguous already: a narrowed view would keep the whole
/// alive.
fn contiguous(tensor: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    let mut copy = Tensor::f_empty(tensor.size(), (kind, tensor.device()))?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

#[cfg(test)]
mod tests;
