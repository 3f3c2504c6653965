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
        /// The system's answer.
        source: std::io::Error,
    },
    /// The system has not the memory that was asked for.
    #[error("cannot get {bytes} bytes of memory: {source}")]
    Memory {
        /// How much.
        bytes: usize,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A kernel could not be compiled, loaded or launched.
    #[error("kernel {kernel}: {message}")]
    Kernel {
        /// The kernel, or what it needs.
        kernel: &'static str,
        /// What the driver or the compiler said.
        message: String,
    },
    /// An operand of a kernel has another size, type or place than it needs.
    #[error("kernel {kernel}: {operand} must be {expected}, found {found}")]
    Operand {
        /// The kernel.
        kernel: &'static str,
        /// Which one.
        operand: &'static str,
        /// What is needed.
        expected: String,
        /// What was given.
        found: String,
    },
}
