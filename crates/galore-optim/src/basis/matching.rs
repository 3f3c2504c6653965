//! New basis vectors in the places of old ones.
//!
//! Moments belong to axes. When two eigenvalues swap order between two refreshes, so do their
//! vectors, and each moment would meet the other's axis. So every new vector takes the place of the
//! old one that it overlaps most, and the sign that points along it. The span does not change.

use super::orthonormal::signs;
use tch::{Kind, TchError, Tensor};

/// Rounds of matching. In each, vectors that are each other's best are paired. What is left after
/// the last overlaps little with anything and takes the free places in order.
const ROUNDS: usize = 4;

/// The rows of `fresh [b, r, n]` ordered and signed after those of `previous [b, r, n]`, and the
/// place `[b, r]` that each got.
pub(super) fn matched(fresh: &Tensor, previous: &Tensor) -> Result<(Tensor, Tensor), TchError> {
    let (_, r, n) = fresh.size3()?;
    // [b, new, old]
    let overlaps = fresh.f_bmm(&previous.f_transpose(1, 2)?)?;
    let places = places(&overlaps.f_abs()?)?;
    let overlap = overlaps.f_gather(2, &places.f_unsqueeze(2)?, false)?;
    let signed = fresh.f_mul(&signs(&overlap)?)?;
    // A permutation's inverse: which new vector comes to each place.
    let order = places.f_argsort_stable(true, 1, false)?;
    let rows = signed.f_gather(1, &order.f_unsqueeze(2)?.f_expand([-1, r, n], false)?, false)?;
    Ok((rows, places))
}

/// A place for each new vector `[b, r]`, by overlaps `[b, r, r]` of new with old ones, not
/// negative.
fn places(overlaps: &Tensor) -> Result<Tensor, TchError> {
    let (b, r, _) = overlaps.size3()?;
    let mut open = overlaps.shallow_clone();
    let indices = Tensor::f_arange(r, (Kind::Int64, overlaps.device()))?.f_expand([b, r], false)?;
    let mut places = indices.f_full_like(-1)?;
    for _ in 0..ROUNDS {
        let (best_overlap, best_old) = open.f_max_dim(2, false)?;
        let (_, best_new) = open.f_max_dim(1, false)?;
        let mutual = best_new.f_gather(1, &best_old, false)?.f_eq_tensor(&indices)?;
        let paired = mutual.f_logical_and(&best_overlap.f_gt(0.0)?)?;
        places = best_old.f_where_self(&paired, &places)?;
        // An overlap with a vector that has a partner counts no more.
        let taken = taken(&places)?;
        let closed = places.f_ge(0)?.f_unsqueeze(2)?.f_logical_or(&taken.f_unsqueeze(1)?)?;
        open = open.f_masked_fill(&closed, -1.0)?;
    }
    let (has_place, taken) = (places.f_ge(0)?, taken(&places)?);
    let first = |flags: &Tensor| flags.f_to_kind(Kind::Int64)?.f_argsort_stable(true, 1, false);
    let rest = places.f_scatter(1, &first(&has_place)?, &first(&taken)?)?;
    places.f_where_self(&has_place, &rest)
}

/// Which places `[b, r]` some vector has.
fn taken(places: &Tensor) -> Result<Tensor, TchError> {
    let (b, r) = places.size2()?;
    // Place −1 is kept in a column of its own, which is then dropped.
    let flags = Tensor::f_zeros([b, r + 1], (Kind::Bool, places.device()))?;
    let marked = flags.f_scatter_value(1, &places.f_add_scalar(1)?, 1)?;
    marked.f_narrow(1, 1, r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn rows(values: &[&[f32]]) -> Tensor {
        let n = values[0].len() as i64;
        Tensor::from_slice(&values.concat()).view([1, values.len() as i64, n])
    }

    #[test]
    fn vectors_that_swapped_order_come_back_to_their_places() {
        let old = rows(&[&[1.0, 0.0, 0.0, 0.0], &[0.0, 1.0, 0.0, 0.0], &[0.0, 0.0, 1.0, 0.0]]);
        let (c, s) = (0.8f32, 0.6f32);
        // The first two have swapped, one of them with another sign, and are turned a little.
        let new = rows(&[&[0.0, -c, 0.0, s], &[1.0, 0.0, 0.0, 0.0], &[0.0, s, 0.0, c]]);
        let (matched, places) = matched(&new, &old).unwrap();
        assert_eq!(Vec::<i64>::try_from(places.view([-1])).unwrap(), [1, 0, 2]);
        let expected = rows(&[&[1.0, 0.0, 0.0, 0.0], &[0.0, c, 0.0, -s], &[0.0, s, 0.0, c]]);
        assert_eq!(matched, expected);
    }

    #[test]
    fn what_overlaps_with_nothing_keeps_its_order() {
        let old = Tensor::zeros([2, 3, 5], (Kind::Float, Device::Cpu));
        let new = Tensor::arange(30, (Kind::Float, Device::Cpu)).view([2, 3, 5]);
        let (matched, places) = matched(&new, &old).unwrap();
        assert_eq!(matched, new);
        assert_eq!(places, Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2]).view([2, 3]));
    }

    #[test]
    fn every_place_is_taken_once() {
        tch::manual_seed(3);
        let overlaps = Tensor::rand([5, 40, 40], (Kind::Float, Device::Cpu));
        let places = places(&overlaps).unwrap();
        let (sorted, _) = places.sort(1, false);
        assert_eq!(sorted, Tensor::arange(40, (Kind::Int64, Device::Cpu)).expand([5, 40], false));
    }
}
