//! What libtorch's allocator holds on a GPU.

use super::device_index;
use crate::{Error, shim};

/// Bytes held by tensors on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStats {
    /// Bytes held now.
    pub current_bytes: u64,
    /// The highest number of bytes held since the process began, or since [`reset_peak_memory`].
    pub peak_bytes: u64,
}

/// Returns the bytes that tensors hold on CUDA device `index`.
///
/// # Errors
/// [`Error::Torch`] without CUDA, or when there is no such device.
pub fn memory(index: usize) -> Result<MemoryStats, Error> {
    let (mut current, mut peak) = (0, 0);
    // SAFETY: both pointers are valid for the call.
    let message = unsafe { shim::torch_ext_cuda_memory(device_index(index), &mut current, &mut peak) };
    shim::check("cuda_memory", message)?;
    Ok(MemoryStats { current_bytes: u64::try_from(current).unwrap_or(0), peak_bytes: u64::try_from(peak).unwrap_or(0) })
}

/// Returns the bytes that tensors could still take on CUDA device `index`: what the driver has
/// free, and what the allocator holds unused. Other processes may take the driver's part first.
///
/// # Errors
/// [`Error::Torch`] without CUDA, or when there is no such device.
pub fn available_memory(index: usize) -> Result<u64, Error> {
    let mut bytes = 0;
    // SAFETY: the pointer is valid for the call.
    let message = unsafe { shim::torch_ext_cuda_available(device_index(index), &mut bytes) };
    shim::check("cuda_available", message)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Returns to the driver what libtorch holds unused on all CUDA devices.
///
/// The call waits for the devices, and the next allocations take longer.
///
/// # Errors
/// [`Error::Torch`] without CUDA.
pub fn release_unused_memory() -> Result<(), Error> {
    // SAFETY: takes no pointer.
    shim::check("cuda_release_unused", unsafe { shim::torch_ext_cuda_release_unused() })
}

/// Sets the peak of [`memory`] to the bytes held now.
///
/// # Errors
/// [`Error::Torch`] without CUDA, or when there is no such device.
pub fn reset_peak_memory(index: usize) -> Result<(), Error> {
    // SAFETY: takes no pointer.
    let message = unsafe { shim::torch_ext_cuda_reset_peak(device_index(index)) };
    shim::check("cuda_reset_peak", message)
}
