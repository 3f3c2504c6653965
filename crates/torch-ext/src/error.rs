use crate::cuda::Unavailable;
use crate::device::DeviceChoice;

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libtorch refused a call.
    #[error("{operation}: {message}")]
    Torch {
        /// The operator called.
        operation: &'static str,
        /// libtorch's message.
        message: String,
    },
    /// A file could not be opened or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Map {
        /// The file.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The system refused an allocation in host memory.
    #[error("cannot get {bytes} bytes of memory: {source}")]
    Memory {
        /// The bytes asked for.
        bytes: usize,
        /// The system's error.
        source: std::io::Error,
    },
    /// A kernel could not be compiled, loaded or launched.
    #[error("kernel {kernel}: {message}")]
    Kernel {
        /// The kernel, or the library it needs.
        kernel: &'static str,
        /// The message of the driver or the compiler.
        message: String,
    },
    /// An operand of a kernel has the wrong size, type or device.
    #[error("kernel {kernel}: {operand} must be {expected}, found {found}")]
    Operand {
        /// The kernel.
        kernel: &'static str,
        /// The operand's name.
        operand: &'static str,
        /// What the kernel needs.
        expected: String,
        /// What the caller gave.
        found: String,
    },
    /// A text does not name a device.
    #[error("{found:?} is not a device: use auto, cpu, cuda or cuda:N")]
    UnknownDevice {
        /// The text.
        found: String,
    },
    /// A CUDA device was chosen, but CUDA cannot be used.
    #[error("{choice} cannot be used: {reason}")]
    CudaUnavailable {
        /// The device.
        choice: DeviceChoice,
        /// Why.
        #[source]
        reason: Unavailable,
    },
    /// There is an NVIDIA device, but it cannot be used, and the device was to be chosen.
    #[error("there is an NVIDIA device, but {reason}; mend that, or train on the CPU with `device` cpu")]
    UnusableGpu {
        /// Why.
        #[source]
        reason: Unavailable,
    },
    /// A CUDA device was chosen that this machine does not have.
    #[error("cuda:{index} does not exist: this machine has {count} CUDA devices")]
    NoSuchDevice {
        /// The device's index.
        index: usize,
        /// The number of CUDA devices.
        count: i64,
    },
}
