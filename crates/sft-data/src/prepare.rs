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
mod labels;
mod left_out;
mod pack;
mod progress;
mod tokenize;

use crate::{ChatTokenizer, Error, IGNORE_INDEX, Row};
use config::{LossOn, Packing};
use progress::Progress;
use rayon::prelude::*;
use rayon::{ThreadBuilder, ThreadPoolBuilder};
use std::borrow::Cow;
use std::ops::Range;
use tokenize::TokenRow;

pub use config::{PackingStrategy, PrepareConfig};
pub use labels::Labels;

/// Token ids of one row, or of several packed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids, `[t]`.
    pub input_ids: Vec<u32>,
    /// The tokens whose labels are their ids. The labels of the others are [`IGNORE_INDEX`]. `None`
    /// if every token counts.
    pub labels: Option<Labels>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
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
/// are packed. Rows that are given away (`Vec<Row>`) are freed one by one as they are tokenized.
///
/// Progress is told as events of the target `progress` with the stage `tokenizing`.
///
/// # Errors
/// If the configuration is not [valid](PrepareConfig::validate), no thread can be started, a row
/// cannot be tokenized, or no row has a target.
pub fn prepare<'a>(
    rows: impl Into<Cow<'a, [Row]>>,
    tokenizer: &ChatTokenizer,
    config: &PrepareConfig,
) -> Result<Prepared, Error> {
    let plan = config.plan()?;
    let rows = rows.into();
    let mut report = PrepareReport { rows: rows.len(), ..PrepareReport::default() };
    let tokenized = tokenize_all(rows, tokenizer, plan.loss_on)?;

    let mut kept = Vec::with_capacity(tokenized.len());
    let mut parted = Parted::default();
    for (index, row) in tokenized.into_iter().enumerate() {
        let mut row = row.map_err(|source| Error::Row { row: index + 1, source })?;
        row.number = index as u64 + 1;
        parted.count(&row);
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
    parted.warn();
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
            rows: report.rows,
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
    rows: Cow<'_, [Row]>,
    tokenizer: &ChatTokenizer,
    loss_on: LossOn,
) -> Result<Vec<Result<TokenRow, Box<Error>>>, Error> {
    let _span = tracing::info_span!("tokenize", rows = rows.len()).entered();
    let progress = Progress::new(rows.len());
    let tokenize = |row: &Row| {
        let tokenized = tokenize::tokenize(row, tokenizer, loss_on).map_err(Box::new);
        progress.add_row();
        tokenized
    };
    let work = || match rows {
        Cow::Borrowed(rows) => rows.par_iter().map(tokenize).collect(),
        Cow::Owned(rows) => rows.into_par_iter().map(|row| tokenize(&row)).collect(),
    };
    let threads = ThreadPoolBuilder::new().thread_name(|index| format!("tokenize-{index}"));
    let tokenized = threads.build_scoped(ThreadBuilder::run, |pool| pool.install(work)).map_err(Error::Threads)?;
    progress.finish();
    Ok(tokenized)
}

/// Rows whose prompt alone is not tokenized as the start of prompt and completion.
#[derive(Debug, Default)]
struct Parted {
    count: usize,
    first_row: u64,
}

impl Parted {
    fn count(&mut self, row: &TokenRow) {
        if row.prompt_parts_early {
            self.count += 1;
            self.first_row = if self.count == 1 { row.number } else { self.first_row };
        }
    }

    fn warn(&self) {
        let Self { count, first_row } = self;
        if *count > 0 {
            tracing::warn!(
                "in {count} rows (the first is row {first_row}) the prompt alone is not tokenized as the start of prompt and \
                 completion: what it ends with alone, such as an opened thinking block, is not trained on, and the \
                 completion counts from where they differ; end prompts where a token ends, or use a chat template \
                 that writes a prompt in the same way with and without an answer"
            );
        }
    }
}

impl Example {
    /// Labels in Hugging Face's convention, `[t]`: not shifted, and [`IGNORE_INDEX`] for a token
    /// that does not count in the loss.
    pub fn label_ids(&self) -> impl Iterator<Item = i64> + '_ {
        let mut ranges = self.labels.as_ref().map(|labels| labels.ranges().iter().peekable());
        (0u32..).zip(&self.input_ids).map(move |(position, &id)| {
            let Some(ranges) = &mut ranges else { return i64::from(id) };
            while ranges.next_if(|range| range.end <= position).is_some() {}
            if ranges.peek().is_some_and(|range| range.contains(&position)) { i64::from(id) } else { IGNORE_INDEX }
        })
    }

    /// Number of targets: positions whose next token, in the same document, counts in the loss.
    pub fn num_targets(&self) -> usize {
        let mut start = 0;
        let mut count = 0;
        for &length in &self.segment_lengths {
            let segment = start..start + length as usize;
            start = segment.end;
            count += num_targets(segment, self.labels.as_ref());
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
fn num_targets(document: Range<usize>, labels: Option<&Labels>) -> usize {
    match labels {
        None => document.len().saturating_sub(1),
        Some(labels) => labels.num_targets(document),
    }
}

#[cfg(test)]
mod tests;
