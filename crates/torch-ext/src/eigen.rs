//! Eigenvectors of many symmetric matrices in one call.
//!
//! libtorch 2.11 passes a batch to cuSOLVER matrix by matrix: 11 ms each at order 1024 on an H100,
//! 8.5 ms at order 256. cuSOLVER's own batched solver takes 2.8 and 0.12 ms. It is in the library
//! that libtorch's CUDA half brings along. Where it cannot be found (before CUDA 12.7), and on the
//! CPU, this module uses libtorch's solver.

use crate::Error;
use crate::cuda::library::foreign_library;
use crate::kernels::driver;
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};
use tch::{Device, Kind, Tensor};

const OPERATION: &str = "eigenvectors";

/// Returns the eigenvectors of symmetric matrices `[batch, n, n]`, float32, as rows
/// `[batch, n, n]`, smallest eigenvalue first. For a matrix with NaN the result is undefined, or an
/// error.
///
/// The function takes ownership of the matrices, because on a GPU the vectors may overwrite them.
/// It needs four times their memory in addition while it runs.
///
/// # Errors
/// [`Error::Operand`] for another shape or type, [`Error::Torch`] when the solver fails or runs out
/// of memory.
pub fn eigenvectors(matrices: Tensor) -> Result<Tensor, Error> {
    let shape = matrices.size();
    let (&[batch, n, columns], Ok(Kind::Float)) = (&shape[..], matrices.f_kind()) else {
        return Err(refused(&shape));
    };
    if n != columns {
        return Err(refused(&shape));
    }
    if let Device::Cuda(device) = matrices.device()
        && batch > 0
        && n > 0
        && let Some(solver) = solver()
    {
        return batched(solver, matrices, device, batch, n);
    }
    let vectors = matrices.f_linalg_eigh("L").and_then(|(_, vectors)| vectors.f_transpose(1, 2));
    vectors.and_then(|vectors| vectors.f_contiguous()).map_err(torch)
}

fn refused(shape: &[i64]) -> Error {
    Error::Operand {
        kernel: OPERATION,
        operand: "matrices",
        expected: "Float of shape [batch, n, n]".to_owned(),
        found: format!("{shape:?}"),
    }
}

fn torch(error: tch::TchError) -> Error {
    Error::Torch { operation: OPERATION, message: error.to_string() }
}

fn failed(message: String) -> Error {
    Error::Torch { operation: OPERATION, message }
}

/// Zero for success. An integer and not an enum: a newer library has codes of its own.
type Status = c_int;
type Handle = *mut c_void;
type Parameters = *mut c_void;
type DataType = c_int;

foreign_library! {
    /// The functions of cusolverDn.h that are needed.
    struct Solver, names ["libcusolver.so.12", "libcusolver.so.11"], like cudarc::cusolver::sys;
    fn cusolverDnCreate(handle: *mut Handle) -> Status;
    fn cusolverDnCreateParams(parameters: *mut Parameters) -> Status;
    fn cusolverDnSetStream(handle: Handle, stream: *mut c_void) -> Status;
    fn cusolverDnXsyevBatched_bufferSize(
        handle: Handle,
        parameters: Parameters,
        mode: c_int,
        triangle: c_int,
        n: i64,
        matrix_type: DataType,
        matrices: *const c_void,
        leading_dimension: i64,
        value_type: DataType,
        values: *const c_void,
        compute_type: DataType,
        device_bytes: *mut usize,
        host_bytes: *mut usize,
        batch: i64,
    ) -> Status;
    fn cusolverDnXsyevBatched(
        handle: Handle,
        parameters: Parameters,
        mode: c_int,
        triangle: c_int,
        n: i64,
        matrix_type: DataType,
        matrices: *mut c_void,
        leading_dimension: i64,
        value_type: DataType,
        values: *mut c_void,
        compute_type: DataType,
        device_buffer: *mut c_void,
        device_bytes: usize,
        host_buffer: *mut c_void,
        host_bytes: usize,
        info: *mut c_int,
        batch: i64,
    ) -> Status;
}

fn solver() -> Option<&'static Solver> {
    static SOLVER: OnceLock<Option<Solver>> = OnceLock::new();
    // Without it libtorch's solver gives the same result more slowly, so the reason does not
    // matter.
    SOLVER.get_or_init(|| Solver::open().ok()).as_ref()
}

fn check(call: &str, status: Status) -> Result<(), Error> {
    if status == 0 { Ok(()) } else { Err(failed(format!("{call} returned status {status}"))) }
}

/// Handle and parameters for a device. They are kept, because making them takes tens of
/// milliseconds.
fn handles(solver: &Solver, device: usize) -> Result<(Handle, Parameters), Error> {
    static KNOWN: Mutex<Vec<(usize, usize, usize)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, handle, parameters)) = known.iter().find(|(index, ..)| *index == device) {
        return Ok((*handle as Handle, *parameters as Parameters));
    }
    let (mut handle, mut parameters) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: both pointers are valid for the calls; the caller has made the device's context
    // current.
    unsafe {
        check("cusolverDnCreate", solver.cusolverDnCreate(&mut handle))?;
        check("cusolverDnCreateParams", solver.cusolverDnCreateParams(&mut parameters))?;
    }
    known.push((device, handle as usize, parameters as usize));
    Ok((handle, parameters))
}

