//! How bases are found: one file for each way, one table that names them, and what they share.
//!
//! A way ([`FindBases`]) takes gradients `G [b, rows, cols]` of one shape and returns, for the
//! sides that are wanted, `left [b, rows, r]` with orthonormal columns and `right [b, r, cols]`
//! with orthonormal rows. [`find`] does the rest: it checks the gradient before and the basis
//! afterwards, falls back where a way fails, and puts new vectors in the places of old ones
//! ([`matching`]).

mod dct;
mod eigen;
mod matching;
mod orthonormal;
mod power;
mod random;
mod svd;

use self::matching::matched;
use crate::SubspaceSolver;
use tch::{Device, Kind, TchError, Tensor};

/// The largest accepted deviation of `PᵀP` from the identity. It is usually about 3e-6.
pub(crate) const TOLERANCE: f64 = 1e-4;

/// The side of a gradient that a basis multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
    Both,
}

impl Side {
    pub(crate) fn has_left(self) -> bool {
        self != Side::Right
    }

    pub(crate) fn has_right(self) -> bool {
        self != Side::Left
    }
}

/// Bases of gradients, or of one gradient without the dimension `b`.
#[derive(Debug)]
pub(crate) struct Bases {
    /// `[b, rows, r]`
    pub(crate) left: Option<Tensor>,
    /// `[b, r, cols]`
    pub(crate) right: Option<Tensor>,
}

impl Bases {
    pub(crate) fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor, TchError>) -> Result<Bases, TchError> {
        Ok(Bases {
            left: self.left.as_ref().map(&change).transpose()?,
            right: self.right.as_ref().map(&change).transpose()?,
        })
    }
}

/// What is wanted of a gradient.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) side: Side,
    pub(crate) rank: i64,
    /// The bases until now, float32.
    pub(crate) previous: Option<Bases>,
    /// Keys the random numbers of this refresh.
    pub(crate) key: u64,
    /// What of the earlier gradients the moments remember, if the way asks for it.
    pub(crate) memory: Option<Memory<'a>>,
}

/// The first moment as an estimate of the gradient, `[b, …]` in the subspace of the previous basis.
#[derive(Debug)]
pub(crate) struct Memory<'a> {
    /// Bias-corrected.
    pub(crate) first_moment: &'a Tensor,
    /// Its share in the estimate, in [0, 1).
    pub(crate) share: f64,
}

/// A way to find bases.
pub(crate) trait FindBases: std::fmt::Debug + Sync {
    /// What it computes, for messages.
    fn name(&self) -> &'static str;

    /// The bases of `gradients [b, rows, cols]`, of any floating type, finite and none of them
    /// zero. `largest [b]` has their largest absolute values, which the ways that square a gradient
    /// divide it by: the squares of small ones would leave float32's range.
    fn find(&self, gradients: &Tensor, largest: &Tensor, wanted: &Wanted<'_>) -> Result<Bases, TchError>;

    /// Whether new vectors take the places and signs of the old ones that they overlap most.
    fn matches_previous(&self) -> bool {
        true
    }

    /// Whether many matrices at a time are faster than one after the other.
    fn is_batched(&self) -> bool {
        false
    }

    /// Whether [`Wanted::memory`] is used.
    fn uses_memory(&self) -> bool {
        false
    }
}

/// The way that a setting names.
pub(crate) fn way(solver: SubspaceSolver, device: Device) -> &'static dyn FindBases {
    match solver {
        SubspaceSolver::Auto if device.is_cuda() => &eigen::Eigenvectors,
        SubspaceSolver::Auto | SubspaceSolver::Svd => &svd::SingularVectors,
        SubspaceSolver::Eigenvectors => &eigen::Eigenvectors,
        SubspaceSolver::Power => &power::PowerStep,
        SubspaceSolver::Dct => &dct::CosineColumns,
        SubspaceSolver::Random => &random::RandomColumns,
    }
}

/// The largest absolute values of `gradients [b, rows, cols]`: `[b]` in float32, NaN where there is
/// one.
pub(crate) fn largest(gradients: &Tensor) -> Result<Tensor, TchError> {
    // Without a copy of all absolute values.
    let high = gradients.f_amax([1i64, 2].as_slice(), false)?;
    let low = gradients.f_amin([1i64, 2].as_slice(), false)?;
    high.f_maximum(&low.f_neg()?)?.f_to_kind(Kind::Float)
}

