//! Adam in one pass, for whole weights or in a subspace, and the conversion of weights to and from
//! float32 masters. These kernels also exist for the CPU, except those of float16 gradients and of
//! stacks.

mod host;
mod stack;

pub use stack::{Addition, StackFormat, StackNoise, add_to_stack};

use super::{
    Argument, Grid, Source, THREADS, Width, blocks_for, check_on_any_device as check, element_kind, launch, optional,
    pointer,
};
use crate::Error;
use tch::{Device, Kind, Tensor};

const NAME: &str = "adam";
/// The number of elements for each thread: 16 bytes of float32.
const WIDEST: i64 = 4;

/// Returns whether the kernels of this module can take these operands: contiguous, float32 or
/// bfloat16, and either all on the CPU or all on one GPU, as for [`kernels::available`].
///
/// [`kernels::available`]: super::available
pub fn available(operands: &[&Tensor]) -> bool {
    let fits = |tensor: &&Tensor| {
        tensor.device() == Device::Cpu
            && tensor.is_contiguous()
            && matches!(tensor.f_kind(), Ok(Kind::Float | Kind::BFloat16))
    };
    match operands {
        [] => false,
        operands if operands.iter().all(fits) => !super::switched_off(),
        operands => super::available(operands),
    }
}

/// The format of a weight.
#[derive(Debug, Clone, Copy)]
pub enum WeightFormat<'a> {
    /// float32, so the weight is its own master.
    Float,
    /// bfloat16. A second tensor, int16, holds the low 16 bits of the float32 master.
    HiddenBits(&'a Tensor),
    /// bfloat16, rounded up or down at random, by a hash of `key` and the element's index.
    Stochastic {
        /// A number of this step and weight.
        key: u64,
    },
    /// bfloat16, rounded to nearest.
    Nearest,
}

impl WeightFormat<'_> {
    /// The kernel's number for the format.
    fn number(self) -> i64 {
        match self {
            WeightFormat::Float => 0,
            WeightFormat::HiddenBits(_) => 1,
            WeightFormat::Stochastic { .. } => 2,
            WeightFormat::Nearest => 3,
        }
    }
}

/// The numbers of one step: `m ← β1 m + (1 − β1) g`, `v ← β2 v + (1 − β2) g²`,
/// `w ← (w · decay_before + step · m / (√v / root + ε)) · decay_after`.
#[derive(Debug, Clone, Copy)]
pub struct Constants {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Factor on the direction, including its sign.
    pub step: f64,
    /// A number of this step and parameter. Moments in bfloat16 are rounded up or down at random,
    /// by a hash of this key and the element's index.
    pub moments_key: u64,
    /// Divisor of the root of the second moment.
    pub root: f64,
    /// Factor on the weight before the update.
    pub decay_before: f64,
    /// Factor on the weight after the update.
    pub decay_after: f64,
}

impl Constants {
    /// Without a step: only this factor on the weight counts.
    fn of_factor(factor: f64) -> Self {
        Self {
            beta1: 0.0,
            beta2: 0.0,
            epsilon: 0.0,
            step: 0.0,
            moments_key: 0,
            root: 1.0,
            decay_before: 1.0,
            decay_after: factor,
        }
    }

    /// The bytes of the kernel's struct of the same name.
    fn argument(&self, format: WeightFormat<'_>) -> Argument {
        let rates = [1.0 - self.beta1, 1.0 - self.beta2, self.epsilon, self.step];
        let factors = [self.root, self.decay_before, self.decay_after];
        let mut words: Vec<u32> = rates.iter().chain(&factors).map(|&value| (value as f32).to_bits()).collect();
        let key = if let WeightFormat::Stochastic { key } = format { key } else { 0 };
        words.extend([key, self.moments_key].iter().flat_map(|key| [*key as u32, (key >> 32) as u32]));
        Argument::Words(words)
    }
}

/// The moments of a parameter, float32 or bfloat16, with as many elements as its gradient.
#[derive(Debug)]
pub struct Moments<'a> {
    /// m, the mean of the gradient.
    pub first: &'a mut Tensor,
    /// v, the mean of the squared gradient.
    pub second: &'a mut Tensor,
}

