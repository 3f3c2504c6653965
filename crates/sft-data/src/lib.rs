//! From the name of a dataset to batches of token ids, as Hugging Face TRL's `SFTTrainer` makes
//! them.
//!
//! ```text
//!   dataset name ─load_splits──▶ Splits { train, eval }    find, fetch and read files; set rows aside
//!   model folder ─from_dir─────▶ ChatTokenizer             tokenizer.json, special tokens, chat template
//!   rows + tokenizer ─prepare──▶ examples and report       template, EOS, ids, labels, cut, drop, pack
//!   seed + epoch ─epoch_order──▶ order of examples         torch.randperm
//!   examples ─collate──────────▶ Batch                     laid end to end; no target crosses a document
//! ```
//!
//! For the same files, rows and seed, the ids, labels, packs, splits and orders are those of TRL
//! 1.16, datasets 5.2, transformers 5.17 and torch 2.11; golden tests check this. The deliberate
//! differences: a row without a token to learn is dropped and counted, a file that two patterns
//! match is read once, the names of ShareGPT become those that templates know, messages may be JSON
//! text, and a message that a template leaves out as a whole is an error.
//!
//! This crate has no tensors, models or training, and uses no network. To read datasets from a hub,
//! a program implements [`OpenRepository`]. Every file is treated as untrusted: a damaged or
//! hostile one is an error, not a crash, a hang or exhausted memory.
//!
//! Reading and tokenizing are [`tracing`] spans named `read` (field `path`) and `tokenize` (field
//! `rows`).
//!
//! ```
//! use sft_data::{ChatTokenizer, DatasetConfig, LocalFiles, PrepareConfig};
//! # use std::path::Path;
//! # let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
//! # let (dataset, model) = (goldens.join("files/rows.jsonl"), goldens.join("tokenizers/qwen"));
//!
//! let config = DatasetConfig {
//!     dataset_name: dataset.to_string_lossy().into_owned(), // or a folder
//!     test_size: Some(0.2),
//!     ..DatasetConfig::default()
//! };
//! let splits = sft_data::load_splits(&config, &LocalFiles)?;
//! let tokenizer = ChatTokenizer::from_dir(&model)?;
//! let train = sft_data::prepare(&splits.train, &tokenizer, &PrepareConfig::default())?;
//! assert_eq!((train.report.rows, train.report.kept), (4, 4));
//!
//! let order = sft_data::epoch_order(train.examples.len(), 42); // seed + epoch
//! for rows in order.chunks(2) {
//!     let examples: Vec<_> = rows.iter().map(|&row| &train.examples[row]).collect();
//!     let batch = sft_data::collate(&examples);
//!     assert_eq!(batch.targets().len(), batch.input_ids.len());
//! }
//! # Ok::<(), sft_data::Error>(())
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod batch;
mod dataset;
mod error;
mod order;
mod prepare;
#[cfg(test)]
mod testing;
mod token_cache;
mod tokenizer;
mod untrusted;

pub use batch::{Batch, IGNORE_INDEX, collate};
pub use dataset::{
    ByteSize, ChatContext, Conversation, DataFiles, DatasetConfig, DatasetSource, Evaluation, LocalFiles, MixStrategy,
    OpenRepository, PromptCompletion, Repository, Row, Splits, Turn, load_splits,
};
pub use error::{BoxError, ConfigProblem, Error, Position};
pub use order::epoch_order;
pub use prepare::{Example, Labels, PackingStrategy, PrepareConfig, PrepareReport, Prepared, prepare};
pub use token_cache::TokenCache;
pub use tokenizer::{
    AddGenerationPrompt, AddSpecialTokens, ChatTokenizer, SpecialTokensInText, TOKENIZER_FILES, TokenizerOptions,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
