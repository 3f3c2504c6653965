//! Bases from singular value decompositions, matrix by matrix, as in galore-torch.

use super::{Bases, FindBases, Wanted};
use tch::{Kind, TchError, Tensor};

#[derive(Debug)]
pub(super) struct SingularVectors;

impl FindBases for SingularVectors {
    fn name(&self) -> &'static str {
        "the singular value decomposition"
    }

    fn find(&self, gradients: &Tensor, _largest: &Tensor, wanted: &Wanted<'_>) -> Result<Bases, TchError> {
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        for index in 0..gradients.size()[0] {
            let gradient = gradients.f_select(0, index)?.f_to_kind(Kind::Float)?;
            // `svd` is `linalg.svd` with V for Vᴴ. tch's `linalg_svd` requires a driver, which only
            // CUDA accepts.
            let (left, _, right) = gradient.f_svd(true, true)?;
            lefts.push(left.f_narrow(1, 0, wanted.rank)?);
            rights.push(right.f_narrow(1, 0, wanted.rank)?.f_tr()?);
        }
        Ok(Bases {
            left: wanted.side.has_left().then(|| Tensor::f_stack(&lefts, 0)).transpose()?,
            right: wanted.side.has_right().then(|| Tensor::f_stack(&rights, 0)).transpose()?,
        })
    }

    fn matches_previous(&self) -> bool {
        false
    }
}
