//! Bases from eigenvectors of Gram matrices, many at a time.
//!
//! Only the smaller Gram matrix is decomposed, whose order is the shorter side. For the other side,
//! `G = U S Vᵀ` gives `U = G V S⁻¹`, which is made orthonormal because small singular values carry
//! rounding. At 7B the larger Gram matrix of an MLP weight has an order of 11008: 485 MB, and cubic
//! time.

use super::orthonormal::columns;
use super::{Bases, FindBases, Side, Wanted, scaled};
use crate::eigenbasis;
use tch::{TchError, Tensor};

#[derive(Debug)]
pub(super) struct Eigenvectors;

impl FindBases for Eigenvectors {
    fn name(&self) -> &'static str {
        "the eigenvectors of the Gram matrix"
    }

    fn find(&self, gradients: &Tensor, largest: &Tensor, wanted: &Wanted<'_>) -> Result<Bases, TchError> {
        let (_, rows, cols) = gradients.size3()?;
        let &Wanted { side, rank, .. } = wanted;
        let is_right_shorter = if rows == cols { side.has_right() } else { cols < rows };
        let gradients = scaled(gradients, largest)?;
        let turned = gradients.f_transpose(1, 2)?;
        if is_right_shorter {
            let grams = turned.f_bmm(&gradients)?;
            let gradients = side.has_left().then_some(gradients);
            // The solver needs the memory of a gradient that is not used any more.
            drop(turned);
            let right = eigenbasis::leading(grams, rank)?;
            let left = gradients.map(|gradients| columns(&gradients.f_bmm(&right.f_transpose(1, 2)?)?)).transpose()?;
            Ok(Bases { left, right: side.has_right().then_some(right) })
        } else {
            let grams = gradients.f_bmm(&turned)?;
            let turned = side.has_right().then_some(turned);
            drop(gradients);
            let left = eigenbasis::leading(grams, rank)?.f_transpose(1, 2)?;
            let right = turned.map(|turned| columns(&turned.f_bmm(&left)?)?.f_transpose(1, 2)).transpose()?;
            Ok(Bases { left: (side != Side::Right).then_some(left), right })
        }
    }

    fn is_batched(&self) -> bool {
        true
    }
}
