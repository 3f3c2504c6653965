//! The errors of this crate.

use std::path::{Path, PathBuf};

/// What can go wrong with a model: its files, its shapes, its values, or libtorch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's folder or one of its files is missing or unreadable.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is not valid JSON.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field of config.json is missing, has the wrong type, or asks for something that is not
    /// supported.
    #[error("{}: {field} {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field's name.
        field: String,
        /// What was found, and what is valid.
        problem: String,
    },
    /// An index of weight files is not usable.
    #[error("{}: {problem}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
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
    /// Tensors that the configuration calls for are missing in the weight files.
    #[error("{}: {} of the model's tensors missing: {}", path.display(), names.len(), list(names))]
    MissingTensors {
        /// The model's folder.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// A tensor in the weight files does not have the shape that the configuration calls for.
    #[error("{}: tensor {name} has shape {found:?}, config.json calls for {expected:?}", path.display())]
    TensorShape {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape by the configuration.
        expected: Vec<i64>,
        /// The shape in the file.
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
    /// A weight is infinite or NaN.
    #[error("{name} has a value that is not finite")]
    NotFinite {
        /// The parameter's name.
        name: String,
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
    /// A call of torch-ext failed.
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

/// The first few names. A missing shard can mean hundreds.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += ", …";
    }
    text
}
