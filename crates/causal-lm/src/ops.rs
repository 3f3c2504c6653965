//! The operations of a decoder. Each has a forward and an explicit backward, and tests compare both
//! with autograd of a plain reference.
//!
//! There is no autograd tape. A backward gets the inputs of its forward and what the forward saved,
//! and adds weight gradients directly to their buffers. So the model decides what is kept and what
//! is computed again.
//!
//! Shapes: `n` tokens of all rows, `d` hidden, `f` intermediate, `h` query heads, `g` key and value
//! heads, `k` head size, `v` vocabulary, `m` tokens with a target.

pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod experts;
pub mod glu;
mod layer_norm;
pub mod linear;
pub mod norm;
pub mod qk_norm;
pub mod rms_norm;
pub mod rope;
pub mod router;
pub mod swiglu;

#[cfg(test)]
pub(crate) mod check;

use crate::Error;
use tch::{Kind, Tensor};

/// The type of what must not be rounded to 16 bits: norms, softmax, loss. It is float32, or float64
/// where tests compute in float64.
pub(crate) fn wide_kind(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// A copy in memory of its own, on the same device.
pub(crate) fn deep_copy(tensor: &Tensor) -> Result<Tensor, Error> {
    const NON_BLOCKING: bool = true;
    const ALWAYS_COPY: bool = true;
    Ok(tensor.f_to_device_(tensor.device(), tensor.f_kind()?, NON_BLOCKING, ALWAYS_COPY)?)
}

/// Adds `change` to a gradient buffer, whose type may differ.
pub(crate) fn accumulate(buffer: &mut Tensor, change: &Tensor) -> Result<(), Error> {
    let _ = buffer.f_add_(change)?;
    Ok(())
}

/// Adds the product a b to a gradient buffer, whose type may differ.
pub(crate) fn accumulate_product(buffer: &mut Tensor, a: &Tensor, b: &Tensor) -> Result<(), Error> {
    if buffer.f_kind()? == a.f_kind()? {
        let _ = buffer.f_addmm_(a, b)?; // no separate tensor for the product
        return Ok(());
    }
    accumulate(buffer, &a.f_mm(b)?)
}

/// The shape of a matrix, or an error that names the operation.
pub(crate) fn matrix_shape(operation: &'static str, tensor: &Tensor) -> Result<(i64, i64), Error> {
    tensor.size2().map_err(|_| Error::Shape {
        operation,
        expected: "a matrix".into(),
        found: format!("{:?}", tensor.size()),
    })
}

/// The shape of a tensor with three dimensions, or an error that names the operation.
pub(crate) fn three_dimensions(operation: &'static str, tensor: &Tensor) -> Result<(i64, i64, i64), Error> {
    let unfit =
        |_| Error::Shape { operation, expected: "three dimensions".into(), found: format!("{:?}", tensor.size()) };
    tensor.size3().map_err(unfit)
}

#[cfg(test)]
mod tests;
