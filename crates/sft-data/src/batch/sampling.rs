//! Orders other than the shuffled one.

use crate::order::permutation;
use rand_mt::Mt;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::num::NonZeroUsize;

/// In which order a split's examples are trained on. The names are those of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingStrategy {
    /// In another random order each epoch ([`epoch_order`](crate::epoch_order)).
    #[default]
    Random,
    /// As they are.
    Sequential,
    /// In another random order each epoch, in which examples of about one length are in one batch
    /// ([`length_grouped_order`]).
    GroupByLength,
}

serde_plain::derive_display_from_serialize!(SamplingStrategy);
serde_plain::derive_fromstr_from_deserialize!(SamplingStrategy);

/// A megabatch has at most this many batches.
const MOST_BATCHES: usize = 50;
/// There are at least this many megabatches, if there are examples enough.
const MEGABATCHES: usize = 4;

/// A random order in which each `batch_size` examples in a row are of about one length: the one in
/// which Hugging Face's trainer goes through its training examples with this seed in this epoch,
/// counted from 0. The longest example comes first, so that a lack of memory shows at once.
///
/// `batch_size` is that of a step: the rows of a batch times the batches of a window.
///
/// The trainer draws these orders from torch's global generator, one after the other, and so does
/// each of its evaluations. Orders after the first are equal if it does not evaluate in between.
///
/// ```
/// # use std::num::NonZeroUsize;
/// let order = sft_data::length_grouped_order(&[3, 9, 1, 8, 2, 7], NonZeroUsize::MIN, 42, 0);
/// assert_eq!(order[0], 1, "the longest");
/// ```
pub fn length_grouped_order(lengths: &[usize], batch_size: NonZeroUsize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut generator = Mt::new(seed as u32);
    let mut draw = || {
        // The loader's own seed, of 64 bits.
        let _ = (generator.next_u32(), generator.next_u32());
        permutation(lengths.len(), &mut generator)
    };
    for _ in 0..epoch {
        draw();
    }
    let mut order = draw();
    let batches = (lengths.len() / batch_size.get().saturating_mul(MEGABATCHES)).clamp(1, MOST_BATCHES);
    let megabatch_size = batch_size.get().saturating_mul(batches);
    let length_of = |index: &usize| lengths.get(*index).copied().unwrap_or_default();
    for megabatch in order.chunks_mut(megabatch_size) {
        megabatch.sort_by_key(|index| Reverse(length_of(index)));
    }
    // Each megabatch starts with its longest. Of equal ones, the first counts.
    let starts = (0..order.len()).step_by(megabatch_size);
    let longest = starts.min_by_key(|&start| Reverse(order.get(start).map(length_of)));
    if let Some(longest) = longest {
        order.swap(0, longest);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, numbers};
    use std::collections::BTreeSet;

    #[test]
    fn orders_equal_those_of_transformers() {
        let cases = golden("length_groups.json");
        for case in cases.as_array().unwrap() {
            let lengths: Vec<usize> = numbers(&case["lengths"]);
            let batch_size = NonZeroUsize::new(case["batch_size"].as_u64().unwrap() as usize).unwrap();
            for (expected, epoch) in case["orders"].as_array().unwrap().iter().zip(0..) {
                let order = length_grouped_order(&lengths, batch_size, case["seed"].as_u64().unwrap(), epoch);
                assert_eq!(order, numbers::<usize>(expected), "{} rows by {batch_size}, epoch {epoch}", lengths.len());
            }
        }
        let shapes: BTreeSet<usize> =
            cases.as_array().unwrap().iter().map(|case| case["lengths"].as_array().unwrap().len()).collect();
        assert!(shapes.len() > 5);
    }

    #[test]
    fn nothing_and_huge_batches_have_an_order() {
        assert!(length_grouped_order(&[], NonZeroUsize::MIN, 1, 3).is_empty());
        assert_eq!(length_grouped_order(&[1, 5, 3], NonZeroUsize::MAX, 1, 0), [1, 2, 0]);
    }
}
