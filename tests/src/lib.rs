//! What the whole-program tests share. They run `train_and_save` as a user would, and check what it
//! prints and which files it leaves.
//!
//! ```text
//! goldens, test models and data ── case ──▶ program: built once, run separately ──▶ Finished: exit code, terminal
//!                                                                └▶ output_dir ── results, weights ──▶ assertions
//! ```
//!
//! ```no_run
//! use whole_program_tests::{Case, goldens};
//!
//! # fn main() -> anyhow::Result<()> {
//! let case = Case::new()?;
//! case.training(&goldens::model("qwen2"), &goldens::words()).flags("--dtype float32 --max_steps 2").run()?.succeeded()?;
//! assert!(case.output_dir().join("model.safetensors").is_file());
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod case;
mod data;
pub mod goldens;
pub mod measure;
mod program;
mod results;
mod torture;
mod weights;

pub use case::Case;
pub use data::{Dataset, sentences};
pub use program::{Finished, Running, Training};
pub use results::{Results, TIME_KEYS, file_names, without_times};
pub use torture::{Tortured, torture};
pub use weights::Weights;
