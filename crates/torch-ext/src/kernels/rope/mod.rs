//! Rotary position embedding in place.

use super::{Argument, Grid, Source, THREADS, Width, blocks_for, check, element_kind, launch, pointer, torch};
use crate::Error;
use tch::Tensor;

const NAME: &str = "rope";

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// By the angles.
    Forward,
    /// By their negatives: the gradient.
    Backward,
}

/// Turns the halves of each head of x `[n, heads, k]`; cos and sin `[n, …, k / 2]` of x's type.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when it cannot be compiled or launched.
pub fn rotate(x: &mut Tensor, cos: &Tensor, sin: &Tensor, direction: Direction) -> Result<(), Error> {
    let kind = element_kind(NAME, x)?;
    let (n, heads, k) = torch(NAME, x.size3())?;
    let half = k / 2;
    check(NAME, "x", x, x, kind, n * heads * half * 2)?;
    check(NAME, "cos", cos, x, kind, n * half)?;
    check(NAME, "sin", sin, x, kind, n * half)?;
    let width = Width::of(&[x, cos, sin], kind, half, 8);
    let source = Source { name: NAME, text: include_str!("kernel.cu"), kind, width, definitions: &[] };
    let packs = n * heads * half / width.0;
    let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
    let arguments = [
        pointer(x),
        pointer(cos),
        pointer(sin),
        Argument::Float(sign),
        Argument::Long(heads),
        Argument::Long(half),
        Argument::Long(packs),
    ];
    launch(&source, NAME, Grid { blocks: blocks_for(packs), threads: THREADS }, x, &arguments)
}
