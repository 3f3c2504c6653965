//! Rotary position embedding of q and k, in one tensor with v.

use super::{Argument, Grid, Source, THREADS, Width, blocks_for, check, element_kind, empty, launch, pointer, torch};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "rope";

/// Rotates the two halves of the first `r` values of the first `rotated` heads of x `[n, heads, k]`
/// in place. cos and sin are `[n, …, r / 2]`, of x's type.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn rotate(x: &mut Tensor, rotated: i64, cos: &Tensor, sin: &Tensor) -> Result<(), Error> {
    let kind = element_kind(NAME, x)?;
    let (n, heads, k) = torch(NAME, x.size3())?;
    let half = check_angles([cos, sin], x, kind, [n, k])?;
    check(NAME, "x", x, x, kind, n * heads * k)?;
    if !(0..=heads).contains(&rotated) {
        let (expected, found) = (format!("{rotated} heads or more"), format!("{heads}"));
        return Err(Error::Operand { kernel: NAME, operand: "x", expected, found });
    }
    let width = Width::of(&[x, cos, sin], kind, common(half, k), 8);
    let packs = n * rotated * half / width.0;
    let sizes = [heads, rotated, k, half, packs].map(Argument::Long);
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
    let half = check_angles([cos, sin], query, kind, [n, k])?;
    check(NAME, "query", query, query, kind, n * h * k)?;
    check(NAME, "key", key, query, kind, n * g * k)?;
    check(NAME, "value", value, query, kind, n * g * k)?;
    let out = empty(NAME, &[n, h + 2 * g, k], kind, query)?;
    let width = Width::of(&[query, key, value, cos, sin], kind, common(half, k), 8);
    let packs = n * (h + 2 * g) * k / width.0;
    let sizes = [h, g, k, half, packs].map(Argument::Long);
    let pointers = [query, key, value, &out, cos, sin].map(pointer);
    let arguments = [&pointers[..], &sizes[..]].concat();
    launch(&source(kind, width), "rope_back", grid(packs), query, &arguments)?;
    Ok(out)
}

/// r / 2, from the shape of cos, if it and sin fit heads of size k.
fn check_angles([cos, sin]: [&Tensor; 2], like: &Tensor, kind: Kind, [n, k]: [i64; 2]) -> Result<i64, Error> {
    let half = cos.size().last().copied().unwrap_or(0);
    if half < 1 || 2 * half > k {
        let (expected, found) = (format!("1 to {} values of each token", k / 2), format!("{:?}", cos.size()));
        return Err(Error::Operand { kernel: NAME, operand: "cos", expected, found });
    }
    check(NAME, "cos", cos, like, kind, n * half)?;
    check(NAME, "sin", sin, like, kind, n * half)?;
    Ok(half)
}

/// The greatest common divisor, which the number of elements in an access has to divide.
fn common(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common(b, a % b) }
}

fn source(kind: Kind, width: Width) -> Source<'static> {
    Source { name: NAME, text: include_str!("rope/kernel.cu"), kind, width, definitions: &[] }
}

fn grid(packs: i64) -> Grid {
    Grid { blocks: blocks_for(packs), threads: THREADS, ..Grid::default() }
}
