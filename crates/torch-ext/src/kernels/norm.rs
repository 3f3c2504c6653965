//! The 2-norm of a large tensor, such as all gradients of a model.

use super::{Argument, Grid, Source, THREADS, Width, blocks_for, check, element_kind, empty, launch, pointer};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "norm";
/// The second kernel has one thread for the sum of each block.
const MAX_BLOCKS: i64 = 1024;

/// Returns √Σx² over all elements of x (float32 or bfloat16), as a float32 scalar tensor. Repeated
/// calls give the same bits. NaN and infinity propagate.
///
/// # Errors
/// [`Error::Operand`] for an operand that does not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn two_norm(x: &Tensor) -> Result<Tensor, Error> {
    let kind = element_kind(NAME, x)?;
    let n = i64::try_from(x.numel()).unwrap_or(i64::MAX);
    check(NAME, "x", x, x, kind, n)?;
    // Elements that do not fill a wide access are read one by one.
    let width = Width::of(&[x], kind, 0, 8);
    let blocks = blocks_for(n / width.0).clamp(1, MAX_BLOCKS);
    let partial = empty(NAME, &[blocks], Kind::Float, x)?;
    let norm = empty(NAME, &[], Kind::Float, x)?;
    let source = Source { name: NAME, text: include_str!("norm/kernel.cu"), kind, width, definitions: &[] };
    let arguments = [pointer(x), pointer(&partial), Argument::Long(n)];
    launch(&source, "norm_partial", Grid { blocks, threads: THREADS, ..Grid::default() }, x, &arguments)?;
    let arguments = [pointer(&partial), pointer(&norm), Argument::Long(blocks)];
    launch(&source, "norm_total", Grid { blocks: 1, threads: 1024, ..Grid::default() }, x, &arguments)?;
    Ok(norm)
}
