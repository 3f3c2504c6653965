//! Rotary position embedding of q and k, in one tensor with v.

use super::{Argument, Grid, Source, THREADS, Width, blocks_for, check, element_kind, empty, launch, pointer, torch};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "rope";

/// Rotates the two halves of the first `rotated` heads of x `[n, heads, k]` in place. cos and sin
/// are `[n, …, k / 2]`, of x's type.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn rotate(x: &mut Tensor, rotated: i64, cos: &Tensor, sin: &Tensor) -> Result<(), Error> {
    let kind = element_kind(NAME, x)?;
    let (n, heads, k) = torch(NAME, x.size3())?;
    let half = k / 2;
    check(NAME, "x", x, x, kind, n * heads * half * 2)?;
    check_angles(cos, sin, x, kind, n * half)?;
    if !(0..=heads).contains(&rotated) {
        let (expected, found) = (format!("{rotated} heads or more"), format!("{heads}"));
        return Err(Error::Operand { kernel: NAME, operand: "x", expected, found });
    }
    let width = Width::of(&[x, cos, sin], kind, half, 8);
    let packs = n * rotated * half / width.0;
    let sizes = [heads, rotated, half, packs].map(Argument::Long);
    let arguments = [&[pointer(x), pointer(cos), pointer(sin)], &sizes[..]].concat();
    launch(&source(kind, width), "rope", grid(packs), x, &arguments)
}

/// Returns the gradient of the input of [`rotate`], `[n, h + 2 g, k]`, from the gradients of
/// rotated q `[n, h, k]`, rotated k and v `[n, g, k]`.
///
/// # Errors
/// The same as for [`rotate`].
pub fn rotate_back([query, key, value]: [&Tensor; 3], cos: &Tensor, sin: &Tensor) -> Result<Tensor, Error> {
    let kind = element_kind(NAME, query)?;
    let ((n, h, k), (_, g, _)) = (torch(NAME, query.size3())?, torch(NAME, key.size3())?);
    let half = k / 2;
    check(NAME, "query", query, query, kind, n * h * half * 2)?;
    check(NAME, "key", key, query, kind, n * g * half * 2)?;
    check(NAME, "value", value, query, kind, n * g * half * 2)?;
    check_angles(cos, sin, query, kind, n * half)?;
    let out = empty(NAME, &[n, h + 2 * g, k], kind, query)?;
    let width = Width::of(&[query, key, value, cos, sin], kind, half, 8);
    let packs = n * (h + 2 * g) * 2 * half / width.0;
    let sizes = [h, g, half, packs].map(Argument::Long);
    let pointers = [query, key, value, &out, cos, sin].map(pointer);
    let arguments = [&pointers[..], &sizes[..]].concat();
    launch(&source(kind, width), "rope_back", grid(packs), query, &arguments)?;
    Ok(out)
}

fn check_angles(cos: &Tensor, sin: &Tensor, like: &Tensor, kind: Kind, numel: i64) -> Result<(), Error> {
    check(NAME, "cos", cos, like, kind, numel)?;
    check(NAME, "sin", sin, like, kind, numel)
}

fn source(kind: Kind, width: Width) -> Source<'static> {
    Source { name: NAME, text: include_str!("rope/kernel.cu"), kind, width, definitions: &[] }
}

fn grid(packs: i64) -> Grid {
    Grid { blocks: blocks_for(packs), threads: THREADS, ..Grid::default() }
}
