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
//! [`inspect()`] shows what a split's rows will be learnt as, for people.
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
//!
//! Rows need not come from files. From rows of a program's own to batches:
//!
//! ```
//! # use std::path::Path;
//! use sft_data::{ChatTokenizer, Conversation, PrepareConfig, Row, TrainOn, collate, prepare};
//! use serde_json::json;
//!
//! # let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizers/qwen");
//! let tokenizer = ChatTokenizer::from_dir(&model)?;
//! let asked = json!({"role": "user", "content": "What is the capital of France?"});
//! let answered = json!({"role": "assistant", "content": "Paris."});
//! let rows = vec![Row::from(Conversation::from(vec![asked, answered])); 3];
//! let config = PrepareConfig { train_on: Some(TrainOn::Assistant), ..PrepareConfig::default() };
//! let examples = prepare(rows, &tokenizer, &config)?.examples;
//! for two in examples.chunks(2) {
//!     let batch = collate(&two.iter().collect::<Vec<_>>());
//!     assert!(batch.num_target_tokens() < batch.num_tokens() / 2);
//! }
//! # Ok::<(), sft_data::Error>(())
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod batch;
mod dataset;
mod error;
mod inspect;
mod order;
mod prepare;
#[cfg(test)]
mod testing;
mod token_cache;
mod tokenizer;
mod untrusted;

pub use batch::{Batch, IGNORE_INDEX, SamplingStrategy, collate, length_grouped_order};
pub use dataset::{
    Alpaca, ByteSize, ChatContext, Conversation, DataFiles, DatasetConfig, DatasetFormat, DatasetSource, Evaluation,
    LocalFiles, MixStrategy, OpenRepository, PromptCompletion, Repository, Row, Splits, TokenizedRow, Turn,
    load_splits,
};
pub use error::{BoxError, ConfigProblem, Error, Position};
pub use inspect::{EndToken, InspectedRow, Inspection, LengthBucket, Lengths, Outcome, RowProblem, Span, inspect};
pub use order::epoch_order;
pub use prepare::{
    Dropped, Example, Labels, PackingStrategy, PrepareConfig, PrepareReport, Prepared, Thinking, TrainOn, TrainOnEos,
    TruncationMode, prepare,
};
pub use token_cache::TokenCache;
pub use tokenizer::{
    AddGenerationPrompt, AddSpecialTokens, ChatTokenizer, SpecialTokensInText, TOKENIZER_FILES, TokenizerOptions,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
