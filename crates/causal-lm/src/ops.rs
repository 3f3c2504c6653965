//! The operations of a decoder, each with a forward, an explicit backward and a plain reference
//! that tests hold both against.
//!
//! There is no autograd tape: a backward gets what its forward got, plus whatever is worth keeping,
//! and adds weight gradients straight into their buffers. So the model decides what is kept and
//! what is computed again, and nothing is allocated behind its back.
//!
//! Shapes: `n` tokens of all rows, `d` hidden, `f` intermediate, `h` query heads, `g` key and value
//! heads, `k` head size, `v` vocabulary, `m` tokens with a target.

pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod linear;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;

#[cfg(test)]
pub(crate) mod check;

use crate::Error;
use tch::{Kind, Tensor};

/// The type for what must not be rounded to 16 bits: norms, softmax, loss. Double stays double, so
/// that tests can be exact.
pub(crate) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// The same values on the same device, in memory of their own.
pub(crate) fn copied(tensor: &Tensor) -> Result<Tensor, Error> {
    const NON_BLOCKING: bool = true;
    const ALWAYS_COPY: bool = true;
    Ok(tensor.f_to_device_(tensor.device(), tensor.f_kind()?, NON_BLOCKING, ALWAYS_COPY)?)
}

/// Adds `change` to a gradient buffer of possibly another type.
pub(crate) fn accumulate(buffer: &mut Tensor, change: &Tensor) -> Result<(), Error> {
    let _ = buffer.f_add_(change)?;
    Ok(())
}

/// Adds a b to a gradient buffer of possibly another type.
pub(crate) fn accumulate_product(buffer: &mut Tensor, a: &Tensor, b: &Tensor) -> Result<(), Error> {
    if buffer.f_kind()? == a.f_kind()? {
        let _ = buffer.f_addmm_(a, b)?; // without a copy of the product
        return Ok(());
    }
    accumulate(buffer, &a.f_mm(b)?)
}

/// Shape of a matrix, or an error that names the operation.
pub(crate) fn matrix(operation: &'static str, tensor: &Tensor) -> Result<(i64, i64), Error> {
    tensor.size2().map_err(|_| Error::Shape {
        operation,
        expected: "a matrix".into(),
        found: format!("{:?}", tensor.size()),
    })
}

/// Shape of a tensor of three dimensions, or an error that names the operation.
pub(crate) fn three(operation: &'static str, tensor: &Tensor) -> Result<(i64, i64, i64), Error> {
    let unfit =
        |_| Error::Shape { operation, expected: "three dimensions".into(), found: format!("{:?}", tensor.size()) };
    tensor.size3().map_err(unfit)
}
