//! From a dataset name to batches of token ids, as Hugging Face TRL's `SFTTrainer` does it.
//!
//! ```text
//!   dataset name ──load_splits──▶ Splits { train, eval: Vec<Row> }     hub::snapshot fetches what is not on disk
//!   tokenizer dir ─from_dir────▶ ChatTokenizer
//!   rows + tokenizer ──prepare──▶ Prepared { examples, report }        template, EOS, mask, truncate, drop, pack
//!   seed + epoch ──epoch_order──▶ row order, equal to torch.randperm
//!   examples ──collate──────────▶ Batch { input_ids, labels, lengths } end to end, no padding
//! ```
//!
//! Ids, order and masks equal those of TRL 1.16, datasets 5.2 and transformers 5.17 for the same files, and tests hold
//! them to it. No tensor library is involved.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod batch;
mod dataset;
mod error;
mod hub;
mod order;
mod prepare;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use batch::{Batch, IGNORE_INDEX, collate};
pub use dataset::{
    ChatContext, Conversation, DatasetConfig, Evaluation, PromptCompletion, Row, Splits, Turn, load_splits,
};
pub use error::{Error, Position};
pub use hub::{DownloadProgress, HubConfig, HubError, ProgressHook, RepoKind, snapshot};
pub use order::epoch_order;
pub use prepare::{Example, LossOn, Packing, PrepareConfig, PrepareReport, Prepared, prepare};
pub use tokenizer::{AddGenerationPrompt, AddSpecialTokens, ChatTokenizer, SpecialTokensInText, TokenizerOptions};
