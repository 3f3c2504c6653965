//! What can go wrong in this crate, with the tensor, key or file concerned.

use std::path::PathBuf;
use tch::{Kind, TchError};

/// Failure of the optimizers, their configuration or their state files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `optim_args` contains an unknown key.
    #[error("optim_args: unknown key `{key}`; did you mean `{nearest}`? (known: {})", crate::optim_args::known_keys())]
    UnknownOptimArg {
        /// The key as given.
        key: String,
        /// The known key with the smallest edit distance.
        nearest: &'static str,
    },
    /// A key of `optim_args` has a value outside its range, is given twice, or has no value.
    #[error("optim_args: {key}={value}: {reason}")]
    OptimArgValue {
        /// The key.
        key: String,
        /// The value as given.
        value: String,
        /// What is expected instead.
        reason: String,
    },
    /// Fields of a configuration are out of range. All of them are listed.
    #[error("{}", problems.join("; "))]
    Config {
        /// One `field = value: fix` for each bad field.
        problems: Vec<String>,
    },
    /// A target pattern is not a regular expression.
    #[error("optim_target_modules: `{pattern}` is neither part of a module name nor a valid regular expression")]
    TargetPattern {
        /// The pattern as given.
        pattern: String,
        /// The message of the regular expression engine.
        #[source]
        source: Box<fancy_regex::Error>,
    },
    /// No linear module matches the target patterns.
    #[error("optim_target_modules: {patterns} matches none of the {num_modules} linear modules (for example {})", examples.join(", "))]
    NoTargets {
        /// The patterns as given.
        patterns: String,
        /// How many linear modules there are.
        num_modules: usize,
        /// A few of their names.
        examples: Vec<String>,
    },
    /// Two parameters have the same name.
    #[error("two parameters are named `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A weight is an undefined tensor.
    #[error("weight `{name}` is an undefined tensor")]
    UndefinedWeight {
        /// The name.
        name: String,
    },
    /// A GaLore target is neither a matrix nor a stack of matrices.
    #[error("GaLore target `{name}` must be [rows, cols] or [experts, rows, cols], found shape {shape:?}")]
    TargetNotMatrix {
        /// The target.
        name: String,
        /// Its shape.
        shape: Vec<i64>,
    },
    /// A weight cannot be updated in place as one flat range.
    #[error("weight `{name}` of shape {shape:?} is not contiguous; give a contiguous tensor or view")]
    NotContiguous {
        /// The parameter.
        name: String,
        /// Its shape.
        shape: Vec<i64>,
    },
    /// A weight or gradient has an element type that is not supported.
    #[error(
        "{what} of `{name}` is {found:?}; float32 and bfloat16 are supported, float16 except for stochastic rounding"
    )]
    UnsupportedKind {
        /// The parameter.
        name: String,
        /// `weight` or `gradient`.
        what: &'static str,
        /// The type found.
        found: Kind,
    },
    /// A gradient does not have its weight's shape.
    #[error("gradient of `{name}` has shape {found:?}, its weight {expected:?}")]
    GradientShape {
        /// The parameter.
        name: String,
        /// The weight's shape.
        expected: Vec<i64>,
        /// The gradient's shape.
        found: Vec<i64>,
    },
    /// The learning rate of a step is negative or not finite.
    #[error("learning rate {learning_rate} must be finite and not negative")]
    LearningRate {
        /// The value given.
        learning_rate: f64,
    },
    /// A gradient is not finite.
    #[error("gradient of `{name}` holds NaN or infinity; lower the learning rate, clip, or skip this step")]
    NonFiniteGradient {
        /// The parameter.
        name: String,
    },
    /// A tensor operation on one parameter failed.
    #[error("parameter `{name}`: {action} failed")]
    Parameter {
        /// The parameter.
        name: String,
        /// The action that failed.
        action: &'static str,
        /// The cause.
        #[source]
        source: TchError,
    },
    /// A tensor operation that concerns no single parameter failed.
    #[error("libtorch operation failed")]
    Torch(#[from] TchError),
    /// A state file cannot be read or written.
    #[error("optimizer state {path}: {action} failed", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The action that failed.
        action: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The settings of a state could not be written as JSON.
    #[error("the optimizer's settings could not be written")]
    Settings(#[from] serde_json::Error),
    /// The destination of a state failed.
    #[error("the optimizer's state could not be written")]
    Write(#[source] std::io::Error),
    /// A state file is not a complete safetensors file of this crate.
    #[error("optimizer state {path}: {reason}", path = path.display())]
    StateFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// A state file belongs to other parameters or another configuration.
    #[error("optimizer state {path} does not fit these parameters: {}", summary(problems), path = path.display())]
    StateMismatch {
        /// The file.
        path: PathBuf,
        /// One line for each tensor that is missing, extra, or has another shape or type.
        problems: Vec<String>,
    },
    /// A state was made with other settings, with which its numbers mean something else.
    #[error(
        "optimizer state {path} was made with other settings: {}; use the old values, or start without the state",
        differences.join(", "),
        path = path.display()
    )]
    StateSettings {
        /// The file.
        path: PathBuf,
        /// Each setting that changed: its name, both values, and the parameters concerned.
        differences: Vec<String>,
    },
}

/// The first few problems, and how many more there are.
fn summary(problems: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = problems.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    if problems.len() > SHOWN {
        text.push_str(&format!("; and {} more", problems.len() - SHOWN));
    }
    text
}

/// Adds the parameter's name to a failed tensor operation.
pub(crate) trait OnParameter<T> {
    fn for_parameter(self, name: &str, action: &'static str) -> Result<T, Error>;
}

impl<T> OnParameter<T> for Result<T, TchError> {
    fn for_parameter(self, name: &str, action: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Parameter { name: name.to_owned(), action, source })
    }
}
