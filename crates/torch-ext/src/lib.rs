//! What tch lacks: parts of libtorch that it does not bind, and what a program that uses libtorch
//! needs to know from CUDA and the operating system.
//!
//! - [`cuda`]: loads CUDA at run time, so that one binary serves machines with and without a GPU;
//!   memory statistics.
//! - [`device`]: resolves a choice such as `auto` or `cuda:1` to a device of this machine.
//! - [`host`]: memory of the machine, the process and its control group.
//! - [`kernels`]: fused kernels, compiled for the GPU of this machine when the program runs.
//! - [`eigen`]: eigenvectors of many symmetric matrices in one call.
//! - [`flash`], [`cudnn`]: variable-length flash attention and the attention of cuDNN.
//! - [`graph`]: CUDA graphs, which launch a pass over a model with one call.
//! - [`AllocationFailure`]: the figures in libtorch's message when memory runs out.
//! - [`catch_scalar_panic`]: errors of calls that take a number, where tch panics.
//! - [`HostBufferPool`], [`HostCopy`]: copies of tensors, to be written while the tensors change.
//! - [`MappedFile`]: a read-only view of a file.
//!
//! # Telling
//!
//! The crate prints nothing. It emits `tracing` events with the level `WARN` when it falls back to
//! something slower.
//!
//! # Unsafe code
//!
//! This crate calls a C++ shim (`shim/`), `dlopen`, `mmap`, functions of CUDA's libraries and its
//! own kernels.
//!
//! ```
//! // Without a GPU this is `false`, never an error.
//! let _usable = torch_ext::cuda::load();
//! ```
#![deny(missing_docs)]

mod allocation_failure;
mod attention;
mod cache_folder;
pub mod cuda;
pub mod cudnn;
pub mod device;
pub mod eigen;
mod error;
pub mod flash;
pub mod graph;
pub mod host;
mod host_buffers;
pub mod kernels;
mod mapped_file;
mod scalar_panic;
mod shim;

pub use allocation_failure::{AllocationFailure, MemoryLocation};
pub use attention::AttentionInputs;
pub use cache_folder::cache_folder;
pub use error::Error;
pub use host_buffers::{HostBufferPool, HostCopy};
pub use mapped_file::MappedFile;
pub use scalar_panic::catch_scalar_panic;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
