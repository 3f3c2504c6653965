//! The subspace of one weight: a basis from the gradient's singular vectors, the projection into
//! the subspace, and the projection back.
//!
//! Shapes: gradient `G [rows, cols]`, `left` basis `U [rows, r]`, `right` basis `V [r, cols]`, `r`
//! the effective rank.
//!
//! | side | into the subspace | and back |
//! |---|---|---|
//! | right | `R = G Vᵀ [rows, r]` | `N V` |
//! | left | `R = Uᵀ G [r, cols]` | `U N` |
//! | both | `R = Uᵀ G Vᵀ [r, r]` | `U N V` |

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
    /// Type of the basis: float32 or float16.
    kind: Kind,
    side: Side,
    /// Steps between two refreshes.
    update_proj_gap: i64,
    /// The step within each gap that refreshes, from 1 to the gap.
    refresh_step: i64,
    solver: SubspaceSolver,
    pub(crate) scale: f64,
    left: Option<Tensor>,
    right: Option<Tensor>,
    /// Memory for a one-sided basis, if it is part of a stack.
    stacked: Option<Tensor>,
}

impl Projector {
    pub(crate) fn new(rows: i64, cols: i64, config: &GaLoreConfig, kind: Kind) -> Self {
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
            update_proj_gap: config.update_proj_gap,
            refresh_step: config.update_proj_gap,
            solver: config.solver,
            scale: config.scale,
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

    /// Sets the step within each gap that refreshes, from 1 to the gap. The default is the last.
    pub(crate) fn refresh_at(&mut self, step: i64) {
        self.refresh_step = step;
    }

    /// Whether the basis must be refreshed before `step`, counted from 0.
    pub(crate) fn is_due(&self, step: i64) -> bool {
        (step - self.refresh_step) % self.update_proj_gap == 0 || !self.has_basis()
    }

    /// Whether bases come from eigenvectors, which can be computed for many matrices at a time.
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

    /// Computes the basis from a float32 gradient.
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
        self.left = left.map(|left| self.store(&left)).transpose()?;
        self.right = right.map(|right| self.store(&right)).transpose()?;
        Ok(())
    }

    fn refresh_by_svd(&mut self, gradient: &Tensor) -> Result<(), TchError> {
        // `svd` is `linalg.svd` with V for Vᴴ. tch's `linalg_svd` requires a driver, which only
        // CUDA accepts.
        let (left, _, right) = gradient.f_svd(true, true)?;
        // Contiguous copies free the larger matrices, and give the same products bit for bit after
        // a resume.
        if self.side != Side::Right {
            self.left = Some(self.store(&left.f_narrow(1, 0, self.rank)?)?);
        }
        if self.side != Side::Left {
            self.right = Some(self.store(&right.f_narrow(1, 0, self.rank)?.f_tr()?)?);
        }
        Ok(())
    }

    /// A contiguous copy of a basis, in the stack if there is one. The larger matrix that it was
    /// part of can then be freed.
    fn store(&self, basis: &Tensor) -> Result<Tensor, TchError> {
        match &self.stacked {
            None => contiguous(basis, self.kind),
            Some(stacked) => {
                stacked.shallow_clone().f_copy_(basis)?;
                Ok(stacked.shallow_clone())
            }
        }
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

    /// Shape and side of the basis if it has one side.
    pub(crate) fn one_sided(&self) -> Option<([i64; 2], OneSide)> {
        match self.side {
            Side::Left => Some(([self.rows, self.rank], OneSide::Left)),
            Side::Right => Some(([self.rank, self.cols], OneSide::Right)),
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
        let left = (self.side != Side::Right).then_some(("basis_left", [self.rows, self.rank]));
        let right = (self.side != Side::Left).then_some(("basis_right", [self.rank, self.cols]));
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

/// The side of a gradient that a one-sided basis multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OneSide {
    Left,
    Right,
}

/// Whether a state holds a basis. It has none before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    Present,
    Absent,
}

/// Gradients `[b, rows, cols]` in float32, each divided by its largest element: the squares of
/// small ones would leave float32's range.
pub(crate) fn scaled(gradients: &Tensor) -> Result<Tensor, TchError> {
    let largest = gradients.f_abs()?.f_amax([1i64, 2].as_slice(), true)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
    // float32 gradients are copied too, so that the division is in place. No second buffer of this
    // size exists meanwhile.
    gradients.f_to_dtype(Kind::Float, false, true)?.f_div_(&largest)
}

/// Bases of one side for `gradients [b, rows, cols]`, float32 and [`scaled`]: `[b, rows, rank]` or
/// `[b, rank, cols]`.
///
/// Each vector gets the sign that points along its predecessor, so that moments keep nearly the
/// same meaning across a refresh. The function takes the gradients by value and frees them before
/// the solver runs, which needs the memory.
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
    // The solver's result for NaN is undefined. This check costs nothing beside a decomposition.
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
