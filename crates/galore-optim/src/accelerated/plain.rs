//! Plain answers, by tch alone.

use super::{DeviceMemory, FusedKernels};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tch::{TchError, Tensor};

/// There are no kernels.
pub(crate) fn fused_kernels(_operands: &[&Tensor]) -> Option<&'static dyn FusedKernels> {
    None
}

/// tch has no switch for TF32, so products stay in float32.
pub(crate) fn allow_tf32(_tensor: &Tensor) -> Result<Option<Infallible>, TchError> {
    Ok(None)
}

/// tch cannot measure a device's memory.
pub(crate) fn device_memory(_index: usize) -> Option<DeviceMemory> {
    None
}

/// Eigenvectors of symmetric matrices `[b, n, n]` (float32) as rows `[b, n, n]`, smallest
/// eigenvalue first.
pub(crate) fn eigenvectors(matrices: Tensor) -> Result<Tensor, TchError> {
    let (_, vectors) = matrices.f_linalg_eigh("L")?;
    vectors.f_transpose(1, 2)?.f_contiguous()
}

/// Runs `work` and turns tch's panics of calls that take a number into errors.
///
/// Such a call passes the number as a temporary `Scalar`. Its `drop` runs before the call's error
/// is read, finds that error, and panics with it. The process's panic hook still reports the panic
/// on stderr; replacing the hook is not a library's business.
pub(crate) fn catch_scalar_panic<T, E: From<TchError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    const START: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"";
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        match panic.downcast_ref::<String>().and_then(|text| text.strip_prefix(START)?.strip_suffix("\")")) {
            Some(message) => Err(TchError::Torch(message.replace("\\n", "\n")).into()),
            None => resume_unwind(panic),
        }
    })
}
