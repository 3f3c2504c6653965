//! The kernels of this folder for the CPU: one pass over memory, on torch's number of threads.
//!
//! The formulas are those of `kernel.cu`. A chain of libtorch's operations moves every operand
//! several times. Floor for a float32 weight with its gradient and moments: 28 bytes an element.
//!
//! The compiler makes two versions of each loop, with and without AVX2. Both give the same bits,
//! because neither fuses a product with a sum.

mod formats;

use super::{Constants, Moments, WeightFormat};
use formats::{Float, Format, HiddenBits, Nearest, Stochastic, Stored, noise};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::sync::OnceLock;
use tch::{Kind, Tensor};

/// Elements that one thread takes at a time. Fewer are done by the caller's thread.
const CHUNK: usize = 1 << 15;

/// What a loop reads and writes. Pointers of operands that it does not have are null.
#[derive(Clone, Copy)]
struct Operands {
    weight: *mut u8,
    hidden: *mut i16,
    gradient: *mut u8,
    first: *mut u8,
    second: *mut u8,
    master: *mut f32,
}

// SAFETY: each thread takes ranges of its own.
unsafe impl Send for Operands {}
// SAFETY: as above.
unsafe impl Sync for Operands {}

impl Operands {
    const NONE: Self = Self {
        weight: std::ptr::null_mut(),
        hidden: std::ptr::null_mut(),
        gradient: std::ptr::null_mut(),
        first: std::ptr::null_mut(),
        second: std::ptr::null_mut(),
        master: std::ptr::null_mut(),
    };
}

/// The constants of a step in float32, as the kernel for GPUs has them.
#[derive(Clone, Copy)]
struct Step {
    rates: [f32; 2],
    epsilon: f32,
    step: f32,
    root: f32,
    before: f32,
    after: f32,
    key: u64,
    moments_key: u64,
}

impl Step {
    fn new(constants: &Constants, format: WeightFormat<'_>) -> Self {
        Self {
            rates: [(1.0 - constants.beta1) as f32, (1.0 - constants.beta2) as f32],
            epsilon: constants.epsilon as f32,
            step: constants.step as f32,
            root: constants.root as f32,
            before: constants.decay_before as f32,
            after: constants.decay_after as f32,
            key: if let WeightFormat::Stochastic { key } = format { key } else { 0 },
            moments_key: constants.moments_key,
        }
    }
}

/// The same formula as torch's lerp.
#[inline(always)]
fn blend(from: f32, to: f32, weight: f32) -> f32 {
    if weight < 0.5 { from + weight * (to - from) } else { to - (to - from) * (1.0 - weight) }
}

/// A loop over elements `start..start + length` of its operands.
trait Pass: Sync {
    /// # Safety
    /// Every operand that the loop uses has memory for these elements, of the loop's types, and
    /// nothing else uses it meanwhile.
    unsafe fn range(&self, operands: Operands, start: usize, length: usize);
}

/// # Safety
/// As for `Pass::range`, for all elements.
unsafe fn run<P: Pass>(pass: &P, operands: Operands, numel: usize) {
    if numel <= CHUNK {
        // SAFETY: the caller's.
        return unsafe { widest(pass, operands, 0, numel) };
    }
    let chunk = |index| {
        let start = index * CHUNK;
        // SAFETY: the caller's, and ranges do not overlap.
        unsafe { widest(pass, operands, start, CHUNK.min(numel - start)) };
    };
    let chunks = 0..numel.div_ceil(CHUNK);
    match threads() {
        Some(threads) => threads.install(|| chunks.into_par_iter().for_each(chunk)),
        None => chunks.for_each(chunk),
    }
}

/// As many threads as libtorch has for an operation. `None` if the system does not give them.
fn threads() -> Option<&'static rayon::ThreadPool> {
    static THREADS: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    let build = || {
        let number = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
        rayon::ThreadPoolBuilder::new().num_threads(number).build().ok()
    };
    THREADS.get_or_init(build).as_ref()
}