/// What a gradient allows, by its largest absolute value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Usable,
    /// All zero: every basis is as good as any other.
    Zero,
    NotFinite,
}

/// The content of each gradient. This waits for the device.
pub(crate) fn contents(largest: &Tensor) -> Result<Vec<Content>, TchError> {
    let values = Vec::<f32>::try_from(&largest.f_to_device(Device::Cpu)?)?;
    let content = |value: &f32| match value {
        value if !value.is_finite() => Content::NotFinite,
        0.0 => Content::Zero,
        _ => Content::Usable,
    };
    Ok(values.iter().map(content).collect())
}

/// New bases.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) bases: Bases,
    /// `[b, r]`: the place of each vector of the right basis, or of the left one if it is alone.
    /// `None` if all are in the order in which they were found.
    pub(crate) places: Option<Tensor>,
}

/// Bases of gradients that are [`Content::Usable`], checked.
pub(crate) fn find(
    way: &dyn FindBases,
    gradients: &Tensor,
    largest: &Tensor,
    wanted: &Wanted<'_>,
) -> Result<Found, TchError> {
    let fresh = way.find(gradients, largest, wanted)?;
    check(&fresh)?;
    in_place(way, fresh, wanted)
}

/// The bases of one gradient `[1, rows, cols]` by its singular value decomposition on the CPU, for
/// when a way has failed.
pub(crate) fn find_on_cpu(
    way: &dyn FindBases,
    gradient: &Tensor,
    largest: &Tensor,
    wanted: &Wanted<'_>,
) -> Result<Found, TchError> {
    let scaled = scaled(gradient, largest)?.f_to_device(Device::Cpu)?;
    let bases = svd::SingularVectors.find(&scaled, largest, wanted)?;
    check(&bases)?;
    in_place(way, bases.map(|basis| basis.f_to_device(gradient.device()))?, wanted)
}

/// New vectors in the places of old ones, if the way is one that matches them.
fn in_place(way: &dyn FindBases, fresh: Bases, wanted: &Wanted<'_>) -> Result<Found, TchError> {
    let Some(previous) = wanted.previous.as_ref().filter(|_| way.matches_previous()) else {
        return Ok(Found { bases: fresh, places: None });
    };
    let turned = |basis: &Tensor| basis.f_transpose(1, 2);
    let mut found = Found { bases: Bases { left: None, right: None }, places: None };
    if let (Some(fresh), Some(previous)) = (&fresh.left, &previous.left) {
        let (rows, places) = matched(&turned(fresh)?, &turned(previous)?)?;
        (found.bases.left, found.places) = (Some(turned(&rows)?), Some(places));
    }
    if let (Some(fresh), Some(previous)) = (&fresh.right, &previous.right) {
        let (rows, places) = matched(fresh, previous)?;
        (found.bases.right, found.places) = (Some(rows), Some(places));
    }
    Ok(found)
}

/// An error unless all bases are orthonormal, which NaN is not either. This waits for the device.
fn check(bases: &Bases) -> Result<(), TchError> {
    for (basis, side) in [(&bases.left, Side::Left), (&bases.right, Side::Right)] {
        let Some(basis) = basis else { continue };
        let off = off_orthonormal(basis, side)?;
        // NaN is not below the bound either.
        let is_orthonormal = off < TOLERANCE;
        if !is_orthonormal {
            return Err(TchError::Torch(format!("the basis is off orthonormality by {off:e}")));
        }
    }
    Ok(())
}

/// The largest element of `|PᵀP − I|`.
fn off_orthonormal(basis: &Tensor, side: Side) -> Result<f64, TchError> {
    let turned = basis.f_transpose(1, 2)?;
    let products = if side == Side::Left { turned.f_bmm(basis)? } else { basis.f_bmm(&turned)? };
    let identity = Tensor::f_eye(products.size()[1], (products.f_kind()?, products.device()))?;
    products.f_sub(&identity)?.f_abs()?.f_max()?.f_double_value(&[])
}

/// Gradients in float32, each divided by its largest element.
fn scaled(gradients: &Tensor, largest: &Tensor) -> Result<Tensor, TchError> {
    let largest = largest.f_view([-1, 1, 1])?;
    // float32 gradients are copied too, so that the division is in place. No second buffer of this
    // size exists meanwhile.
    gradients.f_to_dtype(Kind::Float, false, true)?.f_div_(&largest)
}

#[cfg(test)]
mod tests;
