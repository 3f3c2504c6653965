//! A split as the loop walks it.

use crate::settings::Padding;
use sft_data::{Batch, Example, collate, epoch_order};
use trainer_core::{BatchInfo, BatchSource, Batches, BoxError};

/// Examples of one split and how they become batches.
#[derive(Debug)]
pub struct Split {
    pub examples: Vec<Example>,
    pub batch_size: usize,
    pub order: Order,
    pub padding: Padding,
    pub pad_token_id: u32,
}

/// The order of rows.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// As they are, for evaluation.
    Sequential,
    /// Another one each epoch, equal to Hugging Face's for the same seed.
    Shuffled { seed: u64 },
}

/// A micro-batch on the host.
#[derive(Debug)]
pub struct MicroBatch(pub Batch);

impl BatchInfo for MicroBatch {
    fn num_rows(&self) -> u64 {
        self.0.num_rows as u64
    }

    fn num_target_tokens(&self) -> u64 {
        self.0.num_target_tokens() as u64
    }

    fn num_tokens(&self) -> u64 {
        self.0.num_tokens() as u64
    }
}

impl BatchSource for Split {
    type Batch = MicroBatch;

    fn num_rows(&self) -> usize {
        self.examples.len()
    }

    fn num_batches(&self) -> usize {
        self.examples.len().div_ceil(self.batch_size)
    }

    fn batches(&self, epoch: u64, first: usize) -> Result<Batches<'_, MicroBatch>, BoxError> {
        let order = match self.order {
            Order::Sequential => (0..self.examples.len()).collect(),
            Order::Shuffled { seed } => epoch_order(self.examples.len(), seed.wrapping_add(epoch)),
        };
        Ok(Box::new((first..self.num_batches()).map(move |index| {
            let start = index * self.batch_size;
            let rows = &order[start..(start + self.batch_size).min(order.len())];
            let examples: Vec<&Example> = rows.iter().map(|row| &self.examples[*row]).collect();
            let batch = collate(&examples);
            Ok(MicroBatch(match self.padding {
                Padding::Free => batch,
                Padding::Longest(multiple) => batch.pad_to_longest(self.pad_token_id, multiple),
            }))
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(order: Order) -> Split {
        let example = |id: u32| Example { input_ids: vec![id; 2], labels: None, segment_lengths: vec![2] };
        Split { examples: (0..5).map(example).collect(), batch_size: 2, order, padding: Padding::Free, pad_token_id: 0 }
    }

    fn ids(split: &Split, epoch: u64, first: usize) -> Vec<Vec<i64>> {
        split.batches(epoch, first).unwrap().map(|batch| batch.unwrap().0.input_ids).collect()
    }

    #[test]
    fn the_last_partial_batch_is_kept_and_skipping_changes_nothing() {
        let sequential = split(Order::Sequential);
        assert_eq!(ids(&sequential, 0, 0), [vec![0, 0, 1, 1], vec![2, 2, 3, 3], vec![4, 4]]);
        let shuffled = split(Order::Shuffled { seed: 42 });
        let whole = ids(&shuffled, 3, 0);
        assert_eq!(ids(&shuffled, 3, 1), whole[1..]);
        assert_ne!(whole, ids(&shuffled, 4, 0));
        assert_eq!(shuffled.num_batches(), 3);
    }
}
