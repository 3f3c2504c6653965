//! Which checkpoints a run keeps, and how they are written so that none is ever half there.
//!
//! ```text
//! on_evaluate ─ BestModelCheckpointCallback ─ mark_best, request_save ─▶ the loop
//!             └ EarlyStopping ─ request_stop                             │ save
//!                                                                        ▼
//!            DirectoryStore: .checkpoint-N.partial ─ fsync, manifest, rename ─▶ checkpoint-N
//! on_log ───── LossSpike ─ notify (and request_stop)
//! on_save ──── Rotation: deletes what is neither among the newest nor the best
//!
//! a run holds OutputDirLock (DirectoryStore does, while it is open): two runs never write to one folder
//! next run ─── recover, check_output_dir, newest_complete ─▶ Trainer::resume_from
//! at the end ─ publish: the best checkpoint's model and tokenizer ─▶ output_dir
//! ```
//!
//! The minimum of the evaluation losses is at epoch 2 of 3, one checkpoint is to be kept: the best
//! and the newest are left.
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
//! let arguments = TrainingArguments { output_dir: output_dir.clone(), num_train_epochs: 3.0, ..Default::default() };
//! let (train, eval) = (ToySource::new(16, 8), ToySource::new(8, 8));
//! let mut learner = ToyLearner::default().with_eval_loss(|step| [0.9, 0.7, 0.8][step as usize / 2 - 1]);
//! let mut store = DirectoryStore::open(&output_dir)?;
//!
//! let output = Trainer::new(arguments, &mut learner, &train, Some(&eval), &mut store)?
//!     .with_callback(BestModelCheckpointCallback)
//!     .with_callback(Rotation::new(1))
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
mod find;
mod inside;
mod lock;
mod loss_spike;
mod manifest;
mod names;
mod output_dir;
mod publish;
mod recover;
mod rotation;
mod space;
mod store;
#[cfg(test)]
mod testing;

pub use best::BestModelCheckpointCallback;
pub use early_stopping::EarlyStopping;
pub use error::{Error, Result};
pub use find::{Checkpoint, Newest, Skipped, find_checkpoints, newest_complete};
pub use lock::OutputDirLock;
pub use loss_spike::{LossSpike, OnSpike};
pub use manifest::{MANIFEST_FILE_NAME, verify};
pub use output_dir::{OutputDirUse, check_output_dir};
pub use publish::{NOT_PUBLISHED, Publication, publish};
pub use recover::recover;
pub use rotation::{Rotation, which_to_delete};
pub use space::{SpaceNeeded, check_space};
pub use store::DirectoryStore;
