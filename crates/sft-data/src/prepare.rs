//! From rows to examples, as TRL's `SFTTrainer._prepare_dataset` makes them.
//!
//! ```text
//!   Text              the text, and EOS unless the text ends with it
//!   Messages          the text that the chat template makes         ──▶ ids, labels ──▶ cut to max_length
//!   PromptCompletion  both together; the common prefix is the prompt    ──▶ drop rows without a target ──▶ pack
//!   Alpaca            a prompt and its completion ([`alpaca`])
//!   Tokens            as they are
//! ```
//!
//! [`learn`] says which bytes of a text count in the loss, [`fit`](mod@fit) what happens to rows
//! that are too long, and [`pack`] how rows share examples.
//!
//! A target is a position whose next token counts in the loss. A row without a target teaches
//! nothing, so it is dropped and counted. TRL keeps an empty row as a single EOS, which adds
//! nothing to the loss but takes a place in the order of rows.

mod alpaca;
pub(crate) mod config;
pub(crate) mod fit;
mod labels;
pub(crate) mod learn;
mod left_out;
mod pack;
mod progress;
mod tokenize;

use crate::{ChatTokenizer, Error, IGNORE_INDEX, Row};
use config::Packing;
use progress::Progress;
use rayon::prelude::*;
use rayon::{ThreadBuilder, ThreadPoolBuilder};
use std::borrow::Cow;
use std::ops::Range;

pub(crate) use config::Plan;
pub use config::{PackingStrategy, PrepareConfig, Thinking, TrainOn, TrainOnEos, TruncationMode};
pub use fit::Dropped;
pub(crate) use fit::{Fitted, fit};
pub use labels::Labels;
pub(crate) use tokenize::TokenRow;

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
    /// Number of kept rows whose end, or start, was cut off.
    pub truncated: usize,
    /// Number of tokens cut off from those rows.
    pub truncated_tokens: usize,
    /// Number of rows dropped because they have no target.
    pub dropped_empty: usize,
    /// Number of rows dropped because every target was cut off: the prompt alone was too long.
    pub dropped_truncated: usize,
    /// Number of rows dropped because they are too long and `truncation_mode` is `drop`.
    pub dropped_too_long: usize,
    /// Number of kept rows that were split into several examples by `truncation_mode`.
    pub split: usize,
    /// Number of tokens in pieces of those rows that have no target, and are in no example.
    pub split_left_out_tokens: usize,
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
    let mut collected = Collected::default();
    for (index, row) in tokenize_each(rows.into(), tokenizer, plan)?.into_iter().enumerate() {
        let mut row = row.map_err(|source| Error::Row { row: index + 1, source })?;
        row.number = index as u64 + 1;
        collected.add(row, &plan);
    }
    let (examples, report) = collected.into_examples(&plan);
    if examples.is_empty() {
        return Err(Error::NothingLeft {
            rows: report.rows,
            empty: report.dropped_empty,
            truncated: report.dropped_truncated + report.dropped_too_long,
        });
    }
    Ok(Prepared { examples, report })
}

/// The rows that were kept, and what became of the others.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    kept: Vec<TokenRow>,
    report: PrepareReport,
    warnings: Warnings,
}

impl Collected {
    pub(crate) fn add(&mut self, row: TokenRow, plan: &Plan) {
        let report = &mut self.report;
        report.rows += 1;
        self.warnings.count(&row);
        match fit(row, plan) {
            Fitted::Dropped(Dropped::NoTarget) => report.dropped_empty += 1,
            Fitted::Dropped(Dropped::TargetsCutOff) => report.dropped_truncated += 1,
            Fitted::Dropped(Dropped::TooLong) => report.dropped_too_long += 1,
            Fitted::Whole(row) => {
                report.kept += 1;
                self.kept.push(row);
            }
            Fitted::Cut { row, num_tokens } => {
                report.kept += 1;
                report.truncated += 1;
                report.truncated_tokens += num_tokens;
                self.kept.push(row);
            }
            Fitted::Pieces { rows, left_out } => {
                report.kept += 1;
                report.split += 1;
                report.split_left_out_tokens += left_out;
                self.kept.extend(rows);
            }
        }
    }

