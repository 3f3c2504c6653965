//! Decoder-only language models over libtorch, made for training: those of [`Family`].
//!
//! A model is loaded from a folder in Hugging Face's layout ([`CausalLm::load`]) and saved to one
//! ([`CausalLm::save`]). The rows of a batch lie end to end ([`TokenBatch`]), so no time is spent
//! on padding. [`CausalLm::forward_backward`] runs a batch through
//!
//! ```text
//! ids [n] → embedding → [n, d] → block × layers → final norm → head and cross-entropy, in chunks → sum of losses
//!                                                          ←  explicit backward, operation by operation  ←
//! ```
//!
//! and adds gradients to one flat buffer ([`Parameters`]). There is no autograd tape: each
//! operation in [`ops`] has its own backward, and the model decides what is kept and what is
//! computed again ([`Recompute`]). An optimizer works on the flat buffer, or on the parameters as
//! views into it.
//!
//! What happens during a run is told by [`tracing`] events: a warning when a faster way fails and a
//! slower one is used, and a debug span `forward_backward` for each batch.
//!
//! ```
//! use causal_lm::{CausalLm, Config, ModelOptions, TokenBatch};
//!
//! let config = Config::from_json(
//!     serde_json::json!({
//!         "model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16,
//!         "num_hidden_layers": 2, "num_attention_heads": 2, "tie_word_embeddings": true
//!     }),
//!     "config.json".as_ref(),
//! )?;
//! let mut model = CausalLm::zeros(config, ModelOptions::default())?;
//! model.initialise(42)?;
//! // Two rows, 1 2 3 and 4 5. Each token predicts the next one; a row's last has no target.
//! let batch = TokenBatch::new(&[1, 2, 3, 4, 5], &[2, 3, -1, 5, -1], &[3, 2], tch::Device::Cpu)?;
//! let sums = model.forward_backward(&batch, 1.0 / batch.num_targets() as f64)?;
//! assert!((sums.loss.double_value(&[]) / 3.0 - 16f64.ln()).abs() < 0.1);
//! # Ok::<(), causal_lm::Error>(())
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod block;
mod bucket_padding;
mod config;
mod dtype;
mod error;
mod families;
mod finite;
mod generate;
mod generation_config;
pub mod graphs;
mod initialise;
mod layout;
mod load;
mod model;
pub mod ops;
mod parameters;
mod plan_policy;
mod recompute;
mod row_layout;
pub mod save;
mod special_tokens;
mod token_batch;
mod untrusted;

pub use bucket_padding::BucketPadding;
pub use config::{Config, Family, RopeParameters, RopeScaling};
pub use dtype::WeightDtype;
pub use error::Error;
pub use generate::SamplingOptions;
pub use graphs::CudaGraphs;
pub use load::LoadReport;
pub use model::{CausalLm, LossSums, ModelOptions};
pub use ops::attention::AttentionKind;
pub use parameters::{ParameterKind, ParameterSpec, Parameters};
pub use recompute::{KeptBlocks, Recompute};
pub use row_layout::RowLayout;
pub use save::ModelFile;
pub use special_tokens::SpecialTokenIds;
pub use token_batch::TokenBatch;

/// Compiles and runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
