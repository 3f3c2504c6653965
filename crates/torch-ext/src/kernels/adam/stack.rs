//! Adding to matrices of one shape that lie end to end, on a GPU.

use super::{Constants, NAME, WIDEST, WeightFormat, check_weight, hidden, source};
use crate::Error;
use crate::kernels::{
    Argument, Grid, THREADS, Width, blocks_for, check_on_any_device as check, launch, optional, pointer,
};
use tch::{Kind, Tensor};

/// How the weights of matrices that lie end to end are stored.
#[derive(Debug, Clone, Copy)]
pub enum StackFormat<'a> {
    /// bfloat16 with hidden bits, as [`WeightFormat::HiddenBits`].
    HiddenBits(&'a Tensor),
    /// bfloat16, each matrix rounded stochastically with bits of its own.
    Stochastic(StackNoise<'a>),
    /// bfloat16, rounded to nearest.
    Nearest,
}

/// The random bits of matrices that lie end to end. The key of matrix `i` is
/// `mix(seed ^ mix(matrices[i] ^ step))`, with SplitMix64's finaliser as `mix`.
#[derive(Debug, Clone, Copy)]
pub struct StackNoise<'a> {
    /// A number for each matrix, int64, on the GPU of the weight.
    pub matrices: &'a Tensor,
    /// The seed of the run.
    pub seed: u64,
    /// A number of this step.
    pub step: u64,
}

/// What [`add_to_stack`] adds: `w ← (w · decay_before + factor · product) · decay_after`.
#[derive(Debug, Clone, Copy)]
pub struct Addition<'a> {
    /// float32, one element for each weight.
    pub product: &'a Tensor,
    /// Factor on the product.
    pub factor: f64,
    /// Factor on the weight before the addition.
    pub decay_before: f64,
    /// Factor on the sum.
    pub decay_after: f64,
}

/// Adds to matrices of one shape that lie end to end, bfloat16, in one pass over memory. Each
/// matrix is rounded as [`write_master`](super::write_master) rounds it alone.
///
/// # Errors
/// The same as for [`full`](super::full), and if the tensors are not on a GPU.
pub fn add_to_stack(weight: &mut Tensor, format: StackFormat<'_>, addition: Addition<'_>) -> Result<(), Error> {
    let Addition { product, factor, decay_before, decay_after } = addition;
    let numel = weight.numel() as i64;
    let (stored, noise) = match format {
        StackFormat::HiddenBits(hidden) => (WeightFormat::HiddenBits(hidden), None),
        StackFormat::Stochastic(noise) => (WeightFormat::Stochastic { key: 0 }, Some(noise)),
        StackFormat::Nearest => (WeightFormat::Nearest, None),
    };
    check_weight(weight, stored, numel)?;
    check(NAME, "product", product, weight, Kind::Float, numel)?;
    let count = noise.map_or(1, |noise| noise.matrices.numel() as i64);
    if let Some(noise) = noise {
        check(NAME, "numbers of the matrices", noise.matrices, weight, Kind::Int64, count)?;
    }
    if count == 0 || numel % count != 0 {
        return Err(Error::Operand {
            kernel: NAME,
            operand: "weight",
            expected: format!("{count} matrices of one size"),
            found: format!("{numel} elements"),
        });
    }
    let each = numel / count;
    let mut aligned: Vec<&Tensor> = vec![product, weight];
    aligned.extend(hidden(stored));
    let width = Width::of(&aligned, Kind::Float, each, WIDEST);
    let blocks_each = blocks_for(each / width.0);
    let definitions = [("WEIGHT_FORMAT", stored.number()), ("NARROW_MOMENTS", 0)];
    let source = source(Kind::Float, width, &definitions);
    let constants = Constants { step: factor, decay_before, ..Constants::of_factor(decay_after) };
    let arguments = [
        pointer(product),
        pointer(weight),
        optional(hidden(stored)),
        optional(noise.map(|noise| noise.matrices)),
        Argument::Long(each),
        Argument::Long(blocks_each),
        Argument::Long(noise.map_or(0, |noise| noise.seed as i64)),
        Argument::Long(noise.map_or(0, |noise| noise.step as i64)),
        constants.argument(stored),
    ];
    launch(
        &source,
        "add_to_stack",
        Grid { blocks: blocks_each * count, threads: THREADS, ..Grid::default() },
        weight,
        &arguments,
    )
}
