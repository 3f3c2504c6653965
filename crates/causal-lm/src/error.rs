//! The errors of this crate.

use crate::untrusted::text::Visible;
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
    #[error("{}: {} {}", path.display(), Visible(field), Visible(problem))]
    Config {
        /// The file.
        path: PathBuf,
        /// The field's name.
        field: String,
        /// What was found, and what is valid.
        problem: String,
    },
    /// An index of weight files is not usable.
    #[error("{}: {}", path.display(), Visible(problem))]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A safetensors file is damaged.
    #[error("{} is not a complete safetensors file: {}", path.display(), Visible(problem))]
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
    #[error("{}: tensor {} has shape {found:?}, config.json calls for {expected:?}", path.display(), Visible(name))]
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
    #[error("{}: tensor {} is {found}; float32, bfloat16 and float16 are supported", path.display(), Visible(name))]
    TensorType {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The type in the file.
        found: String,
    },
    /// A tensor in the weight files has values that are infinite or NaN.
    #[error(
        "{}: tensor {} has values that are NaN or infinite as {dtype}, so nothing can be learned: use an undamaged copy \
         of the model, or a type with a wider range", path.display(), Visible(name)
    )]
    TensorNotFinite {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The type in which the weights are held.
        dtype: String,
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
    let mut text = names.iter().take(SHOWN).map(|name| Visible(name).to_string()).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += ", …";
    }
    text
}
