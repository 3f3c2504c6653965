//! Everything that can go wrong here, with the tensor, key or file it concerns.

use std::path::PathBuf;
use tch::{Kind, TchError};

/// Failure of the optimizers, their configuration or their state files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `optim_args` holds a key that GaLore does not have.
    #[error(
        "optim_args: unknown key `{key}`; did you mean `{nearest}`? (known: rank, update_proj_gap, scale, proj_type)"
    )]
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
        /// What is wanted instead.
        reason: String,
    },
    /// Fields of a configuration are out of range; all of them are listed.
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
        /// What the regular expression engine says.
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
    /// Two parameters have one name.
    #[error("two parameters are named `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A weight is a tensor without content.
    #[error("weight `{name}` is an undefined tensor")]
    UndefinedWeight {
        /// The name.
        name: String,
    },
    /// GaLore projects matrices only.
    #[error("GaLore target `{name}` must be 2-D, found shape {shape:?}")]
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
    /// A gradient holds what is not finite, so there is no subspace of it.
    #[error("no subspace for `{name}`: its gradient holds NaN or infinity")]
    NonFiniteGradient {
        /// The target.
        name: String,
    },
    /// A tensor operation on one parameter failed.
    #[error("parameter `{name}`: {action} failed")]
    Parameter {
        /// The parameter.
        name: String,
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: TchError,
    },
    /// A tensor operation on no parameter in particular failed.
    #[error("libtorch operation failed")]
    Torch(#[from] TchError),
    /// A call that tch lacks failed.
    #[error(transparent)]
    TorchExt(#[from] torch_ext::Error),
    /// A state file cannot be read or written.
    #[error("optimizer state {path}: {action} failed", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// What a state was being written to failed.
    #[error("the optimizer's state could not be written")]
    Write(#[source] std::io::Error),
    /// A state file is not a complete safetensors file of this crate.
    #[error("optimizer state {path}: {reason}", path = path.display())]
    StateFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
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

/// Names the parameter in a failed tensor operation.
pub(crate) trait OnParameter<T> {
    fn on(self, name: &str, action: &'static str) -> Result<T, Error>;
}

impl<T> OnParameter<T> for Result<T, TchError> {
    fn on(self, name: &str, action: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Parameter { name: name.to_owned(), action, source })
    }
}