/// Runs the version of the loop that this machine is fastest with.
///
/// # Safety
/// As for `Pass::range`.
#[inline]
unsafe fn widest<P: Pass>(pass: &P, operands: Operands, start: usize, length: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        /// # Safety
        /// The machine has AVX2; the rest as for `Pass::range`.
        #[target_feature(enable = "avx2")]
        unsafe fn with_avx2<P: Pass>(pass: &P, operands: Operands, start: usize, length: usize) {
            // SAFETY: the caller's.
            unsafe { pass.range(operands, start, length) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the caller's, and the line above.
            return unsafe { with_avx2(pass, operands, start, length) };
        }
    }
    // SAFETY: the caller's.
    unsafe { pass.range(operands, start, length) };
}

/// # Safety
/// `start..start + length` are elements of `T` behind `pointer` that nothing else uses.
#[inline(always)]
unsafe fn part<'a, T>(pointer: *mut u8, start: usize, length: usize) -> &'a mut [T] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(pointer.cast::<T>().add(start), length) }
}

/// `adam_full`.
struct Full<F, G, M>(Step, PhantomData<(F, G, M)>);
/// `adam_direction`.
struct Direction<M>(Step, PhantomData<M>);
/// `read_master`, with its factor.
struct Read<F>(f32, PhantomData<F>);
/// `write_master`.
struct Write<F>(Step, PhantomData<F>);

/// The moments of one element after a gradient, and the direction `m / (√v / root + ε)`.
#[inline(always)]
fn advance<M: Stored>(step: &Step, gradient: f32, first: &mut M, second: &mut M, index: usize) -> f32 {
    let m = blend(first.widen(), gradient, step.rates[0]);
    let v = blend(second.widen(), gradient * gradient, step.rates[1]);
    let bits = noise(index, step.moments_key);
    *first = M::narrow(m, bits);
    *second = M::narrow(v, bits >> 16);
    m / (v.sqrt() / step.root + step.epsilon)
}

impl<F: Format, G: Stored, M: Stored> Pass for Full<F, G, M> {
    #[inline(always)]
    unsafe fn range(&self, operands: Operands, start: usize, length: usize) {
        let step = self.0;
        // SAFETY: the caller's.
        let (weight, gradient, first, second) = unsafe {
            (
                part::<F::Weight>(operands.weight, start, length),
                part::<G>(operands.gradient, start, length),
                part::<M>(operands.first, start, length),
                part::<M>(operands.second, start, length),
            )
        };
        let hidden: &mut [i16] = if F::HAS_HIDDEN {
            // SAFETY: the caller's.
            unsafe { part(operands.hidden.cast(), start, length) }
        } else {
            &mut []
        };
        for i in 0..length {
            let low = if F::HAS_HIDDEN { hidden[i] } else { 0 };
            let direction = advance(&step, gradient[i].widen(), &mut first[i], &mut second[i], start + i);
            let master = F::join(weight[i], low) * step.before + step.step * direction;
            let (high, low) = F::split(master * step.after, start + i, step.key);
            weight[i] = high;
            if F::HAS_HIDDEN {
                hidden[i] = low;
            }
        }
    }
}

impl<M: Stored> Pass for Direction<M> {
    #[inline(always)]
    unsafe fn range(&self, operands: Operands, start: usize, length: usize) {
        let step = self.0;
        // SAFETY: the caller's.
        let (gradient, first, second) = unsafe {
            (
                part::<f32>(operands.gradient, start, length),
                part::<M>(operands.first, start, length),
                part::<M>(operands.second, start, length),
            )
        };
        for i in 0..length {
            gradient[i] = step.step * advance(&step, gradient[i], &mut first[i], &mut second[i], start + i);
        }
    }
}

impl<F: Format> Pass for Read<F> {
    #[inline(always)]
    unsafe fn range(&self, operands: Operands, start: usize, length: usize) {
        // SAFETY: the caller's.
        let (weight, master) = unsafe {
            (part::<F::Weight>(operands.weight, start, length), part::<f32>(operands.master.cast(), start, length))
        };
        let hidden: &[i16] = if F::HAS_HIDDEN {
            // SAFETY: the caller's.
            unsafe { part(operands.hidden.cast(), start, length) }
        } else {
            &[]
        };
        for i in 0..length {
            master[i] = F::join(weight[i], if F::HAS_HIDDEN { hidden[i] } else { 0 }) * self.0;
        }
    }
}

