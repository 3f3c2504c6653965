//! The training loop with its callbacks, state and schedules. It trains any [`Learner`] on any
//! [`BatchSource`]. It depends on no tensor library and on no model.
//!
//! ```text
//! TrainingArguments ─ Plan, Schedule ─┐
//!     BatchSource ── windows ──▶ Trainer::train ── events ──▶ Callbacks
//!                                  │  ▲      ◀── Requests ──┘
//!          forward_backward, step  ▼  │ WindowFigures; StepRecords (only when a log is due)
//!                                Learner
//!                                  └── check_finite, snapshot ──▶ CheckpointStore
//! ```
//!
//! The order of events and the logged figures are those of Hugging Face's Trainer 5.17, with these
//! differences:
//!
//! - The loss is divided by the number of target tokens in the whole accumulation window.
//! - The logged `learning_rate` is the one that the step used.
//! - `eval_loss` is the mean over all target tokens, whatever the batches are.
//! - A step whose loss or gradient is not finite updates nothing, and a model that is not finite is
//!   never saved.
//! - A resumed run is bit for bit the one that was not interrupted, also from the middle of an
//!   epoch.
//!
//! The loop prints nothing: [`Trainer`] lists the `tracing` spans and events that it emits.
//!
//! This run takes 24 steps, and evaluates and saves after each epoch:
//!
//! ```
//! use trainer_core::{TrainingArguments, Trainer, testing::{PlainStore, ToyLearner, ToySource}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let output_dir = dir.path().to_owned();
//! let arguments = TrainingArguments { output_dir, num_train_epochs: 3.0, learning_rate: 0.1, ..TrainingArguments::documented_recipe() };
//! let (train, eval) = (ToySource::new(64, 8), ToySource::new(16, 8));
//! let mut learner = ToyLearner::default();
//! let mut store = PlainStore::new(&arguments.output_dir);
//!
//! let output = Trainer::builder(arguments, &mut learner, &train).eval_source(&eval).store(&mut store).build()?.train()?;
//!
//! assert_eq!(output.state.global_step, 24);
//! assert!(output.metrics["train_loss"].as_f64() > output.eval_metrics.unwrap()["eval_loss"].as_f64());
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod arguments;
mod atomic_file;
mod callback;
mod error;
mod json;
mod learner;
mod log_line;
mod metrics_file;
mod out_of_memory;
mod pace;
mod plan;
mod prefetch;
mod progress;
#[cfg(feature = "progress-bar")]
mod progress_bar;
mod progress_lines;
mod requests;
mod schedule;
mod source;
#[cfg(feature = "progress-bar")]
mod stages;
mod state;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timing;
mod trainer;

pub use arguments::{ArgumentProblem, InputTokens, IntervalStrategy, SaveStrategy, StepTiming, TrainingArguments};
pub use callback::{Callback, CallbackContext, EventResult};
pub use error::{BoxError, Error, Result};
/// The crate that draws [`ProgressBar`], in the version that it uses.
#[cfg(feature = "progress-bar")]
pub use indicatif;
pub use learner::{EvalSums, EvaluationProgress, Learner, StepRecord, StepRequest, WindowFigures};
pub use log_line::LOG_TARGET;
pub use metrics_file::MetricsFile;
pub use out_of_memory::OutOfMemory;
pub use plan::{Due, Plan};
pub use prefetch::{Prefetch, prefetch};
pub use progress::{PROGRESS_FILE_NAME, TRAINING_ARGS_FILE_NAME};
#[cfg(feature = "progress-bar")]
pub use progress_bar::ProgressBar;
pub use progress_lines::ProgressLines;
pub use requests::Requests;
pub use schedule::{PlateauMode, Schedule, SchedulerKwargs, SchedulerType, StageShape, ThresholdMode};
pub use source::{BatchInfo, BatchSource, Batches};
#[cfg(feature = "progress-bar")]
pub use stages::{PROGRESS_TARGET, StageProgress, Stages};
pub use state::{LogEntry, TrainerState};
pub use store::{CheckpointFolder, CheckpointStore, Saved, WriteCheckpoint, WriteContent};
pub use trainer::{Resumed, SaveReport, TrainOutput, Trainer, TrainerBuilder};

#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