    pub(crate) fn into_examples(self, plan: &Plan) -> (Vec<Example>, PrepareReport) {
        let Self { kept, mut report, warnings } = self;
        warnings.tell();
        let examples: Vec<Example> = match plan.packing {
            Packing::None => kept.into_iter().map(Example::from).collect(),
            Packing::BestFitDecreasing(length) => pack::best_fit_decreasing(kept, length),
            Packing::Wrapped(length) => pack::wrapped(&kept, length),
        };
        report.examples = examples.len();
        report.tokens = examples.iter().map(|example| example.input_ids.len()).sum();
        report.target_tokens = examples.iter().map(Example::num_targets).sum();
        (examples, report)
    }

    /// Counts a row that cannot be prepared.
    pub(crate) fn add_problem(&mut self) {
        self.report.rows += 1;
    }
}

/// Tokenizes all rows before any result is used, so that the error reported is that of the first
/// bad row and not that of a random one.
///
/// The threads are new ones that end with this function: the tokenizers library caches up to 10,000
/// words for each tokenizer and thread until the thread ends. In a pool that stays, the cache would
/// stay for the whole training.
pub(crate) fn tokenize_each(
    rows: Cow<'_, [Row]>,
    tokenizer: &ChatTokenizer,
    plan: Plan,
) -> Result<Vec<Result<TokenRow, Box<Error>>>, Error> {
    let _span = tracing::info_span!("tokenize", rows = rows.len()).entered();
    let progress = Progress::new(rows.len());
    let tokenize = |row: &Row| {
        let tokenized = tokenize::tokenize(row, tokenizer, plan.learn).map_err(Box::new);
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

/// What is told about rows that are learnt otherwise than their author may think.
#[derive(Debug, Default)]
struct Warnings {
    prompt_parts_early: Counted,
    leaves_out_reasoning: Counted,
    ignores_completion_mask: Counted,
}

/// How many rows there are of a kind, and the first of them.
#[derive(Debug, Default)]
struct Counted {
    count: usize,
    first_row: u64,
}

impl Counted {
    fn add(&mut self, row: u64) {
        self.count += 1;
        self.first_row = if self.count == 1 { row } else { self.first_row };
    }
}

impl Warnings {
    fn count(&mut self, row: &TokenRow) {
        if row.prompt_parts_early {
            self.prompt_parts_early.add(row.number);
        }
        if row.leaves_out_reasoning {
            self.leaves_out_reasoning.add(row.number);
        }
        if row.ignores_completion_mask {
            self.ignores_completion_mask.add(row.number);
        }
    }

    fn tell(&self) {
        let Counted { count, first_row } = self.prompt_parts_early;
        if count > 0 {
            tracing::warn!(
                "in {count} rows (the first is row {first_row}) the prompt alone is not tokenized as the start of prompt and \
                 completion: what it ends with alone, such as an opened thinking block, is not trained on, and the \
                 completion counts from where they differ; end prompts where a token ends, or use a chat template \
                 that writes a prompt in the same way with and without an answer"
            );
        }
        let Counted { count, first_row } = self.leaves_out_reasoning;
        if count > 0 {
            tracing::warn!(
                "in {count} rows (the first is row {first_row}) the chat template leaves out reasoning that messages have \
                 as `reasoning_content`: it is not trained on; many templates write only that of the last turn, so \
                 make one row of each turn, or name another template with `chat_template_path`"
            );
        }
        let Counted { count, first_row } = self.ignores_completion_mask;
        if count > 0 {
            tracing::warn!(
                "{count} rows (the first is row {first_row}) have a `completion_mask`, which is not used: every token \
                 counts, as in TRL; set `completion_only_loss` to true to use it, or to false to say that this is meant"
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
