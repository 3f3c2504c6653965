//! Examples laid end to end.
//!
//! A batch is a flat run of tokens, row after row, with the length of every document: the form that
//! attention over variable lengths wants, and the one in which padding costs nothing.
//! [`Batch::pad_to_longest`] gives the rectangular form.

use crate::prepare::Example;
use std::num::NonZeroUsize;
use std::ops::Range;

/// The label of a token that does not count in the loss, as everywhere in Hugging Face.
pub const IGNORE_INDEX: i64 = -100;

/// A few examples as one flat sequence.
///
/// With documents of 3 and 2 tokens: `input_ids` has 5 entries and `lengths` is `[3, 2]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Token ids of all rows, `[t]`.
    pub input_ids: Vec<i64>,
    /// Labels in Hugging Face's convention, `[t]`: not shifted, [`IGNORE_INDEX`] where a token does
    /// not count.
    pub labels: Vec<i64>,
    /// Length of each document, in order; their sum is `t`. A packed row has several.
    pub lengths: Vec<usize>,
    /// Number of rows (examples) in the batch.
    pub num_rows: usize,
    padding: usize,
}

/// Lays examples end to end.
pub fn collate(examples: &[&Example]) -> Batch {
    let num_tokens = examples.iter().map(|example| example.input_ids.len()).sum();
    let mut batch = Batch {
        input_ids: Vec::with_capacity(num_tokens),
        labels: Vec::with_capacity(num_tokens),
        num_rows: examples.len(),
        ..Batch::default()
    };
    for example in examples {
        batch.input_ids.extend(example.input_ids.iter().map(|&id| i64::from(id)));
        match &example.labels {
            Some(labels) => batch.labels.extend_from_slice(labels),
            None => batch.labels.extend(example.input_ids.iter().map(|&id| i64::from(id))),
        }
        batch.lengths.extend(example.segment_lengths.iter().map(|&length| length as usize));
    }
    batch
}

impl Batch {
    /// What each position has to predict, `[t]`: the label of the next token of the same document,
    /// and [`IGNORE_INDEX`] at the last position of every document, so that no document predicts
    /// the next one's start.
    pub fn targets(&self) -> Vec<i64> {
        let mut targets = Vec::with_capacity(self.labels.len());
        for document in self.documents() {
            let labels = self.labels.get(document).unwrap_or_default();
            if let [_, next @ ..] = labels {
                targets.extend_from_slice(next);
                targets.push(IGNORE_INDEX);
            }
        }
        targets
    }

    /// Number of positions that have something to predict: what the loss is divided by.
    pub fn num_target_tokens(&self) -> usize {
        let labels = self.documents().map(|document| self.labels.get(document).unwrap_or_default());
        labels.map(|labels| labels.iter().skip(1).filter(|&&label| label != IGNORE_INDEX).count()).sum()
    }

    /// Where each document is.
    fn documents(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.lengths.iter().scan(0, |end, &length| {
            let start = *end;
            *end += length;
            Some(start..*end)
        })
    }

    /// Number of tokens, padding not counted.
    pub fn num_tokens(&self) -> usize {
        self.input_ids.len() - self.padding
    }

    /// The rectangular form: every document padded on the right, with `pad_id` and
    /// [`IGNORE_INDEX`], to the longest one, rounded up to a multiple of `multiple_of` (1 to round
    /// nothing). `lengths` then are all equal.
    ///
    /// Causal attention never looks to the right, so padding changes no other position and needs no
    /// mask.
    #[must_use]
    pub fn pad_to_longest(self, pad_id: u32, multiple_of: NonZeroUsize) -> Batch {
        let width = self.lengths.iter().copied().max().unwrap_or(0).next_multiple_of(multiple_of.get());
        let total = width * self.lengths.len();
        let mut padded = Batch {
            input_ids: Vec::with_capacity(total),
            labels: Vec::with_capacity(total),
            lengths: vec![width; self.lengths.len()],
            num_rows: self.num_rows,
            padding: self.padding,
        };
        for (index, document) in self.documents().enumerate() {
            padded.padding += width - document.len();
            padded.input_ids.extend_from_slice(self.input_ids.get(document.clone()).unwrap_or_default());
            padded.labels.extend_from_slice(self.labels.get(document).unwrap_or_default());
            padded.input_ids.resize((index + 1) * width, i64::from(pad_id));
            padded.labels.resize((index + 1) * width, IGNORE_INDEX);
        }
        padded
    }
}

#[cfg(test)]
mod tests;
