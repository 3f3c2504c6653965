//! From rows to examples: what TRL's `SFTTrainer._prepare_dataset` does.
//!
//! ```text
//!   Text              text + EOS, unless it ends with it
//!   Messages          the chat template's text                      ──▶ ids, labels ──▶ cut to max_length
//!   PromptCompletion  both, told apart by their common prefix           ──▶ drop what has no target ──▶ pack
//! ```
//!
//! A row without a target, a position that has a next token to learn, cannot be trained on: it is
//! dropped and counted. TRL keeps an empty row as one lone EOS, which adds nothing to the loss but
//! takes a place in the order of rows.

mod pack;
mod tokenize;

use crate::{ChatTokenizer, Error, IGNORE_INDEX, Row};
use rayon::prelude::*;
use rayon::{ThreadBuilder, ThreadPoolBuilder};
use tokenize::TokenRow;

/// How rows become examples.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrepareConfig {
    /// Longest example in tokens; what is beyond is cut off. None: no limit.
    pub max_length: Option<usize>,
    /// Whether and how several rows share one example.
    pub packing: Packing,
    /// Which tokens count in the loss.
    pub loss_on: LossOn,
}

/// Whether and how several rows share one example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// One row, one example.
    #[default]
    None,
    /// Rows are kept whole and put together so that little is left over; attention stays within a
    /// row.
    #[serde(rename = "bfd")]
    BestFitDecreasing,
    /// As above, and rows that are too long are split rather than cut off.
    #[serde(rename = "bfd_split")]
    BestFitDecreasingSplit,
    /// All rows as one stream, cut into equal pieces, regardless of where a row ends.
    Wrapped,
}

/// Which tokens count in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// The completion of a prompt-completion row, everything of any other.
    #[default]
    Auto,
    /// Every token.
    All,
    /// What the assistant says (`assistant_only_loss`).
    Assistant,
}

impl Default for PrepareConfig {
    fn default() -> Self {
        Self { max_length: Some(1024), packing: Packing::default(), loss_on: LossOn::default() }
    }
}

impl PrepareConfig {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// If `max_length` is below 2, or missing though rows are to be packed.
    pub fn validate(&self) -> Result<(), Error> {
        match self.max_length {
            Some(length @ (0 | 1)) => Err(Error::BadConfig {
                field: "max_length",
                value: length.to_string(),
                expected: "at least 2: one token to read and one to predict".to_owned(),
            }),
            None if self.packing != Packing::None => Err(Error::BadConfig {
                field: "max_length",
                value: "none".to_owned(),
                expected: "a number of tokens, to which packing fills its examples".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// Token ids of one row, or of several packed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids, `[t]`.
    pub input_ids: Vec<u32>,
    /// Labels, `[t]`, not shifted; `None` if they are the ids themselves.
    pub labels: Option<Vec<i64>>,
    /// Lengths of the documents in it, in order; one entry unless packed. Their sum is `t`.
    pub segment_lengths: Vec<u32>,
    /// Numbers of the rows that are in it, whole or in part, counted from 1 in the order they were
    /// given to [`prepare`].
    pub rows: Vec<u64>,
}

/// Examples and what was done to get them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What to train on.
    pub examples: Vec<Example>,
    /// The count of it all.
    pub report: PrepareReport,
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct PrepareReport {
    /// Rows that came in.
    pub rows: usize,
    /// Rows that are trained on.
    pub kept: usize,
    /// Rows of which the end was cut off.
    pub truncated: usize,
    /// Tokens cut off.
    pub truncated_tokens: usize,
    /// Rows without anything to learn.
    pub dropped_empty: usize,
    /// Rows whose every target was cut off, the prompt alone being too long.
    pub dropped_truncated: usize,
    /// Examples made of them; fewer than rows if packed.
    pub examples: usize,
    /// Tokens in the examples.
    pub tokens: usize,
    /// Tokens that count in the loss.
    pub target_tokens: usize,
}

/// Turns rows into examples, on all cores, in the order of the rows unless they are packed.
///
/// # Errors
/// If the configuration is impossible, no thread can be started, a row cannot be put into tokens,
/// or no row has anything to learn.
pub fn prepare(rows: &[Row], tokenizer: &ChatTokenizer, config: &PrepareConfig) -> Result<Prepared, Error> {
    config.validate()?;
    let tokenized = tokenize_all(rows, tokenizer, config.loss_on)?;

    let mut report = PrepareReport { rows: rows.len(), ..PrepareReport::default() };
    let cut_to = match config.packing {
        Packing::None | Packing::BestFitDecreasing => config.max_length,
        Packing::BestFitDecreasingSplit | Packing::Wrapped => None,
    };
    let mut kept = Vec::with_capacity(rows.len());
    for (index, row) in tokenized.into_iter().enumerate() {
        let mut row = row.map_err(|source| Error::Row { row: index + 1, source: Box::new(source) })?;
        row.number = index as u64 + 1;
        if row.num_targets() == 0 {
            report.dropped_empty += 1;
            continue;
        }
        let length = row.input_ids.len();
        if let Some(limit) = cut_to
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

    let examples = match (config.packing, config.max_length) {
        (Packing::None, _) | (_, None) => kept.into_iter().map(Example::from).collect(),
        (Packing::BestFitDecreasing | Packing::BestFitDecreasingSplit, Some(limit)) => {
            pack::best_fit_decreasing(kept, limit)
        }
        (Packing::Wrapped, Some(limit)) => pack::wrapped(&kept, limit),
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

/// All rows before any is looked at, so that the error of the first bad row is reported, not that
/// of a random one.
///
/// On threads of its own: the tokenizers library keeps up to 10,000 words a tokenizer and thread
/// for as long as the thread lives, which in a pool that stays would be all of the training, and
/// for every tokenizer there ever was.
fn tokenize_all(
    rows: &[Row],
    tokenizer: &ChatTokenizer,
    loss_on: LossOn,
) -> Result<Vec<Result<TokenRow, Error>>, Error> {
    let work = || rows.par_iter().map(|row| tokenize::tokenize(row, tokenizer, loss_on)).collect();
    let threads = ThreadPoolBuilder::new().thread_name(|index| format!("tokenize-{index}"));
    threads.build_scoped(ThreadBuilder::run, |pool| pool.install(work)).map_err(Error::Threads)
}

impl Example {
    /// Number of positions that have something to predict.
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

/// The first token of a document is predicted by nothing.
fn num_targets(length: usize, labels: Option<&[i64]>) -> usize {
    match labels {
        None => length.saturating_sub(1),
        Some(labels) => labels.iter().skip(1).filter(|&&label| label != IGNORE_INDEX).count(),
    }
}

#[cfg(test)]
mod tests;
