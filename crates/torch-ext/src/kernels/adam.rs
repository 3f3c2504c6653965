//! Adam in one pass, over whole weights or in a subspace, and weights as float32 masters.

use super::{Argument, Grid, Source, THREADS, Width, blocks_for, check, element_kind, launch, optional, pointer};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "adam";
/// Elements a thread takes: 16 bytes of float32.
const WIDEST: i64 = 4;

/// How a weight is kept.
#[derive(Debug, Clone, Copy)]
pub enum Storage<'a> {
    /// float32.
    Float,
    /// bfloat16, with the low 16 bits of the float32 master, int16, beside it.
    HiddenBits(&'a Tensor),
    /// bfloat16, rounded up or down at random: by the hash of `key` and an element's index.
    Stochastic {
        /// Of this step and weight.
        key: u64,
    },
    /// bfloat16, rounded to nearest.
    Nearest,
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
    /// Factor on the direction, its sign included.
    pub step: f64,
    /// Of this step and parameter: moments in bfloat16 are rounded up or down at random, by its
    /// hash with an element's index.
    pub moments_key: u64,
    /// What the root of the second moment is divided by.
    pub root: f64,
    /// Factor on the weight before the update.
    pub decay_before: f64,
    /// Factor on the weight after it.
    pub decay_after: f64,
}

impl Constants {
    /// As the kernel's struct of the same name lies in memory.
    fn argument(&self, storage: Storage<'_>) -> Argument {
        let rates = [1.0 - self.beta1, 1.0 - self.beta2, self.epsilon, self.step];
        let factors = [self.root, self.decay_before, self.decay_after];
        let mut words: Vec<u32> = rates.iter().chain(&factors).map(|&value| (value as f32).to_bits()).collect();
        let key = if let Storage::Stochastic { key } = storage { key } else { 0 };
        words.extend([key, self.moments_key].iter().flat_map(|key| [*key as u32, (key >> 32) as u32]));
        Argument::Words(words)
    }
}

/// One step of a weight. All are flat or of one shape; gradient and moments float32 or bfloat16.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when it cannot be compiled or
/// launched.
pub fn full(
    weight: &mut Tensor,
    storage: Storage<'_>,
    gradient: &Tensor,
    (first, second): (&mut Tensor, &mut Tensor),
    constants: &Constants,
) -> Result<(), Error> {
    let kind = element_kind(NAME, gradient)?;
    let numel = weight.numel() as i64;
    check_weight(weight, storage, numel)?;
    check(NAME, "gradient", gradient, weight, kind, numel)?;
    let moments = check_moments(first, second, weight, numel)?;
    let arguments = [
        pointer(weight),
        optional(hidden(storage)),
        pointer(gradient),
        pointer(first),
        pointer(second),
        Argument::Long(numel),
        constants.argument(storage),
    ];
    run("adam_full", (kind, moments), storage, &[weight, gradient, first, second], numel, &arguments)
}

/// A projected gradient, float32, becomes its step, by moments in float32 or bfloat16:
/// `gradient ← step · m / (√v / root + ε)`.
///
/// # Errors
/// As [`full`].
pub fn direction(
    gradient: &mut Tensor,
    (first, second): (&mut Tensor, &mut Tensor),
    constants: &Constants,
) -> Result<(), Error> {
    let numel = gradient.numel() as i64;
    check(NAME, "gradient", gradient, gradient, Kind::Float, numel)?;
    let moments = check_moments(first, second, gradient, numel)?;
    let storage = Storage::Float;
    let arguments =
        [pointer(gradient), pointer(first), pointer(second), Argument::Long(numel), constants.argument(storage)];
    run("adam_direction", (Kind::Float, moments), storage, &[gradient, first, second], numel, &arguments)
}

/// `out` (float16) ← the gradient times a power of two, which brings `largest`, one float32 that is
/// at least each absolute value, below 2^15. [`narrow_direction`] takes it out again.
///
/// # Errors
/// As [`full`].
pub fn narrow_gradient(gradient: &Tensor, largest: &Tensor, out: &mut Tensor) -> Result<(), Error> {
    let kind = element_kind(NAME, gradient)?;
    let numel = gradient.numel() as i64;
    check(NAME, "gradient", gradient, gradient, kind, numel)?;
    check(NAME, "largest", largest, gradient, Kind::Float, 1)?;
    check(NAME, "narrow gradient", out, gradient, Kind::Half, numel)?;
    let arguments = [pointer(gradient), pointer(largest), pointer(out), Argument::Long(numel)];
    run("adam_narrow_gradient", (kind, Kind::Float), Storage::Float, &[gradient, out], numel, &arguments)
}

