//! Decides which checkpoints a run keeps, and writes each of them completely or not at all.
//!
//! ```text
//! on_evaluate ─ BestModelCheckpointCallback ─ mark_best, request_save ─▶ the loop
//!             └ EarlyStopping ─ request_stop                             │ save
//!                                                                        ▼
//!            DirectoryStore: .checkpoint-N.partial ─ fsync, manifest, rename ─▶ checkpoint-N
//! on_log ───── LossSpike ─ a warning (and request_stop)
//! on_save ──── Rotation: deletes checkpoints that are neither among the newest nor the best
//!
//! at the start ─ check_output_dir, OutputDirLock, check_inputs, check_space
//! on resume ──── checkpoint_to_resume ─▶ Trainer::resume_from
//! at the end ─── publish or publish_final: a model and its tokenizer ─▶ output_dir
//!                write_results: train_results.json, eval_results.json, all_results.json
//! ```
//!
//! A run holds an [`OutputDirLock`] ([`DirectoryStore`] holds one while it is open), so two runs
//! never write to one folder. Warnings are [`tracing`] events.
//!
//! In this example the lowest evaluation loss is at epoch 2 of 3, and one checkpoint is to be kept.
//! The best and the newest remain.
//!
//! ```
//! use checkpoint_callbacks::{
//!     BestModelCheckpointCallback, DirectoryStore, Publication, Rotation, find_checkpoints, publish,
//! };
//! use trainer_core::{Trainer, TrainingArguments, testing::{ToyLearner, ToySource}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let output_dir = dir.path().join("out");
//! let recipe = TrainingArguments::documented_recipe();
//! let arguments = TrainingArguments { output_dir: output_dir.clone(), num_train_epochs: 3.0, ..recipe };
//! let (train, eval) = (ToySource::new(16, 8), ToySource::new(8, 8));
//! let mut learner = ToyLearner::default().with_eval_loss(|step| [0.9, 0.7, 0.8][step as usize / 2 - 1]);
//! let mut store = DirectoryStore::open(&output_dir)?;
//!
//! let output = Trainer::builder(arguments, &mut learner, &train)
//!     .eval_source(&eval)
//!     .store(&mut store)
//!     .callback(BestModelCheckpointCallback)
//!     .callback(Rotation::new(1))
//!     .build()?
//!     .train()?;
//!
//! let steps: Vec<u64> = find_checkpoints(&output_dir)?.iter().map(|checkpoint| checkpoint.global_step).collect();
//! assert_eq!(steps, [4, 6]);
//! let best = output.state.best_model_checkpoint.ok_or("no best checkpoint")?;
//! assert_eq!(best, output_dir.join("checkpoint-4"));
//! publish(&best, &output_dir, Publication { not_published: &["optimizer.json"], ..Default::default() })?;
//! assert_eq!(std::fs::read(output_dir.join("model.json"))?, std::fs::read(best.join("model.json"))?);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod best;
mod disk;
mod durable;
mod early_stopping;
mod error;
mod final_model;
mod find;
mod input_dirs;
mod lock;
mod loss_spike;
mod manifest;
mod names;
mod output_dir;
mod parallel;
mod publish;
mod recover;
mod results;
mod resume;
mod rotation;
mod space;
mod store;
#[cfg(test)]
mod testing;
mod units;
mod untrusted;

pub use best::BestModelCheckpointCallback;
pub use early_stopping::EarlyStopping;
pub use error::{Error, Result};
pub use final_model::{publish_final, remove_final_model};
pub use find::{Checkpoint, Newest, Skipped, find_checkpoints, newest_complete};
pub use input_dirs::{InputDir, check_inputs};
pub use lock::{LockHolder, OutputDirLock};
pub use loss_spike::{LossSpike, OnSpike};
pub use manifest::{MANIFEST_FILE_NAME, verify};
pub use output_dir::{OutputDirUse, check_output_dir};
pub use publish::{NOT_PUBLISHED, Publication, publish};
pub use recover::recover;
pub use results::{write_json, write_results};
pub use resume::{Resume, checkpoint_to_resume};
pub use rotation::{Rotation, which_to_delete};
pub use space::{CheckpointSize, SpaceNeeded, check_space, free_bytes};
pub use store::DirectoryStore;
/// The interface that [`DirectoryStore`] implements.
pub use trainer_core::{BoxError, CheckpointFolder, CheckpointStore, Saved, WriteCheckpoint, WriteContent};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
