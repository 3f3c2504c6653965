//! The gradient of an embedding table. Each of its rows is summed in float32 and always in the same
//! order.

use super::{Argument, Grid, Source, Width, check, element_kind, launch, pointer, torch};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "embedding";
const THREADS: u32 = 128;

/// `gradient[ids[t]] += dy[t]` for each token.
///
/// - dy: `[n, d]`.
/// - ids: int64 `[n]`. Each must be a row of the table.
/// - order: int32 `[n]`, the indices of the tokens, with those of one id side by side. Negative
///   numbers at the end stand for tokens that are left out.
/// - gradient: `[v, d]`, of dy's type or float32.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn backward(dy: &Tensor, ids: &Tensor, order: &Tensor, gradient: &mut Tensor) -> Result<(), Error> {
    let (kind, table) = (element_kind(NAME, dy)?, element_kind(NAME, gradient)?);
    let ((n, d), (v, _)) = (torch(NAME, dy.size2())?, torch(NAME, gradient.size2())?);
    check(NAME, "dy", dy, dy, kind, n * d)?;
    check(NAME, "ids", ids, dy, Kind::Int64, n)?;
    check(NAME, "order", order, dy, Kind::Int, n)?;
    check(NAME, "gradient", gradient, dy, if table == Kind::Float { table } else { kind }, v * d)?;
    let width = Width::of(&[dy, gradient], kind, d, 8);
    let definitions = [("WIDE_TABLE", i64::from(table != kind))];
    let source =
        Source { name: NAME, text: include_str!("embedding/kernel.cu"), kind, width, definitions: &definitions };
    let arguments =
        [pointer(dy), pointer(ids), pointer(order), pointer(gradient), Argument::Long(n), Argument::Long(d)];
    let blocks = if d == 0 { 0 } else { n };
    launch(&source, "embedding_backward", Grid { blocks, threads: THREADS, ..Grid::default() }, dy, &arguments)
}
