//! The error type of the crate. The message of every variant is one line: what was found, where,
//! and what to do.

use crate::{ArgumentProblem, OutOfMemory, SaveStrategy};
use std::path::PathBuf;

/// The error type of the traits that users implement. Any error converts into it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run could not start, continue, or resume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Some arguments cannot be used.
    #[error("{}", join(problems))]
    Arguments {
        /// All problems.
        problems: Vec<ArgumentProblem>,
    },
    /// A split has no rows, or the arguments need a split that is not there.
    #[error("the {split} split has no rows: give it at least one")]
    EmptySplit {
        /// `training` or `evaluation`.
        split: &'static str,
    },
    /// The evaluation split has no token to predict.
    #[error("the evaluation split has no target tokens, so there is no eval_loss: check its labels and max_length")]
    NoEvaluationTargets,
    /// The arguments ask for checkpoints, and there is no store for them.
    #[error(
        "save_strategy is {save_strategy}, but the trainer has no checkpoint store: give it one, or set save_strategy to no"
    )]
    MissingStore {
        /// When checkpoints are to be saved.
        save_strategy: SaveStrategy,
    },
    /// A callback asked for a checkpoint, and there is no store for it.
    #[error("a callback asked for a checkpoint at step {step}, but the trainer has no checkpoint store")]
    SaveWithoutStore {
        /// The optimizer step after which it asked.
        step: u64,
    },
    /// A callback asked for an evaluation, and there is no evaluation split.
    #[error("a callback asked for an evaluation at step {step}, but the trainer has no evaluation split")]
    NoEvaluationSplit {
        /// The optimizer step after which it asked.
        step: u64,
    },
    /// Reading a batch failed.
    #[error("reading micro-batch {micro_batch} of epoch {epoch} ({split}) failed: {source}")]
    Data {
        /// `training` or `evaluation`.
        split: &'static str,
        /// Counted from 0.
        epoch: u64,
        /// Counted from 0 within the epoch.
        micro_batch: usize,
        /// The error of the source.
        source: BoxError,
    },
    /// A source has fewer batches than it announced.
    #[error("epoch {epoch} of the training split ended after {found} of {expected} micro-batches")]
    ShortEpoch {
        /// Counted from 0.
        epoch: u64,
        /// Micro-batches that there were.
        found: usize,
        /// Micro-batches announced by [`crate::BatchSource::num_batches`].
        expected: usize,
    },
    /// A method of the learner failed.
    #[error("{action} failed at step {step}: {source}")]
    Learner {
        /// What the learner was doing.
        action: &'static str,
        /// The optimizer step, counted from 1.
        step: u64,
        /// The error of the learner.
        source: BoxError,
    },
    /// The learner returned another number of step records than it took steps.
    #[error("the learner returned {found} step records for {expected} steps up to step {step}")]
    StepRecords {
        /// The last optimizer step.
        step: u64,
        /// Records returned.
        found: usize,
        /// Steps taken.
        expected: usize,
    },
    /// The loss or the gradient norm of a step is NaN or infinite, and no more steps may be
    /// skipped. [`max_bad_steps`](crate::TrainingArguments::max_bad_steps) is the limit.
    #[error(
        "{quantity} is {value} at step {step}{}{}: lower learning_rate, lengthen the warm-up, or look at those rows; {}",
        nth_in_a_row(*in_a_row), on_rows(rows), last_checkpoint(checkpoint.as_ref())
    )]
    BadSteps {
        /// `loss` or `grad_norm`.
        quantity: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The optimizer step, counted from 1.
        step: u64,
        /// Steps in a row that were not finite, with this one.
        in_a_row: u64,
        /// The numbers of the rows of the step in the dataset. Empty if the source does not number
        /// its rows.
        rows: Vec<u64>,
        /// The last checkpoint. Its weights are finite.
        checkpoint: Option<PathBuf>,
    },
    /// The loss of an evaluation is NaN or infinite.
    #[error(
        "eval_loss is {value} at step {step}: lower learning_rate, lengthen the warm-up, or look at the evaluation rows; {}",
        last_checkpoint(checkpoint.as_ref())
    )]
    NonFiniteEvaluation {
        /// NaN or an infinity.
        value: f64,
        /// The optimizer step.
        step: u64,
        /// The last checkpoint. Its weights are finite.
        checkpoint: Option<PathBuf>,
    },
    /// Memory ran out in a forward and backward or in an evaluation.
    #[error("{action} at step {step} with {rows} rows in a batch: {source}")]
    OutOfMemory {
        /// What the learner was doing.
        action: &'static str,
        /// The optimizer step, counted from 1.
        step: u64,
        /// The largest number of rows in a batch.
        rows: usize,
        /// How much was asked for, and how much there was.
        source: OutOfMemory,
    },
    /// Memory ran out in an update. Some weights may have been updated and others not, so the run
    /// cannot continue, not even with smaller batches.
    #[error(
        "the optimizer step at step {step}: {source}; the update is half done, so the run ends here, and {}",
        last_checkpoint(checkpoint.as_ref())
    )]
    OutOfMemoryInUpdate {
        /// The optimizer step, counted from 1.
        step: u64,
        /// The last checkpoint, saved before this step.
        checkpoint: Option<PathBuf>,
        /// How much was asked for, and how much there was.
        source: OutOfMemory,
    },
    /// A batch cannot be split into smaller ones.
    #[error("the {split} batches cannot be made smaller: {source}")]
    SplitBatch {
        /// `training` or `evaluation`.
        split: &'static str,
        /// The error of the source.
        source: BoxError,
    },
    /// A weight of the model is NaN or infinite, although the losses are finite.
    #[error(
        "the model is not finite after step {step}: {source}; lower learning_rate or lengthen the warm-up. It was not saved; {}",
        last_checkpoint(checkpoint.as_ref())
    )]
    NonFiniteModel {
        /// The optimizer step.
        step: u64,
        /// The last checkpoint. Its weights are finite.
        checkpoint: Option<PathBuf>,
        /// What the learner found.
        source: BoxError,
    },
    /// A callback failed.
    #[error("callback {callback} failed in {event}: {source}{}", to_resume_from(checkpoint.as_ref(), best.as_ref()))]
    Callback {
        /// Its [`crate::Callback::name`].
        callback: String,
        /// The event it was called for.
        event: &'static str,
        /// The error of the callback.
        source: BoxError,
        /// The newest complete checkpoint.
        checkpoint: Option<PathBuf>,
        /// The checkpoint of the best evaluation.
        best: Option<PathBuf>,
    },
    /// A checkpoint could not be written. It does not end the run: this is the message of
    /// `save_error` in the log history.
    #[error("saving the checkpoint of step {step} failed: {source}")]
    Save {
        /// The optimizer step.
        step: u64,
        /// The error of the store or of the learner.
        source: BoxError,
    },
    /// A run with these arguments and this data cannot resume from the checkpoint.
    #[error("cannot resume from {}: {}", .path.display(), changes.join("; "))]
    ResumeMismatch {
        /// The checkpoint.
        path: PathBuf,
        /// Each change, with the old and the new value.
        changes: Vec<String>,
    },
    /// A file of a checkpoint holds a value that no run can have written.
    #[error("{}: {field} is {value}, but {expected}; resume from another checkpoint", .path.display())]
    SavedValue {
        /// The file.
        path: PathBuf,
        /// The field in it.
        field: &'static str,
        /// The value of the field.
        value: String,
        /// What the field must be.
        expected: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file does not hold the JSON that it should.
    #[error("{}: {source}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The place in the file and the reason.
        source: serde_json::Error,
    },
}

