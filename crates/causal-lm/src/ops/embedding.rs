//! Rows of the embedding by token id.

use super::matrix;
use crate::Error;
use tch::{Kind, Tensor};

/// weight `[v, d]`, ids int64 `[n]` → `[n, d]` of `kind`. The caller has checked that ids are below `v`.
///
/// # Errors
/// [`Error::Shape`] for a weight that is not a matrix, [`Error::Torch`] from libtorch.
pub fn forward(weight: &Tensor, ids: &Tensor, kind: Kind) -> Result<Tensor, Error> {
    matrix("embedding", weight)?;
    Ok(weight.f_index_select(0, ids)?.f_to_kind(kind)?)
}

/// `dW[id]` += dy, for each token.
///
/// # Errors
/// [`Error::Torch`] when the shapes do not fit.
pub fn backward(dy: &Tensor, ids: &Tensor, weight_gradient: &mut Tensor) -> Result<(), Error> {
    let dy = dy.f_to_kind(weight_gradient.f_kind()?)?;
    let _ = weight_gradient.f_index_add_(0, ids, &dy)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, device, each_precision, random};

    #[test]
    fn equals_autograd_with_repeated_ids() {
        each_precision(|kind| {
            let (weight, ids) = (random(&[7, 3], kind), Tensor::from_slice(&[6i64, 0, 6, 2, 6]).to_device(device()));
            let dy = random(&[5, 3], kind);
            let mut check = Check::of(&[&weight], &dy, |t| Tensor::embedding(&t[0], &ids, -1, false, false));
            check.forward(&forward(&weight, &ids, kind).unwrap());
            let mut gradient = weight.zeros_like();
            backward(&dy, &ids, &mut gradient).unwrap();
            check.gradient(0, &gradient);
        });
    }
}
