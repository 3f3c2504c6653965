//! The crate's error type. Every variant is one line on the terminal: what was found, where, and
//! what to do.

use crate::{ArgumentProblem, OutOfMemory};
use std::path::PathBuf;

/// The error type of the traits users implement; anything fits in it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run could not start, go on, or resume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One or more arguments are unusable; all of them are listed.
    #[error("{}", join(problems))]
    Arguments {
        /// Every problem found.
        problems: Vec<ArgumentProblem>,
    },
    /// A split has nothing in it.
    #[error("the {split} split has no rows: give it at least one")]
    EmptySplit {
        /// `training` or `evaluation`.
        split: &'static str,
    },
    /// The evaluation split has no token to predict.
    #[error("the evaluation split has no target tokens, so there is no eval_loss: check its labels and max_length")]
    NoEvaluationTargets,
    /// A callback asked for an evaluation and there is no split for it.
    #[error("an evaluation was asked for at step {step}, but the run has no evaluation split")]
    NoEvaluationSplit {
        /// The optimizer step after which it was asked for.
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
        /// What the source said.
        source: BoxError,
    },
    /// A source ended before the number of batches it announced.
    #[error("epoch {epoch} of the training split ended after {found} of {expected} micro-batches")]
    ShortEpoch {
        /// Counted from 0.
        epoch: u64,
        /// Micro-batches that came.
        found: usize,
        /// Micro-batches announced by [`crate::BatchSource::num_batches`].
        expected: usize,
    },
    /// The learner failed.
    #[error("{action} failed at step {step}: {source}")]
    Learner {
        /// What it was doing.
        action: &'static str,
        /// The optimizer step, counted from 1.
        step: u64,
        /// What the learner said.
        source: BoxError,
    },
    /// The learner returned more or fewer step records than steps were taken.
    #[error("the learner returned {found} step records for {expected} steps up to step {step}")]
    StepRecords {
        /// The last optimizer step.
        step: u64,
        /// Records returned.
        found: usize,
        /// Steps taken.
        expected: usize,
    },
    /// The loss or the gradient norm of a step is NaN or infinite, and so were those of as many
    /// steps before it as may be skipped.
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
        /// Steps up to this one that were not finite.
        in_a_row: u64,
        /// The rows of the step, by their numbers in the dataset; empty if the source does not
        /// number them.
        rows: Vec<u64>,
        /// The last checkpoint, saved before the first of these steps or between them; it is
        /// finite.
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
        /// The last checkpoint; it is finite.
        checkpoint: Option<PathBuf>,
    },
    /// Memory ran out.
    #[error("{action} at step {step} with {rows} rows in a batch: {source}")]
    OutOfMemory {
        /// What the learner was doing.
        action: &'static str,
        /// The optimizer step, counted from 1.
        step: u64,
        /// The most rows in a batch.
        rows: usize,
        /// What there was and what was asked for.
        source: OutOfMemory,
    },
    /// Memory ran out in an update. Some parameters may have been updated and others not, so there
    /// is no going on from here, with smaller batches or without.
    #[error(
        "the optimizer step at step {step}: {source}; the update is half done, so the run ends here, and {}",
        last_checkpoint(checkpoint.as_ref())
    )]
    OutOfMemoryInUpdate {
        /// The optimizer step, counted from 1.
        step: u64,
        /// The last checkpoint, saved before this step.
        checkpoint: Option<PathBuf>,
        /// What there was and what was asked for.
        source: OutOfMemory,
    },
    /// A batch cannot be split into smaller ones.
    #[error("the {split} batches cannot be made smaller: {source}")]
    SplitBatch {
        /// `training` or `evaluation`.
        split: &'static str,
        /// What the source said.
        source: BoxError,
    },
    /// The model is not finite, although the losses are.
    #[error(
        "the model is not finite after step {step}: {source}; lower learning_rate or lengthen the warm-up. It was not saved; {}",
        last_checkpoint(checkpoint.as_ref())
    )]
    NonFiniteModel {
        /// The optimizer step.
        step: u64,
        /// The last checkpoint; it is finite.
        checkpoint: Option<PathBuf>,
        /// What the learner found.
        source: BoxError,
    },
    /// A callback failed.
    #[error("callback {callback} failed in {event}: {source}")]
    Callback {
        /// Its [`crate::Callback::name`].
        callback: String,
        /// The event it was called for.
        event: &'static str,
        /// What it said.
        source: BoxError,
    },
    /// A checkpoint could not be written.
    #[error("saving the checkpoint of step {step} failed: {source}")]
    Save {
        /// The optimizer step.
        step: u64,
        /// What the store or the learner said.
        source: BoxError,
    },
    /// A checkpoint cannot be continued with these arguments or this data.
    #[error("cannot resume from {}: {}", .path.display(), changes.join("; "))]
    ResumeMismatch {
        /// The checkpoint.
        path: PathBuf,
        /// Each change, with the old and the new value.
        changes: Vec<String>,
    },
    /// A checkpoint's file holds a value that no run can have written.
    #[error("{}: {field} is {value}, but {expected}; resume from another checkpoint", .path.display())]
    SavedValue {
        /// The file.
        path: PathBuf,
        /// The field in it.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {source}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
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

/// What a run leaves to go on from, in words.
pub(crate) fn last_checkpoint(path: Option<&PathBuf>) -> String {
    path.map_or_else(
        || "no checkpoint was saved before".to_owned(),
        |path| format!("the last good checkpoint is {}", path.display()),
    )
}

fn join(problems: &[ArgumentProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
