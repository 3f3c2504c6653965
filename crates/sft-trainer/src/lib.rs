//! Supervised fine-tuning of a causal language model, from a configuration to a published model.
//!
//! This is the one crate that knows the others. It loads what a run needs, wires it together,
//! trains, and publishes the best checkpoint:
//!
//! ```text
//! SftConfig ──▶ SftTrainer::load      model and tokenizer (folder or hub), rows, optimizer, checkpoint
//!                    │ .callback(…)    any trainer_core::Callback, in order
//!                    ▼
//!               SftTrainer::train     trainer_core's loop over the model and the batches
//!                    │
//!                    ▼
//!               Trained::publish      best checkpoint and result files ──▶ output_dir
//! ```
//!
//! [`SftConfig::new`] is the documented recipe. A caller can bring rows, an optimizer, callbacks
//! and a hub of its own through [`SftTrainer::builder`].
//!
//! ```no_run
//! use sft_trainer::callbacks::{BestModelCheckpointCallback, Rotation};
//! use sft_trainer::{SftConfig, SftTrainer};
//!
//! let mut config = SftConfig::new("models/Qwen1.5-0.5B-Chat", "out");
//! config.training.num_train_epochs = 3.0;
//! let rows = ["first text", "second text", "third text"];
//! let trained = SftTrainer::builder(config)
//!     .rows(rows, Some(["a text to evaluate on"]))
//!     .load()?
//!     .callback(BestModelCheckpointCallback)
//!     .callback(Rotation::new(1))
//!     .train()?;
//! trained.publish()?;
//! # Ok::<(), sft_trainer::Error>(())
//! ```
//!
//! What a user should know while it runs is told by `tracing` events; this crate prints nothing.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod batches;
pub mod callbacks;
pub mod config;
mod error;
mod fingerprint;
pub mod hub;
mod learner;
pub mod log_lines;
mod memory;
mod optimizer;
mod publish;
mod push;
mod signals;
mod summary;
pub mod terminal_text;
mod trainer;
pub mod verbs;

pub use config::SftConfig;
pub use error::{Error, one_line};
pub use fingerprint::{RUN_FILE, RunFile};
pub use sft_data::{ChatContext, Conversation, PromptCompletion, Row, Turn};
/// The release of tch that this crate is built with. Tensors of another release are other types.
pub use tch;
pub use torch_ext::cache_folder;
pub use trainer::{SftTrainer, SftTrainerBuilder, Trained};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
