//! Examples laid end to end.
//!
//! A batch is one flat sequence of tokens, example after example, with the length of every
//! document. Attention over variable lengths takes this form, and it needs no padding.
//! [`Batch::pad_to_longest`] makes the rectangular form.

mod sampling;

use crate::prepare::Example;
use std::num::NonZeroUsize;
use std::ops::Range;

pub use sampling::{SamplingStrategy, length_grouped_order};

/// The label of a token that does not count in the loss, as in Hugging Face's libraries.
pub const IGNORE_INDEX: i64 = -100;

/// Several examples as one flat sequence.
///
/// With documents of 3 and 2 tokens: `input_ids` has 5 entries and `lengths` is `[3, 2]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Token ids of all examples, `[t]`.
    pub input_ids: Vec<i64>,
    /// Labels in Hugging Face's convention, `[t]`: not shifted, and [`IGNORE_INDEX`] for a token
    /// that does not count in the loss.
    pub labels: Vec<i64>,
    /// Length of each document, in order. Their sum is `t`. An example of packed rows has several
    /// documents.
    pub lengths: Vec<usize>,
    /// Number of examples in the batch.
    pub num_rows: usize,
    padding: usize,
}

/// Lays examples end to end, without padding.
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
        batch.labels.extend(example.label_ids());
        batch.lengths.extend(example.segment_lengths.iter().map(|&length| length as usize));
    }
    batch
}

impl Batch {
    /// What each position is to predict, `[t]`: the label of the next token. At the last position
    /// of a document it is [`IGNORE_INDEX`], so that no document predicts the start of the next
    /// one.
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

    /// Number of targets that are not [`IGNORE_INDEX`]: what the sum of the losses is divided by.
    pub fn num_target_tokens(&self) -> usize {
        let labels = self.documents().map(|document| self.labels.get(document).unwrap_or_default());
        labels.map(|labels| labels.iter().skip(1).filter(|&&label| label != IGNORE_INDEX).count()).sum()
    }

    /// The range of each document.
    fn documents(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.lengths.iter().scan(0, |end, &length| {
            let start = *end;
            *end += length;
            Some(start..*end)
        })
    }

    /// Number of tokens without padding.
    pub fn num_tokens(&self) -> usize {
        self.input_ids.len() - self.padding
    }

    /// Makes the rectangular form: pads every document on the right, with `pad_id` and
    /// [`IGNORE_INDEX`], to the length of the longest one, rounded up to a multiple of
    /// `multiple_of`. All `lengths` are equal then.
    ///
    /// A position of causal attention never sees those to its right, so the padding changes no
    /// other position and needs no mask.
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