/// A weight that a step updates.
#[derive(Debug)]
pub struct Weight<'a> {
    /// The values that the model computes with.
    pub values: &'a mut Tensor,
    /// Their format.
    pub format: WeightFormat<'a>,
}

/// Does one step of a weight. Weight, gradient and moments have the same number of elements. The
/// gradient is float32 or bfloat16.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn full(
    Weight { values: weight, format }: Weight<'_>,
    gradient: &Tensor,
    Moments { first, second }: Moments<'_>,
    constants: &Constants,
) -> Result<(), Error> {
    let kind = element_kind(NAME, gradient)?;
    let numel = weight.numel() as i64;
    check_weight(weight, format, numel)?;
    check(NAME, "gradient", gradient, weight, kind, numel)?;
    let moments = check_moments(first, second, weight, numel)?;
    if weight.device() == Device::Cpu {
        host::full((weight, format), (gradient, kind), (Moments { first, second }, moments), constants);
        return Ok(());
    }
    let arguments = [
        pointer(weight),
        optional(hidden(format)),
        pointer(gradient),
        pointer(first),
        pointer(second),
        Argument::Long(numel),
        constants.argument(format),
    ];
    run("adam_full", (kind, moments), format, &[weight, gradient, first, second], numel, &arguments)
}

/// Replaces a projected gradient, float32, by its step, and updates the moments:
/// `gradient ← step · m / (√v / root + ε)`.
///
/// # Errors
/// The same as for [`full`].
pub fn direction(
    gradient: &mut Tensor,
    Moments { first, second }: Moments<'_>,
    constants: &Constants,
) -> Result<(), Error> {
    let numel = gradient.numel() as i64;
    check(NAME, "gradient", gradient, gradient, Kind::Float, numel)?;
    let moments = check_moments(first, second, gradient, numel)?;
    if gradient.device() == Device::Cpu {
        host::direction(gradient, (Moments { first, second }, moments), constants);
        return Ok(());
    }
    let format = WeightFormat::Float;
    let arguments =
        [pointer(gradient), pointer(first), pointer(second), Argument::Long(numel), constants.argument(format)];
    run("adam_direction", (Kind::Float, moments), format, &[gradient, first, second], numel, &arguments)
}

/// Writes the gradient to `out` (float16), multiplied by a power of two that brings `largest` below
/// 2^15. `largest` is one float32 that no absolute value exceeds. [`narrow_direction`] divides by
/// the same power.
///
/// # Errors
/// The same as for [`full`].
pub fn narrow_gradient(gradient: &Tensor, largest: &Tensor, out: &mut Tensor) -> Result<(), Error> {
    let kind = element_kind(NAME, gradient)?;
    let numel = gradient.numel() as i64;
    check(NAME, "gradient", gradient, gradient, kind, numel)?;
    check(NAME, "largest", largest, gradient, Kind::Float, 1)?;
    check(NAME, "narrow gradient", out, gradient, Kind::Half, numel)?;
    let arguments = [pointer(gradient), pointer(largest), pointer(out), Argument::Long(numel)];
    run("adam_narrow_gradient", (kind, Kind::Float), WeightFormat::Float, &[gradient, out], numel, &arguments)
}

/// The gradient of [`narrow_direction`].
#[derive(Debug)]
pub struct NarrowGradient<'a> {
    /// The projection of what [`narrow_gradient`] wrote, float32. It is left as it is.
    pub projected: &'a Tensor,
    /// As for [`narrow_gradient`].
    pub largest: &'a Tensor,
}

/// Does the same as [`direction`] for the projection of a [`narrow_gradient`], and writes the step
/// to `out` (float16). The step should be of the order of 1, so that float16 can hold it;
/// `constants.step` is therefore not the learning rate here.
///
/// # Errors
/// The same as for [`full`].
pub fn narrow_direction(
    NarrowGradient { projected: gradient, largest }: NarrowGradient<'_>,
    out: &mut Tensor,
    Moments { first, second }: Moments<'_>,
    constants: &Constants,
) -> Result<(), Error> {
    let numel = gradient.numel() as i64;
    check(NAME, "gradient", gradient, gradient, Kind::Float, numel)?;
    check(NAME, "largest", largest, gradient, Kind::Float, 1)?;
    check(NAME, "step", out, gradient, Kind::Half, numel)?;
    let moments = check_moments(first, second, gradient, numel)?;
    let format = WeightFormat::Float;
    let arguments = [
        pointer(gradient),
        pointer(largest),
        pointer(out),
        pointer(first),
        pointer(second),
        Argument::Long(numel),
        constants.argument(format),
    ];
    run("adam_narrow_direction", (Kind::Float, moments), format, &[gradient, out, first, second], numel, &arguments)
}

