//! Rows as they will be learnt, as data: for people who want to see what a run trains on.
//!
//! [`inspect`] goes through the rows of a split as [`prepare`](crate::prepare()) does, and returns
//! what `prepare` would report, how long the rows are, which of them cannot be prepared and why,
//! and, for the first few, every stretch of text with whether it counts in the loss.
//!
//! ```
//! use sft_data::{ChatTokenizer, PrepareConfig, Row};
//! # let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizers/qwen");
//! let tokenizer = ChatTokenizer::from_dir(&model)?;
//! let rows = [Row::from("The harbour lights came on."), Row::from("")];
//! let inspection = sft_data::inspect(&rows, &tokenizer, &PrepareConfig::default(), 2)?;
//! assert_eq!((inspection.report.kept, inspection.report.dropped_empty), (1, 1));
//! for row in &inspection.rows {
//!     for span in &row.spans {
//!         print!("{}", if span.is_learnt { span.text.to_uppercase() } else { span.text.clone() });
//!     }
//! }
//! # Ok::<(), sft_data::Error>(())
//! ```

mod lengths;
mod row;

use crate::prepare::{Collected, tokenize_each};
use crate::{ChatTokenizer, Error, PrepareConfig, PrepareReport, Row};
use serde::Serialize;

pub use lengths::{LengthBucket, Lengths};
pub use row::{EndToken, InspectedRow, Outcome, Span};

/// The most rows that are listed as problems. All of them are counted.
const MAX_PROBLEMS: usize = 20;

/// What a split's rows will be learnt as.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// What became of the rows. Rows with a problem are in its `rows` and nowhere else in it.
    pub report: PrepareReport,
    /// Targets as a share of the tokens in the examples, 0 to 1: how much of what the model reads
    /// it also learns.
    pub supervised_share: f64,
    /// How long the rows are, in tokens, before anything is cut off.
    pub lengths: Lengths,
    /// The first rows, as many as were asked for, without those that have a problem.
    pub rows: Vec<InspectedRow>,
    /// The first rows that cannot be prepared. The first of them would end a run.
    pub problems: Vec<RowProblem>,
    /// The number of rows that cannot be prepared.
    pub num_problems: usize,
}

/// A row that cannot be prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowProblem {
    /// Its number, counted from 1 in the order in which the rows were given.
    pub row: u64,
    /// What is wrong with it and what to do, in one line.
    pub problem: String,
}

/// Goes through all rows as [`prepare`](crate::prepare()) does, and looks closely at the first
/// `num_shown`.
///
/// A row that cannot be prepared is a [problem](Inspection::problems) and no error, and so is a
/// split in which nothing is left.
///
/// # Errors
/// If the configuration is not [valid](PrepareConfig::validate), no thread can be started, or the
/// token ids of a row cannot be decoded.
pub fn inspect(
    rows: &[Row],
    tokenizer: &ChatTokenizer,
    config: &PrepareConfig,
    num_shown: usize,
) -> Result<Inspection, Error> {
    let plan = config.plan()?;
    let mut collected = Collected::default();
    let mut lengths = Vec::with_capacity(rows.len());
    let mut shown = Vec::new();
    let mut problems = Vec::new();
    let mut num_problems = 0;
    for (row, number) in tokenize_each(rows.into(), tokenizer, plan)?.into_iter().zip(1..) {
        match row {
            Ok(mut row) => {
                row.number = number;
                lengths.push(row.input_ids.len());
                if shown.len() < num_shown {
                    shown.push(row::inspect(&row, tokenizer, &plan)?);
                }
                collected.add(row, &plan);
            }
            Err(error) => {
                num_problems += 1;
                collected.add_problem();
                if problems.len() < MAX_PROBLEMS {
                    problems.push(RowProblem { row: number, problem: with_sources(&error) });
                }
            }
        }
    }
    let (_, report) = collected.into_examples(&plan);
    let supervised_share = report.target_tokens as f64 / report.tokens.max(1) as f64;
    let lengths = Lengths::of(lengths);
    Ok(Inspection { report, supervised_share, lengths, rows: shown, problems, num_problems })
}

/// The message of an error followed by those of its sources.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