fn nth_in_a_row(in_a_row: u64) -> String {
    if in_a_row > 1 { format!(", the last of {in_a_row} steps in a row that are not finite") } else { String::new() }
}

fn on_rows(rows: &[u64]) -> String {
    const SHOWN: usize = 64;
    if rows.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = rows.iter().take(SHOWN).map(u64::to_string).collect();
    let more = rows.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(", rows {}{more} of the training split", shown.join(", "))
}

/// The end of a message: the checkpoint that a user can resume from.
pub(crate) fn last_checkpoint(path: Option<&PathBuf>) -> String {
    path.map_or_else(
        || "no checkpoint was saved before".to_owned(),
        |path| format!("the last good checkpoint is {}", path.display()),
    )
}

/// The end of a message about something other than the model: the checkpoints of the run, if there
/// are any.
fn to_resume_from(newest: Option<&PathBuf>, best: Option<&PathBuf>) -> String {
    let best = best.filter(|best| Some(*best) != newest);
    match (newest, best) {
        (None, None) => String::new(),
        (Some(path), None) | (None, Some(path)) => format!("; the last good checkpoint is {}", path.display()),
        (Some(newest), Some(best)) => {
            format!("; the last good checkpoint is {}, the best one is {}", newest.display(), best.display())
        }
    }
}

impl Error {
    /// Adds the checkpoints that a user can resume from to the error of a callback.
    pub(crate) fn with_checkpoints(self, newest: Option<&PathBuf>, best_one: Option<&PathBuf>) -> Self {
        match self {
            Self::Callback { callback, event, source, .. } => {
                Self::Callback { callback, event, source, checkpoint: newest.cloned(), best: best_one.cloned() }
            }
            other => other,
        }
    }
}

fn join(problems: &[ArgumentProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
