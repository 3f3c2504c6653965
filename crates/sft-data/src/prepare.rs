//! From rows to examples, as TRL's `SFTTrainer._prepare_dataset` makes them.
//!
//! ```text
//!   Text              the text, and EOS unless the text ends with it
//!   Messages          the text that the chat template makes         ──▶ ids, labels ──▶ cut to max_length
//!   PromptCompletion  both together; the common prefix is the prompt    ──▶ drop rows without a target ──▶ pack
//! ```
//!
//! A target is a position whose next token counts in the loss. A row without a target teaches
//! nothing, so it is dropped and counted. TRL keeps an empty row as a single EOS, which adds
//! nothing to the loss but takes a place in the order of rows.

mod config;
mod left_out;
mod pack;
mod tokenize;

use crate::{ChatTokenizer, Error, IGNORE_INDEX, Row};
use config::{LossOn, Packing};
use rayon::prelude::*;
use rayon::{ThreadBuilder, ThreadPoolBuilder};
use tokenize::TokenRow;

pub use config::{PackingStrategy, PrepareConfig};

/// Token ids of one row, or of several packed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids, `[t]`.
    pub input_ids: Vec<u32>,
    /// Labels, `[t]`, not shifted. `None` if they equal the ids.
    pub labels: Option<Vec<i64>>,
    /// Lengths of the documents in the example, in order. There is one unless rows are packed.
    /// Their sum is `t`.
    pub segment_lengths: Vec<u32>,
    /// Numbers of the rows that the example holds, whole or in part, counted from 1 in the order in
    /// which they were given to [`prepare`].
    pub rows: Vec<u64>,
}

/// Examples, and a count of what became of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The examples.
    pub examples: Vec<Example>,
    /// What became of the rows.
    pub report: PrepareReport,
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct PrepareReport {
    /// Number of rows.
    pub rows: usize,
    /// Number of rows that are in the examples.
    pub kept: usize,
    /// Number of kept rows whose end was cut off.
    pub truncated: usize,
    /// Number of tokens cut off from those rows.
    pub truncated_tokens: usize,
    /// Number of rows dropped because they have no target.
    pub dropped_empty: usize,
    /// Number of rows dropped because every target was cut off: the prompt alone was too long.
    pub dropped_truncated: usize,
    /// Number of examples. It is below `kept` if rows are packed.
    pub examples: usize,
    /// Number of tokens in the examples.
    pub tokens: usize,
    /// Number of targets in the examples.
    pub target_tokens: usize,
}

/// Turns rows into examples, on all cores. The examples are in the order of the rows unless rows
/// are packed.
///
/// # Errors
/// If the configuration is not [valid](PrepareConfig::validate), no thread can be started, a row
/// cannot be tokenized, or no row has a target.
pub fn prepare(rows: &[Row], tokenizer: &ChatTokenizer, config: &PrepareConfig) -> Result<Prepared, Error> {
    let plan = config.plan()?;
    let tokenized = tokenize_all(rows, tokenizer, plan.loss_on)?;

    let mut report = PrepareReport { rows: rows.len(), ..PrepareReport::default() };
    let mut kept = Vec::with_capacity(rows.len());
    for (index, row) in tokenized.into_iter().enumerate() {
        let mut row = row.map_err(|source| Error::Row { row: index + 1, source: Box::new(source) })?;
        row.number = index as u64 + 1;
        if row.num_targets() == 0 {
            report.dropped_empty += 1;
            continue;
        }
        let length = row.input_ids.len();
        if let Some(limit) = plan.cut_to
            && length > limit
        {
            row.truncate(limit);
            if row.num_targets() == 0 {
                report.dropped_truncated += 1;
                continue;
            }
            report.truncated += 1;
            report.truncated_tokens += length - limit;
        }
        kept.push(row);
    }
    report.kept = kept.len();

    let examples = match plan.packing {
        Packing::None => kept.into_iter().map(Example::from).collect(),
        Packing::BestFitDecreasing(length) => pack::best_fit_decreasing(kept, length),
        Packing::Wrapped(length) => pack::wrapped(&kept, length),
    };
    report.examples = examples.len();
    report.tokens = examples.iter().map(|example| example.input_ids.len()).sum();
    report.target_tokens = examples.iter().map(Example::num_targets).sum();
    if examples.is_empty() {
        return Err(Error::NothingLeft {
            rows: rows.len(),
            empty: report.dropped_empty,
            truncated: report.dropped_truncated,
        });
    }
    Ok(Prepared { examples, report })
}

/// Tokenizes all rows before any result is used, so that the error reported is that of the first
/// bad row and not that of a random one.
///
/// The threads are new ones that end with this function: the tokenizers library caches up to 10,000
/// words for each tokenizer and thread until the thread ends. In a pool that stays, the cache would
/// stay for the whole training.
fn tokenize_all(
    rows: &[Row],
    tokenizer: &ChatTokenizer,
    loss_on: LossOn,
) -> Result<Vec<Result<TokenRow, Error>>, Error> {
    let _span = tracing::info_span!("tokenize", rows = rows.len()).entered();
    let work = || rows.par_iter().map(|row| tokenize::tokenize(row, tokenizer, loss_on)).collect();
    let threads = ThreadPoolBuilder::new().thread_name(|index| format!("tokenize-{index}"));
    threads.build_scoped(ThreadBuilder::run, |pool| pool.install(work)).map_err(Error::Threads)
}

impl Example {
    /// Number of targets: positions whose next token, in the same document, counts in the loss.
    pub fn num_targets(&self) -> usize {
        let mut start = 0;
        let mut count = 0;
        for &length in &self.segment_lengths {
            let segment = start..start + length as usize;
            start = segment.end;
            let labels = self.labels.as_ref().map(|labels| labels.get(segment.clone()).unwrap_or_default());
            count += num_targets(segment.len(), labels);
        }
        count
    }
}

impl From<TokenRow> for Example {
    fn from(row: TokenRow) -> Self {
        let segment_lengths = vec![row.input_ids.len() as u32];
        Self { input_ids: row.input_ids, labels: row.labels, segment_lengths, rows: vec![row.number] }
    }
}

/// No position predicts the first token of a document.
fn num_targets(length: usize, labels: Option<&[i64]>) -> usize {
    match labels {
        None => length.saturating_sub(1),
        Some(labels) => labels.iter().skip(1).filter(|&&label| label != IGNORE_INDEX).count(),
    }
}

#[cfg(test)]
mod tests;