/// Writes the weight times `factor` to `master` (float32).
///
/// # Errors
/// The same as for [`full`].
pub fn read_master(weight: &Tensor, format: WeightFormat<'_>, factor: f64, master: &mut Tensor) -> Result<(), Error> {
    let numel = weight.numel() as i64;
    check_weight(weight, format, numel)?;
    check(NAME, "master", master, weight, Kind::Float, numel)?;
    if weight.device() == Device::Cpu {
        host::read_master(weight, format, factor, master);
        return Ok(());
    }
    let arguments = [
        pointer(weight),
        optional(hidden(format)),
        pointer(master),
        Argument::Long(numel),
        Argument::Float(factor as f32),
    ];
    run("read_master", (Kind::Float, Kind::Float), format, &[weight, master], numel, &arguments)
}

/// Writes `master` (float32) times `factor` to the weight.
///
/// # Errors
/// The same as for [`full`].
pub fn write_master(master: &Tensor, Weight { values: weight, format }: Weight<'_>, factor: f64) -> Result<(), Error> {
    let constants = Constants::of_factor(factor);
    let numel = weight.numel() as i64;
    check_weight(weight, format, numel)?;
    check(NAME, "master", master, weight, Kind::Float, numel)?;
    if weight.device() == Device::Cpu {
        host::write_master(master, (weight, format), &constants);
        return Ok(());
    }
    let arguments =
        [pointer(master), pointer(weight), optional(hidden(format)), Argument::Long(numel), constants.argument(format)];
    run("write_master", (Kind::Float, Kind::Float), format, &[weight, master], numel, &arguments)
}

fn hidden<'a>(format: WeightFormat<'a>) -> Option<&'a Tensor> {
    if let WeightFormat::HiddenBits(hidden) = format { Some(hidden) } else { None }
}

fn check_moments(first: &Tensor, second: &Tensor, like: &Tensor, numel: i64) -> Result<Kind, Error> {
    let kind = element_kind(NAME, first)?;
    check(NAME, "first moment", first, like, kind, numel)?;
    check(NAME, "second moment", second, like, kind, numel)?;
    Ok(kind)
}

fn check_weight(weight: &Tensor, format: WeightFormat<'_>, numel: i64) -> Result<(), Error> {
    let kind = if matches!(format, WeightFormat::Float) { Kind::Float } else { Kind::BFloat16 };
    check(NAME, "weight", weight, weight, kind, numel)?;
    match hidden(format) {
        Some(hidden) => check(NAME, "hidden bits", hidden, weight, Kind::Int16, numel),
        None => Ok(()),
    }
}

fn source<'a>(kind: Kind, width: Width, definitions: &'a [(&'static str, i64)]) -> Source<'a> {
    Source { name: NAME, text: include_str!("adam/kernel.cu"), kind, width, definitions }
}

fn run(
    function: &'static str,
    (kind, moments): (Kind, Kind),
    format: WeightFormat<'_>,
    operands: &[&Tensor],
    numel: i64,
    arguments: &[Argument],
) -> Result<(), Error> {
    let mut aligned = operands.to_vec();
    aligned.extend(hidden(format));
    // The last thread takes the remaining elements one by one, so any length has wide accesses.
    let width = Width::of(&aligned, kind, 0, WIDEST);
    let definitions = [("WEIGHT_FORMAT", format.number()), ("NARROW_MOMENTS", i64::from(moments == Kind::BFloat16))];
    let source = source(kind, width, &definitions);
    let blocks = blocks_for((numel + width.0 - 1) / width.0);
    launch(&source, function, Grid { blocks, threads: THREADS, ..Grid::default() }, operands[0], arguments)
}
