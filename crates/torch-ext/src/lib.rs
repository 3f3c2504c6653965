//! What tch lacks and this project needs from libtorch and the operating system.
//!
//! - [`cuda`]: loads CUDA at run time, so that one binary serves machines with and without a GPU;
//!   memory statistics.
//! - [`kernels`]: fused kernels, compiled for the GPU at hand when the program runs.
//! - [`eigen`]: eigenvectors of many symmetric matrices in one call.
//! - [`flash`], [`cudnn`]: variable-length flash attention and that of cuDNN, whose forwards tch's
//!   generated bindings leave out.
//! - [`graph`]: CUDA graphs, a pass over a model in one call of the host.
//! - [`OutOfMemory`]: what libtorch's message says of memory that could not be had.
//! - [`catch_scalar_panic`]: errors of calls that take a number, where tch panics.
//! - [`HostMemory`], [`HostCopy`]: tensors' bytes in memory of their own, to be written while the
//!   tensors change.
//! - [`MappedFile`]: a read-only view of a file, for weights that need not be read twice.
//!
//! This is the only crate of the workspace with unsafe code: thin calls into a C++ shim
//! (`shim/shim.cpp`), `dlopen`, `mmap`, and launches of our own kernels.
//!
//! ```
//! // Without a GPU this is `false`, never an error.
//! let _usable = torch_ext::cuda::load();
//! # Ok::<(), torch_ext::Error>(())
//! ```
#![deny(missing_docs)]

pub mod cuda;
pub mod cudnn;
pub mod eigen;
mod error;
pub mod flash;
pub mod graph;
mod host_copy;
pub mod kernels;
mod mapped_file;
mod out_of_memory;
mod scalar_panic;
mod shim;

pub use error::Error;
pub use host_copy::{HostCopy, HostMemory};
pub use mapped_file::MappedFile;
pub use out_of_memory::{OutOfMemory, Place};
pub use scalar_panic::catch_scalar_panic;

/// The folder of the project inside the user's cache (`$XDG_CACHE_HOME` or `~/.cache`), where
/// set-up keeps libtorch.
pub fn cache_dir() -> Option<std::path::PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(base) => std::path::PathBuf::from(base),
        None => std::path::PathBuf::from(std::env::var_os("HOME").filter(|value| !value.is_empty())?).join(".cache"),
    };
    Some(base.join("train_and_save"))
}
