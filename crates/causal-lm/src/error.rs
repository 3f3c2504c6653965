use std::path::{Path, PathBuf};

/// What can go wrong with a model: its files, its shapes, or libtorch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's folder or one of its files is missing or unreadable.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file has no valid JSON where JSON is due.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field of config.json is missing, of the wrong type, or asks for what is not supported.
    #[error("{}: {field} {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field's name.
        field: String,
        /// What was found and what would do.
        problem: String,
    },
    /// A safetensors file is damaged.
    #[error("{} is not a complete safetensors file: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The weight files lack tensors that the configuration calls for.
    #[error("{}: {} of the model's tensors missing: {}", path.display(), names.len(), list(names))]
    MissingTensors {
        /// The model's folder.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// A tensor in the weight files has not the shape that the configuration calls for.
    #[error("{}: tensor {name} has shape {found:?}, config.json calls for {expected:?}", path.display())]
    TensorShape {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// By the configuration.
        expected: Vec<i64>,
        /// In the file.
        found: Vec<usize>,
    },
    /// A tensor in the weight files has a type that weights cannot have.
    #[error("{}: tensor {name} is {found}; float32, bfloat16 and float16 are supported", path.display())]
    TensorType {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The type in the file.
        found: String,
    },
    /// An operation was given tensors or rows that do not fit.
    #[error("{operation}: expected {expected}, found {found}")]
    Shape {
        /// The operation.
        operation: &'static str,
        /// What it takes.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// A call into libtorch failed.
    #[error(transparent)]
    Torch(#[from] tch::TchError),
    /// A call that tch lacks failed.
    #[error(transparent)]
    TorchExt(#[from] torch_ext::Error),
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}

/// The first few names: a missing shard can miss hundreds.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += ", …";
    }
    text
}
