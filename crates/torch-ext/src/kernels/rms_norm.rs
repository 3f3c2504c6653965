//! Root-mean-square norm, fused with the residual addition before it, and after its backward.

use super::{Argument, Grid, Source, Width, check, column_sum, element_kind, empty, launch, optional, pointer, torch};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "rms_norm";
const TEXT: &str = include_str!("rms_norm/kernel.cu");
/// The number of blocks of the backward, enough to fill a large GPU several times. Each block sums
/// the weight's gradient over its rows.
const BACKWARD_BLOCKS: i64 = 1024;
/// The width of the widest row. The kernel holds a row in registers.
const MAX_WIDTH: i64 = 16384;

/// What the normalised x̂ is multiplied with, and when the result is rounded to the type of x. In
/// float32 and wider only the factor matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gain {
    /// round(x̂) · w, as Llama and most families have it.
    Rounded,
    /// round(x̂ · w), as OLMo 2 has it.
    Wide,
    /// round(x̂ · (1 + w)), as Gemma has it, whose weights start at 0.
    WideOnePlus,
}

/// The weight of a norm, and how it is used.
#[derive(Debug, Clone, Copy)]
pub struct Weight<'a> {
    /// `[d]`.
    pub values: &'a Tensor,
    /// What x̂ is multiplied with.
    pub gain: Gain,
}

impl<'a> Weight<'a> {
    /// A weight that is used as most families do.
    pub fn rounded(values: &'a Tensor) -> Self {
        Self { values, gain: Gain::Rounded }
    }
}

/// The result of [`forward`].
#[derive(Debug)]
pub struct Forward {
    /// x + residual `[n, d]`, if there is a residual.
    pub sum: Option<Tensor>,
    /// The output `[n, d]`.
    pub y: Tensor,
    /// 1 / √(mean(x²) + ε), float32 `[n, 1]`.
    pub reciprocal_rms: Tensor,
}

/// Returns whether the kernel takes rows of this width.
pub fn fits(width: i64) -> bool {
    (1..=MAX_WIDTH).contains(&width)
}

/// Normalises the rows of x, or of x + residual, both `[n, d]`, and multiplies by weight `[d]`. All
/// are of one type.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn forward(x: &Tensor, residual: Option<&Tensor>, weight: Weight<'_>, epsilon: f64) -> Result<Forward, Error> {
    let Weight { values: weight, gain } = weight;
    let kind = element_kind(NAME, x)?;
    let (n, d) = dimensions(x)?;
    check(NAME, "x", x, x, kind, n * d)?;
    check(NAME, "weight", weight, x, kind, d)?;
    let mut operands = vec![x, weight];
    if let Some(residual) = residual {
        check(NAME, "residual", residual, x, kind, n * d)?;
        operands.push(residual);
    }
    let y = empty(NAME, &[n, d], kind, x)?;
    let sum = residual.map(|_| empty(NAME, &[n, d], kind, x)).transpose()?;
    let reciprocal_rms = empty(NAME, &[n, 1], Kind::Float, x)?;
    let width = Width::of(&operands, kind, d, 8);
    let threads = threads(d, width);
    let definitions = definitions(d, threads, gain);
    let source = Source { name: NAME, text: TEXT, kind, width, definitions: &definitions };
    let arguments = [
        pointer(x),
        optional(residual),
        optional(sum.as_ref()),
        pointer(weight),
        pointer(&y),
        pointer(&reciprocal_rms),
        Argument::Float(epsilon as f32),
    ];
    launch(&source, "rms_norm_forward", Grid { blocks: n, threads, ..Grid::default() }, x, &arguments)?;
    Ok(Forward { sum, y, reciprocal_rms })
}

/// The values of the forward that [`backward`] needs.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// The forward's input `[n, d]`, with the residual added.
    pub x: &'a Tensor,
    /// The weight.
    pub weight: Weight<'a>,
    /// As in [`Forward`].
    pub reciprocal_rms: &'a Tensor,
}

/// Returns the gradient of the forward's input, `[n, d]`, plus `residual` if there is one. Adds the
/// weight's gradient to `weight_gradient` `[d]`, float32 or bfloat16.
///
/// # Errors
/// The same as for [`forward`].
pub fn backward(
    dy: &Tensor,
    saved: Saved<'_>,
    residual: Option<&Tensor>,
    weight_gradient: &mut Tensor,
) -> Result<Tensor, Error> {
    let Saved { x, weight: Weight { values: weight, gain }, reciprocal_rms } = saved;
    let kind = element_kind(NAME, x)?;
    let (n, d) = dimensions(x)?;
    for (operand, tensor, kind, numel) in [
        ("dy", dy, kind, n * d),
        ("x", x, kind, n * d),
        ("weight", weight, kind, d),
        ("reciprocal_rms", reciprocal_rms, Kind::Float, n),
    ] {
        check(NAME, operand, tensor, x, kind, numel)?;
    }
    let mut operands = vec![dy, x, weight];
    if let Some(residual) = residual {
        check(NAME, "residual", residual, x, kind, n * d)?;
        operands.push(residual);
    }
    let dx = empty(NAME, &[n, d], kind, x)?;
    let blocks = n.min(BACKWARD_BLOCKS);
    let partial = empty(NAME, &[blocks, d], Kind::Float, x)?;
    let width = Width::of(&operands, kind, d, 8);
    let threads = threads(d, width);
    let definitions = definitions(d, threads, gain);
    let source = Source { name: NAME, text: TEXT, kind, width, definitions: &definitions };
    let arguments = [
        pointer(dy),
        pointer(x),
        pointer(weight),
        pointer(reciprocal_rms),
        optional(residual),
        pointer(&dx),
        pointer(&partial),
        Argument::Long(n),
    ];
    launch(&source, "rms_norm_backward", Grid { blocks, threads, ..Grid::default() }, x, &arguments)?;
    column_sum::add_partial(&partial, weight_gradient)?;
    Ok(dx)
}

fn dimensions(x: &Tensor) -> Result<(i64, i64), Error> {
    let (n, d) = torch(NAME, x.size2())?;
    if !fits(d) {
        let expected = format!("rows of 1 to {MAX_WIDTH}");
        return Err(Error::Operand { kernel: NAME, operand: "x", expected, found: format!("{d}") });
    }
    Ok((n, d))
}

fn definitions(d: i64, threads: u32, gain: Gain) -> [(&'static str, i64); 4] {
    let (wide, offset) = match gain {
        Gain::Rounded => (0, 0),
        Gain::Wide => (1, 0),
        Gain::WideOnePlus => (1, 1),
    };
    [("D", d), ("THREADS", i64::from(threads)), ("WIDE", wide), ("OFFSET", offset)]
}

/// The number of threads for a row, so that each thread makes only a few accesses to it.
fn threads(d: i64, width: Width) -> u32 {
    match d / width.0 {
        ..=256 => 128,
        257..=1024 => 256,
        _ => 512,
    }
}
