//! Columns of the discrete cosine transform (2505.17967).
//!
//! `Q [n, n]` is the orthonormal DCT-II: `Q_jk = c_k cos(π (2j + 1) k / 2n)`, `c_0 = √(1/n)`, else
//! `√(2/n)`. For the right side, `S = G Q`, and the basis has the `r` columns of `Q` whose columns
//! of `S` have the largest 1-norms; for the left side, `S = Gᵀ Q`. Gradients of neighbouring
//! features are alike, which a cosine transform sums up in few columns.

use super::{Bases, FindBases, Wanted, scaled};
use tch::{Device, Kind, TchError, Tensor};

#[derive(Debug)]
pub(super) struct CosineColumns;

impl FindBases for CosineColumns {
    fn name(&self) -> &'static str {
        "the choice of cosine columns"
    }

    fn find(&self, gradients: &Tensor, largest: &Tensor, wanted: &Wanted<'_>) -> Result<Bases, TchError> {
        let (_, rows, cols) = gradients.size3()?;
        let gradients = scaled(gradients, largest)?;
        let chosen = |gradients: &Tensor, n| chosen_rows(gradients, &cosines(n, gradients.device())?, wanted.rank);
        let turned = || gradients.f_transpose(1, 2);
        Ok(Bases {
            left: wanted.side.has_left().then(|| chosen(&turned()?, rows)?.f_transpose(1, 2)).transpose()?,
            right: wanted.side.has_right().then(|| chosen(&gradients, cols)).transpose()?,
        })
    }

    fn is_batched(&self) -> bool {
        true
    }
}

/// `Qᵀ [n, n]`, whose row `k` is the cosine of frequency `k`.
fn cosines(n: i64, device: Device) -> Result<Tensor, TchError> {
    let frequencies = Tensor::f_arange(n, (Kind::Int64, device))?.f_unsqueeze(1)?;
    let places = Tensor::f_arange(n, (Kind::Int64, device))?.f_mul_scalar_(2)?.f_add_scalar_(1)?;
    // Whole numbers below one turn (4n half steps) keep every angle exact.
    let mut steps = frequencies.f_mul(&places)?.f_remainder(4 * n)?.f_to_kind(Kind::Double)?;
    let mut rows = steps.f_mul_scalar_(std::f64::consts::PI / (2 * n) as f64)?.f_cos_()?;
    rows.f_mul_scalar_((2.0 / n as f64).sqrt()).map(drop)?;
    rows.f_select(0, 0)?.f_fill_((1.0 / n as f64).sqrt()).map(drop)?;
    rows.f_to_kind(Kind::Float)
}

/// The `rank` rows of `cosines [n, n]` that `gradients [b, m, n]` have the largest 1-norms along,
/// in order of frequency: `[b, rank, n]`.
fn chosen_rows(gradients: &Tensor, cosines: &Tensor, rank: i64) -> Result<Tensor, TchError> {
    let norms = gradients.f_matmul(&cosines.f_tr()?)?.f_abs()?.f_sum_dim_intlist(1, false, None)?;
    let (_, chosen) = norms.f_topk(rank, 1, true, true)?;
    let (chosen, _) = chosen.f_sort(1, false)?;
    let (b, n) = (gradients.size()[0], cosines.size()[1]);
    cosines.f_index_select(0, &chosen.f_view([-1])?)?.f_view([b, rank, n])
}