/// As [`direction`], of what became of a [`narrow_gradient`] in the subspace; the step goes into
/// `out` (float16). It should be of the order of 1, so `constants.step` is not the learning rate
/// here.
///
/// # Errors
/// As [`full`].
pub fn narrow_direction(
    gradient: &mut Tensor,
    largest: &Tensor,
    out: &mut Tensor,
    (first, second): (&mut Tensor, &mut Tensor),
    constants: &Constants,
) -> Result<(), Error> {
    let numel = gradient.numel() as i64;
    check(NAME, "gradient", gradient, gradient, Kind::Float, numel)?;
    check(NAME, "largest", largest, gradient, Kind::Float, 1)?;
    check(NAME, "step", out, gradient, Kind::Half, numel)?;
    let moments = check_moments(first, second, gradient, numel)?;
    let storage = Storage::Float;
    let arguments = [
        pointer(gradient),
        pointer(largest),
        pointer(out),
        pointer(first),
        pointer(second),
        Argument::Long(numel),
        constants.argument(storage),
    ];
    run("adam_narrow_direction", (Kind::Float, moments), storage, &[gradient, out, first, second], numel, &arguments)
}

/// `master` (float32) ← the weight times `factor`.
///
/// # Errors
/// As [`full`].
pub fn read_master(weight: &Tensor, storage: Storage<'_>, factor: f64, master: &mut Tensor) -> Result<(), Error> {
    let numel = weight.numel() as i64;
    check_weight(weight, storage, numel)?;
    check(NAME, "master", master, weight, Kind::Float, numel)?;
    let arguments = [
        pointer(weight),
        optional(hidden(storage)),
        pointer(master),
        Argument::Long(numel),
        Argument::Float(factor as f32),
    ];
    run("read_master", (Kind::Float, Kind::Float), storage, &[weight, master], numel, &arguments)
}

/// The weight ← `master` (float32) times `constants.decay_after`.
///
/// # Errors
/// As [`full`].
pub fn write_master(
    master: &Tensor,
    weight: &mut Tensor,
    storage: Storage<'_>,
    constants: &Constants,
) -> Result<(), Error> {
    let numel = weight.numel() as i64;
    check_weight(weight, storage, numel)?;
    check(NAME, "master", master, weight, Kind::Float, numel)?;
    let arguments = [
        pointer(master),
        pointer(weight),
        optional(hidden(storage)),
        Argument::Long(numel),
        constants.argument(storage),
    ];
    run("write_master", (Kind::Float, Kind::Float), storage, &[weight, master], numel, &arguments)
}

fn hidden<'a>(storage: Storage<'a>) -> Option<&'a Tensor> {
    if let Storage::HiddenBits(hidden) = storage { Some(hidden) } else { None }
}

fn check_moments(first: &Tensor, second: &Tensor, like: &Tensor, numel: i64) -> Result<Kind, Error> {
    let kind = element_kind(NAME, first)?;
    check(NAME, "first moment", first, like, kind, numel)?;
    check(NAME, "second moment", second, like, kind, numel)?;
    Ok(kind)
}

fn check_weight(weight: &Tensor, storage: Storage<'_>, numel: i64) -> Result<(), Error> {
    let kind = if matches!(storage, Storage::Float) { Kind::Float } else { Kind::BFloat16 };
    check(NAME, "weight", weight, weight, kind, numel)?;
    match hidden(storage) {
        Some(hidden) => check(NAME, "hidden bits", hidden, weight, Kind::Int16, numel),
        None => Ok(()),
    }
}

fn run(
    function: &'static str,
    (kind, moments): (Kind, Kind),
    storage: Storage<'_>,
    operands: &[&Tensor],
    numel: i64,
    arguments: &[Argument],
) -> Result<(), Error> {
    let mut aligned = operands.to_vec();
    aligned.extend(hidden(storage));
    // The last thread takes what is left element by element, so any length has whole accesses.
    let width = Width::of(&aligned, kind, 0, WIDEST);
    let number = match storage {
        Storage::Float => 0,
        Storage::HiddenBits(_) => 1,
        Storage::Stochastic { .. } => 2,
        Storage::Nearest => 3,
    };
    let definitions = [("STORAGE", number), ("NARROW_MOMENTS", i64::from(moments == Kind::BFloat16))];
    let source = Source { name: NAME, text: include_str!("adam/kernel.cu"), kind, width, definitions: &definitions };
    let blocks = blocks_for((numel + width.0 - 1) / width.0);
    launch(&source, function, Grid { blocks, threads: THREADS }, operands[0], arguments)
}
