use crate::hub::HubError;
use std::path::PathBuf;
use trainer_core::BoxError;

/// What can go wrong in a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work. Every problem is listed.
    #[error("{}", problems.join("; "))]
    Config {
        /// Field, value and remedy of each.
        problems: Vec<String>,
    },
    /// A file of options cannot be used.
    #[error("{problem}")]
    OptionsFile {
        /// The file and what is wrong with it.
        problem: String,
    },
    /// The output folder holds checkpoints of an earlier run.
    #[error("{source}; `resume_from_checkpoint` true resumes it")]
    EarlierRun {
        /// Which folder, and the newest checkpoint in it.
        source: checkpoint_callbacks::Error,
    },
    /// A split cannot be turned into examples.
    #[error("split {split}")]
    Split {
        /// The split's name.
        split: String,
        /// Why.
        source: sft_data::Error,
    },
    /// The tokenizer is not the model's.
    #[error(
        "split {split}: the tokenizer gave token id {token_id}, but the model's vocab_size is {vocab_size}; is it this \
         model's tokenizer?"
    )]
    TokenId {
        /// The split's name.
        split: String,
        /// The largest id.
        token_id: u32,
        /// Rows of the model's embedding.
        vocab_size: i64,
    },
    /// No example has a token to predict.
    #[error("split {split}: no row has two tokens or more, so there is nothing to predict")]
    NoTargets {
        /// The split's name.
        split: String,
    },
    /// Memory ran out, with what the configuration can change about it.
    #[error("{message}; {advice}")]
    OutOfMemory {
        /// What ran out, where, and how much was asked for.
        message: String,
        /// Options that help.
        advice: String,
    },
    /// A checkpoint has the model alone.
    #[error(
        "{} has no {}: it was saved with save_only_model; start a new run with it as `model_name`, or resume from \
         another checkpoint", checkpoint.display(), crate::optimizer::OPTIMIZER_FILE
    )]
    NoOptimizerState {
        /// Its folder.
        checkpoint: PathBuf,
    },
    /// A checkpoint belongs to another run.
    #[error(
        "{} is of another run; changed since: {}; give the same as before, or start a new run in another `output_dir`",
        checkpoint.display(), differences.join(", ")
    )]
    DifferentRun {
        /// The checkpoint's folder.
        checkpoint: PathBuf,
        /// What differs, before and now.
        differences: Vec<String>,
    },
    /// A checkpoint's `run.json` cannot be read.
    #[error("{}: {problem}", path.display())]
    RunFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Training ended, but no checkpoint reached the disk.
    #[error("none of {num_failed} checkpoints could be saved: {last_error}; the model is in {}", output_dir.display())]
    NothingSaved {
        /// Checkpoints that were tried.
        num_failed: u64,
        /// What the last one failed with.
        last_error: String,
        /// Where the model was published.
        output_dir: PathBuf,
    },
    /// Failed before the first step: nothing was trained.
    #[error(transparent)]
    NotStarted(Box<Error>),
    /// The optimizer of the caller could not be made.
    #[error("the optimizer cannot be made")]
    CustomOptimizer(#[source] BoxError),
    /// The hub, or a model's place.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The dataset, the tokenizer or their files.
    #[error(transparent)]
    Data(#[from] sft_data::Error),
    /// The model.
    #[error(transparent)]
    Model(#[from] causal_lm::Error),
    /// The optimizer.
    #[error(transparent)]
    Optimizer(#[from] galore_optim::Error),
    /// The device.
    #[error(transparent)]
    Device(#[from] torch_ext::Error),
    /// Checkpoints, the output folder or result files.
    #[error(transparent)]
    Checkpoints(#[from] checkpoint_callbacks::Error),
    /// The loop.
    #[error(transparent)]
    Loop(Box<trainer_core::Error>),
    /// A tensor operation.
    #[error(transparent)]
    Torch(#[from] tch::TchError),
    /// Data that cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl From<trainer_core::Error> for Error {
    fn from(error: trainer_core::Error) -> Self {
        Self::Loop(Box::new(error))
    }
}

impl Error {
    /// Whether the run failed before its first step, so that what has to change is its input.
    pub fn is_not_started(&self) -> bool {
        matches!(self, Self::NotStarted(_))
    }

    pub(crate) fn not_started(error: impl Into<Self>) -> Self {
        Self::NotStarted(Box::new(error.into()))
    }
}

/// An error and its causes in one line, without libtorch's back-traces.
pub fn one_line<'a>(chain: impl IntoIterator<Item = &'a (dyn std::error::Error + 'static)>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in chain {
        let text = cause.to_string();
        let text = text.split("Exception raised from").next().unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // Some errors hold the text of their source already.
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}
