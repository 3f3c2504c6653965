//! The subspace of one weight: basis from the gradient's singular vectors, projection into it and back.
//!
//! Shapes: gradient `G [rows, cols]`, `left` basis `U [rows, r]`, `right` basis `V [r, cols]`, `r` the effective rank.
//!
//! | side | into the subspace | and back |
//! |---|---|---|
//! | right | `R = G Vᵀ [rows, r]` | `N V` |
//! | left | `R = Uᵀ G [r, cols]` | `U N` |
//! | both | `R = Uᵀ G Vᵀ [r, r]` | `U N V` |

use tch::{Device, Kind, TchError, Tensor};

use crate::in_place::InPlace;
use crate::scratch::{Scratch, Slot};
use crate::{GaLoreConfig, ProjectionType};

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
    side: Side,
    update_proj_gap: i64,
    pub(crate) scale: f64,
    left: Option<Tensor>,
    right: Option<Tensor>,
    /// Where a one-sided basis is to lie, as part of a stack.
    room: Option<Tensor>,
}

impl Projector {
    pub(crate) fn new(rows: i64, cols: i64, config: &GaLoreConfig) -> Self {
        let tall = rows >= cols;
        // The side is settled here by the weight's shape. galore-torch settles it again on the way back, by the shape of
        // the projected gradient, and so takes the wrong one in `reverse_std` for wide weights at full rank.
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
            side,
            update_proj_gap: config.update_proj_gap,
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

    /// Whether the basis must be made anew before `step`, counted from 0.
    pub(crate) fn is_due(&self, step: i64) -> bool {
        step % self.update_proj_gap == 0 || (self.left.is_none() && self.right.is_none())
    }

    /// Takes the basis from a float32 gradient: on the CPU by its singular value decomposition, as galore-torch does, on a GPU by the
    /// eigenvectors of its Gram matrix, which there takes a fifth of the time and captures as much of the gradient.
    pub(crate) fn refresh(&mut self, gradient: &Tensor) -> Result<(), TchError> {
        if gradient.device().is_cuda() { self.refresh_by_eigenvectors(gradient) } else { self.refresh_by_svd(gradient) }
    }

    fn refresh_by_eigenvectors(&mut self, gradient: &Tensor) -> Result<(), TchError> {
        // Squares of small gradients would leave float32's range.
        let largest =
            gradient.f_abs()?.f_amax([0i64; 0].as_slice(), false)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
        let scaled = gradient.f_div(&largest)?;
        if self.side != Side::Right {
            let left = self.leading_eigenvectors(&scaled.f_mm(&scaled.f_tr()?)?)?;
            self.left = Some(self.kept(&aligned(left, self.left.as_ref(), 0)?)?);
        }
        if self.side != Side::Left {
            let right = self.leading_eigenvectors(&scaled.f_tr()?.f_mm(&scaled)?)?.f_tr()?;
            self.right = Some(self.kept(&aligned(right, self.right.as_ref(), 1)?)?);
        }
        Ok(())
    }

    /// As columns, largest eigenvalue first.
    fn leading_eigenvectors(&self, gram: &Tensor) -> Result<Tensor, TchError> {
        // The solver may return what it likes for NaN; one look a decomposition costs nothing beside it.
        if gram.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(TchError::Torch("the Gram matrix is not finite".to_owned()));
        }
        let (_, vectors) = gram.f_linalg_eigh("L")?; // ascending
        let size = vectors.size()[1];
        vectors.f_narrow(1, size - self.rank, self.rank)?.f_flip([1])
    }

    fn refresh_by_svd(&mut self, gradient: &Tensor) -> Result<(), TchError> {
        // `svd` is `linalg.svd` with V for Vᴴ; tch's own `linalg_svd` insists on a driver, which only CUDA takes.
        let (left, _, right) = gradient.f_svd(true, true)?;
        // Contiguous copies: free the larger matrices, and multiply bit for bit alike after a resume.
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
            None => contiguous(basis),
            Some(room) => {
                room.shallow_clone().f_copy_(basis)?;
                Ok(room.shallow_clone())
            }
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
        match (&self.left, &self.right) {
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

    /// `weight [rows, cols]` ← `weight` + the back-projection of `direction`.
    pub(crate) fn add_back(
        &self,
        direction: &Tensor,
        weight: &mut Tensor,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        match (&self.left, &self.right) {
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
                None => Tensor::f_zeros(shape, (Kind::Float, device))?,
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

/// Each vector with the sign that points along its predecessor: moments kept across a refresh then mean nearly the same. `along` is the
/// dimension of a vector's elements.
fn aligned(basis: Tensor, previous: Option<&Tensor>, along: i64) -> Result<Tensor, TchError> {
    let Some(previous) = previous else { return Ok(basis) };
    let overlap = basis.f_mul(previous)?.f_sum_dim_intlist(along, true, None)?;
    let sign = overlap.f_ge(0.0)?.f_to_kind(basis.f_kind()?)?.f_mul_scalar_(2.0)?.f_sub_scalar_(1.0)?;
    basis.f_mul(&sign)
}

fn no_basis() -> TchError {
    TchError::Torch("projection before the first decomposition".to_owned())
}

/// A contiguous copy, even of what is contiguous already: a narrowed view would keep the whole alive.
fn contiguous(tensor: &Tensor) -> Result<Tensor, TchError> {
    let mut copy = Tensor::f_empty(tensor.size(), (tensor.kind(), tensor.device()))?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

#[cfg(test)]
mod tests;
