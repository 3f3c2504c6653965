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
}
