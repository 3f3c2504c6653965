//! Fused kernels for CUDA, compiled when the program runs.
//!
//! Each kernel has a folder with `kernel.cu`, whose header gives the formula and the bytes that it
//! moves, and a Rust file that checks operands and launches. NVRTC, which comes with a CUDA
//! libtorch, compiles a kernel at its first use, for the GPU of this machine. No CUDA toolkit is
//! needed to build the program. [`keep_compiled_in`] keeps the machine code for the next run.
//!
//! Call [`available`] first. If it returns `false` (no GPU, no NVRTC, float64, or the environment
//! variable `TORCH_EXT_KERNELS=off`), use plain operations. Their results differ only by rounding:
//! a kernel rounds to 16 bits once, a chain of operations after each operation.
//!
//! [`adam`] has CPU versions too, because libtorch's operations leave most of a CPU's memory
//! bandwidth unused there.
//!
//! Launches go to torch's current stream, and memory comes from torch's allocator.

pub mod adam;
mod cache;
pub mod column_sum;
pub mod cross_entropy;
pub(crate) mod driver;
pub mod embedding;
mod functions;
pub mod norm;
mod nvrtc;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;

use crate::Error;
pub use cache::keep_compiled_in;
use driver::{Argument, Grid};
use std::ffi::c_void;
use tch::{Device, Kind, Tensor};

const COMMON: &str = include_str!("kernels/common.cu");
const THREADS: u32 = 256;

/// Returns whether kernels can take these operands: contiguous, float32 or bfloat16, on one GPU for
/// which kernels can be compiled.
///
/// The first call for a GPU compiles a small kernel. If that fails, a `tracing` warning says why,
/// once.
pub fn available(operands: &[&Tensor]) -> bool {
    let Some(Device::Cuda(device)) = operands.first().map(|tensor| tensor.device()) else { return false };
    let fits = |tensor: &&Tensor| {
        tensor.device() == Device::Cuda(device)
            && tensor.is_contiguous()
            && matches!(tensor.f_kind(), Ok(Kind::Float | Kind::BFloat16))
    };
    operands.iter().all(fits) && functions::works(device)
}

/// Whether the environment switches kernels off.
fn switched_off() -> bool {
    std::env::var_os("TORCH_EXT_KERNELS").is_some_and(|value| value == "off")
}

/// A translation unit and the options to compile it with.
struct Source<'a> {
    name: &'static str,
    text: &'static str,
    kind: Kind,
    width: Width,
    definitions: &'a [(&'static str, i64)],
}

/// The number of elements in one memory access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width(i64);

impl Width {
    const BYTES: usize = 16;

    /// The widest access of the type, but not more than `most`, if all tensors are aligned for it
    /// and it divides rows of `row` elements. Otherwise 1.
    fn of(tensors: &[&Tensor], kind: Kind, row: i64, most: i64) -> Self {
        let widest = (if kind == Kind::BFloat16 { 8 } else { 4 }).min(most);
        let aligned = tensors.iter().all(|tensor| (tensor.data_ptr() as usize).is_multiple_of(Self::BYTES));
        Self(if aligned && row % widest == 0 { widest } else { 1 })
    }
}

fn pointer(tensor: &Tensor) -> Argument {
    Argument::Pointer(tensor.data_ptr())
}

fn optional(tensor: Option<&Tensor>) -> Argument {
    Argument::Pointer(tensor.map_or(std::ptr::null_mut::<c_void>(), Tensor::data_ptr))
}

/// Refuses an operand whose end the kernel would cross, or that is not on the GPU of `like`.
fn check(
    kernel: &'static str,
    operand: &'static str,
    tensor: &Tensor,
    like: &Tensor,
    kind: Kind,
    numel: i64,
) -> Result<(), Error> {
    check_operand(like.device().is_cuda(), (kernel, operand), tensor, like, (kind, numel))
}

/// Refuses an operand whose end the kernel would cross, or that is not on the device of `like`.
fn check_on_any_device(
    kernel: &'static str,
    operand: &'static str,
    tensor: &Tensor,
    like: &Tensor,
    kind: Kind,
    numel: i64,
) -> Result<(), Error> {
    check_operand(true, (kernel, operand), tensor, like, (kind, numel))
}

fn check_operand(
    runs_there: bool,
    (kernel, operand): (&'static str, &'static str),
    tensor: &Tensor,
    like: &Tensor,
    (kind, numel): (Kind, i64),
) -> Result<(), Error> {
    let found_kind = tensor.f_kind().map_err(|error| Error::Torch { operation: kernel, message: error.to_string() })?;
    let fits = runs_there
        && found_kind == kind
        && tensor.numel() as i64 == numel
        && tensor.is_contiguous()
        && tensor.device() == like.device();
    if fits {
        return Ok(());
    }
    Err(Error::Operand {
        kernel,
        operand,
        expected: format!("{numel} contiguous elements of {kind:?} on {:?}", like.device()),
        found: format!("{:?} of {found_kind:?} on {:?}", tensor.size(), tensor.device()),
    })
}

fn torch<T>(operation: &'static str, result: Result<T, tch::TchError>) -> Result<T, Error> {
    result.map_err(|error| Error::Torch { operation, message: error.to_string() })
}

fn empty(operation: &'static str, shape: &[i64], kind: Kind, like: &Tensor) -> Result<Tensor, Error> {
    torch(operation, Tensor::f_empty(shape, (kind, like.device())))
}

/// The element type of an operand. Kernels know float32 and bfloat16.
fn element_kind(kernel: &'static str, tensor: &Tensor) -> Result<Kind, Error> {
    match torch(kernel, tensor.f_kind())? {
        kind @ (Kind::Float | Kind::BFloat16) => Ok(kind),
        other => Err(Error::Operand {
            kernel,
            operand: "first",
            expected: "Float or BFloat16".into(),
            found: format!("{other:?}"),
        }),
    }
}

/// Runs `function` of `source` on the device of `on`. The caller has checked that the memory that
/// the kernel touches exists.
fn launch(
    source: &Source<'_>,
    function: &'static str,
    grid: Grid,
    on: &Tensor,
    arguments: &[Argument],
) -> Result<(), Error> {
    let Device::Cuda(device) = on.device() else {
        return Err(Error::Kernel { kernel: source.name, message: "needs a CUDA device".into() });
    };
    if grid.blocks == 0 {
        return Ok(());
    }
    let handle = functions::function(device, source, function)?;
    driver::launch(device, source.name, handle, grid, arguments)
}

/// The number of blocks of [`THREADS`] threads that cover `items`.
fn blocks_for(items: i64) -> i64 {
    (items + i64::from(THREADS) - 1) / i64::from(THREADS)
}

#[cfg(test)]
mod tests;