fn batched(solver: &Solver, matrices: Tensor, device: usize, batch: i64, n: i64) -> Result<Tensor, Error> {
    const WITH_VECTORS: c_int = 1;
    const LOWER: c_int = 0;
    const FLOAT32: c_int = 0;
    // One thread at a time, because a handle belongs to one stream.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // The vectors replace the matrices. The solver stores columns one after the other, so its
    // columns are the rows here.
    let vectors = { matrices }.f_contiguous().map_err(torch)?;
    let on_device = |shape: &[i64], kind| Tensor::f_empty(shape, (kind, vectors.device())).map_err(torch);
    let values = on_device(&[batch, n], Kind::Float)?;
    let info = Tensor::f_zeros([batch], (Kind::Int, vectors.device())).map_err(torch)?;
    let stream = driver::current_stream(device)?;
    driver::within(OPERATION, device, || {
        let (handle, parameters) = handles(solver, device)?;
        let (mut device_bytes, mut host_bytes) = (0, 0);
        // SAFETY: the handle belongs to this device; the tensors live, are on this device and have
        // the sizes that the arguments say.
        unsafe {
            check("cusolverDnSetStream", solver.cusolverDnSetStream(handle, stream))?;
            let status = solver.cusolverDnXsyevBatched_bufferSize(
                handle,
                parameters,
                WITH_VECTORS,
                LOWER,
                n,
                FLOAT32,
                vectors.data_ptr(),
                n,
                FLOAT32,
                values.data_ptr(),
                FLOAT32,
                &mut device_bytes,
                &mut host_bytes,
                batch,
            );
            check("cusolverDnXsyevBatched_bufferSize", status)?;
        }
        let bytes = i64::try_from(device_bytes.max(1)).unwrap_or(i64::MAX);
        let (device_buffer, mut host_buffer) = (on_device(&[bytes], Kind::Uint8)?, vec![0u8; host_bytes]);
        // SAFETY: as above, and both buffers have the size that the solver asked for. Device memory
        // is freed in the order of the stream that the work goes to. The host's part is finished
        // when the call returns.
        let status = unsafe {
            solver.cusolverDnXsyevBatched(
                handle,
                parameters,
                WITH_VECTORS,
                LOWER,
                n,
                FLOAT32,
                vectors.data_ptr(),
                n,
                FLOAT32,
                values.data_ptr(),
                FLOAT32,
                device_buffer.data_ptr(),
                device_buffer.numel(),
                host_buffer.as_mut_ptr().cast(),
                host_buffer.len(),
                info.data_ptr().cast(),
                batch,
            )
        };
        check("cusolverDnXsyevBatched", status)
    })?;
    // This waits for the device. Compared with a decomposition the wait costs nothing.
    match info.f_abs().and_then(|info| info.f_max()).and_then(|worst| worst.f_int64_value(&[])).map_err(torch)? {
        0 => Ok(vectors),
        worst => Err(failed(format!("the solver did not converge (info {worst})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symmetric matrices whose eigenvalues fall by ten orders of magnitude.
    fn matrices(batch: i64, n: i64, device: Device) -> Tensor {
        let options = (Kind::Double, Device::Cpu);
        let tall = (Tensor::arange(batch * n * n, options) + 1.0).sin().view([batch, n, n])
            * Tensor::logspace(0.0, -5.0, n, 10.0, options);
        tall.transpose(1, 2).matmul(&tall).to_kind(Kind::Float).to_device(device)
    }

    #[test]
    fn rows_are_eigenvectors_in_ascending_order() {
        let devices = [Some(Device::Cpu), crate::cuda::load().then_some(Device::Cuda(0))];
        for device in devices.into_iter().flatten() {
            for (batch, n) in [(1, 1), (3, 5), (2, 40), (2, 300)] {
                let matrices = matrices(batch, n, device);
                let vectors = eigenvectors(matrices.copy()).unwrap().to_kind(Kind::Double);
                let wide = matrices.to_kind(Kind::Double);
                let rotated = vectors.matmul(&wide).matmul(&vectors.transpose(1, 2));
                let values = rotated.diagonal(0, 1, 2);
                let largest = values.max().double_value(&[]);
                let rest = (rotated - Tensor::diag_embed(&values, 0, 1, 2)).abs().max().double_value(&[]);
                assert!(rest < 1e-5 * largest, "{device:?} {batch} {n}: {rest:e} beside {largest:e}");
                let identity = Tensor::eye(n, (Kind::Double, device));
                let off = (vectors.matmul(&vectors.transpose(1, 2)) - identity).abs().max().double_value(&[]);
                assert!(off < 1e-5, "{device:?} {batch} {n}: {off:e}");
                let falls = (values.narrow(1, 1, n - 1) - values.narrow(1, 0, n - 1)).f_clamp_max(0.0).unwrap();
                let falls = if n > 1 { falls.abs().max().double_value(&[]) } else { 0.0 };
                assert!(falls < 1e-6 * largest, "{device:?} {batch} {n}: {falls:e}");
            }
        }
    }

    #[test]
    fn signatures_are_those_of_the_header() {
        Solver::assert_signatures();
    }

    #[test]
    fn what_is_not_a_batch_of_square_matrices_is_refused() {
        for shape in [&[4, 4][..], &[2, 3, 4], &[3]] {
            let error = eigenvectors(Tensor::zeros(shape, (Kind::Float, Device::Cpu))).unwrap_err();
            assert!(error.to_string().contains("[batch, n, n]"), "{error}");
        }
        assert!(eigenvectors(Tensor::zeros([1, 3, 3], (Kind::Double, Device::Cpu))).is_err());
    }
}