impl<F: Format> Pass for Write<F> {
    #[inline(always)]
    unsafe fn range(&self, operands: Operands, start: usize, length: usize) {
        let step = self.0;
        // SAFETY: the caller's.
        let (weight, master) = unsafe {
            (part::<F::Weight>(operands.weight, start, length), part::<f32>(operands.master.cast(), start, length))
        };
        let hidden: &mut [i16] = if F::HAS_HIDDEN {
            // SAFETY: the caller's.
            unsafe { part(operands.hidden.cast(), start, length) }
        } else {
            &mut []
        };
        for i in 0..length {
            let (high, low) = F::split(master[i] * step.after, start + i, step.key);
            weight[i] = high;
            if F::HAS_HIDDEN {
                hidden[i] = low;
            }
        }
    }
}

/// Calls `$call` with the type of the weight's format for `F`.
macro_rules! with_format {
    ($format:expr, $F:ident => $call:expr) => {
        match $format {
            WeightFormat::Float => {
                type $F = Float;
                $call
            }
            WeightFormat::HiddenBits(_) => {
                type $F = HiddenBits;
                $call
            }
            WeightFormat::Stochastic { .. } => {
                type $F = Stochastic;
                $call
            }
            WeightFormat::Nearest => {
                type $F = Nearest;
                $call
            }
        }
    };
}

fn bytes(tensor: &Tensor) -> *mut u8 {
    tensor.data_ptr().cast()
}

fn hidden(format: WeightFormat<'_>) -> *mut i16 {
    super::hidden(format).map_or(std::ptr::null_mut(), |hidden| hidden.data_ptr().cast())
}

/// The operands have been checked.
pub(super) fn full(
    (weight, format): (&Tensor, WeightFormat<'_>),
    (gradient, kind): (&Tensor, Kind),
    (Moments { first, second }, moments): (Moments<'_>, Kind),
    constants: &Constants,
) {
    let step = Step::new(constants, format);
    let operands = Operands {
        weight: bytes(weight),
        hidden: hidden(format),
        gradient: bytes(gradient),
        first: bytes(first),
        second: bytes(second),
        ..Operands::NONE
    };
    let numel = weight.numel();
    // SAFETY: sizes, types and contiguity have been checked, and the tensors are borrowed.
    with_format!(format, F => unsafe {
        match (kind, moments) {
            (Kind::BFloat16, Kind::BFloat16) => run(&Full::<F, u16, u16>(step, PhantomData), operands, numel),
            (Kind::BFloat16, _) => run(&Full::<F, u16, f32>(step, PhantomData), operands, numel),
            (_, Kind::BFloat16) => run(&Full::<F, f32, u16>(step, PhantomData), operands, numel),
            (..) => run(&Full::<F, f32, f32>(step, PhantomData), operands, numel),
        }
    });
}

/// The operands have been checked.
pub(super) fn direction(
    gradient: &Tensor,
    (Moments { first, second }, moments): (Moments<'_>, Kind),
    constants: &Constants,
) {
    let step = Step::new(constants, WeightFormat::Float);
    let operands = Operands { gradient: bytes(gradient), first: bytes(first), second: bytes(second), ..Operands::NONE };
    // SAFETY: as in `full`.
    unsafe {
        match moments {
            Kind::BFloat16 => run(&Direction::<u16>(step, PhantomData), operands, gradient.numel()),
            _ => run(&Direction::<f32>(step, PhantomData), operands, gradient.numel()),
        }
    }
}

/// The operands have been checked.
pub(super) fn read_master(weight: &Tensor, format: WeightFormat<'_>, factor: f64, master: &Tensor) {
    let operands =
        Operands { weight: bytes(weight), hidden: hidden(format), master: master.data_ptr().cast(), ..Operands::NONE };
    // SAFETY: as in `full`.
    with_format!(format, F => unsafe { run(&Read::<F>(factor as f32, PhantomData), operands, weight.numel()) });
}

/// The operands have been checked.
pub(super) fn write_master(master: &Tensor, (weight, format): (&Tensor, WeightFormat<'_>), constants: &Constants) {
    let operands =
        Operands { weight: bytes(weight), hidden: hidden(format), master: master.data_ptr().cast(), ..Operands::NONE };
    let step = Step::new(constants, format);
    // SAFETY: as in `full`.
    with_format!(format, F => unsafe { run(&Write::<F>(step, PhantomData), operands, weight.numel()) });
}

#[cfg(test)]
mod tests;
