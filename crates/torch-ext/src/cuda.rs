//! CUDA, loaded when the program starts rather than when it is built.
//!
//! The binary links only libtorch's CPU part. `libtorch_cuda.so` registers its kernels when it is
//! loaded, so a GPU needs nothing more than [`load`] or [`load_from`] before the first tensor is
//! made. The rest of this module is what a program needs to know about a GPU, or to set there,
//! and tch has no call for.

pub(crate) mod library;
mod loading;
mod memory;
mod tf32;

use crate::{Error, shim};
pub use loading::{Unavailable, has_driver, load, load_from};
pub use memory::{MemoryStats, available_memory, memory, release_unused_memory, reset_peak_memory};
use tch::Tensor;
pub use tf32::AllowTf32;

/// Copies a tensor to pinned host memory, which CUDA device `index` reads by itself while the host
/// continues. A tensor that is in pinned memory already is returned as it is.
///
/// tch's own call does the same, but libtorch prints a warning each time.
///
/// # Errors
/// [`Error::Torch`] without CUDA, or when the device's index is out of range.
pub fn pinned(tensor: &Tensor, index: usize) -> Result<Tensor, Error> {
    // SAFETY: the pointer is that of a live `at::Tensor` for the length of the call, which makes
    // one tensor.
    let [copy] = unsafe {
        shim::new_tensors("pin_memory", |outputs| {
            shim::torch_ext_pin_memory(outputs, tensor.as_ptr().cast(), device_index(index))
        })?
    };
    Ok(copy)
}

/// Waits until CUDA device `index` has finished all its work. tch's own call panics where this one
/// returns an error.
///
/// # Errors
/// [`Error::Torch`] with the error of any work done since the last wait, or without CUDA.
pub fn synchronize(index: usize) -> Result<(), Error> {
    // SAFETY: takes no pointer.
    let message = unsafe { shim::torch_ext_cuda_synchronize(device_index(index)) };
    shim::check("cuda_synchronize", message)
}

/// libtorch refuses the index that stands for a number out of range.
fn device_index(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_without_cuda_are_an_error() {
        if !load() {
            assert!(memory(0).is_err());
            assert!(reset_peak_memory(0).is_err());
            assert!(available_memory(0).is_err());
            assert!(synchronize(0).is_err());
            assert!(release_unused_memory().is_err());
        }
    }

    #[test]
    fn what_is_pinned_is_the_same_and_without_cuda_an_error() {
        // CUDA is loaded first: after a question about CUDA, libtorch ignores what is loaded later.
        let has_cuda = load();
        let tensor = Tensor::from_slice(&[3i64, 1, 4]);
        match pinned(&tensor, 0) {
            Ok(copy) => assert!(has_cuda && copy.data_ptr() != tensor.data_ptr() && copy.equal(&tensor)),
            Err(error) => assert!(!has_cuda && error.to_string().starts_with("pin_memory: "), "{error}"),
        }
    }
}
