//! The embedding: a row of the weight for each token, y = W\[id\].
//!
//! Shapes: `n` tokens, `d` hidden, `v` vocabulary.

use super::matrix_shape;
use crate::Error;
use tch::{Kind, Tensor};
use torch_ext::kernels;

/// weight `[v, d]`, ids int64 `[n]` → `[n, d]` of `kind`. The caller must check that ids are below
/// `v`.
///
/// # Errors
/// [`Error::Shape`] for a weight that is not a matrix, [`Error::Torch`] from libtorch.
pub fn forward(weight: &Tensor, ids: &Tensor, kind: Kind) -> Result<Tensor, Error> {
    matrix_shape("embedding", weight)?;
    Ok(weight.f_index_select(0, ids)?.f_to_kind(kind)?)
}

/// `dW[id]` += dy, for each token.
///
/// `by_id`, int32 `[n]`, has the tokens in the order of their ids, followed by negative numbers for
/// tokens whose gradient is zero. With it a GPU sums each row in float32, rounds once, and adds in
/// the same order every time.
///
/// # Errors
/// [`Error::Torch`] when the shapes do not fit.
pub fn backward(dy: &Tensor, ids: &Tensor, by_id: Option<&Tensor>, weight_gradient: &mut Tensor) -> Result<(), Error> {
    if let Some(by_id) = by_id.filter(|_| kernels::available(&[dy, weight_gradient])) {
        return Ok(kernels::embedding::backward(dy, ids, by_id, weight_gradient)?);
    }
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
            for by_id in [None, Some(Tensor::from_slice(&[1i32, 3, 0, 2, 4]).to_device(device()))] {
                let mut gradient = weight.zeros_like();
                backward(&dy, &ids, by_id.as_ref(), &mut gradient).unwrap();
                check.gradient(0, &gradient);
            }
        });
    }
}
