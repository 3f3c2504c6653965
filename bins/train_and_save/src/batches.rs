//! A split as the loop walks it. The next few batches are laid out on another thread while the
//! model works on one; which of them were trained on is the loop's to count.

use crate::ahead::ahead;
use crate::settings::Padding;
use causal_lm::{Filling, TokenBatch};
use sft_data::{Example, collate, epoch_order};
use std::sync::Arc;
use tch::Device;
use trainer_core::{BatchInfo, BatchSource, Batches, BoxError};

/// Examples of one split and how they become batches. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Split {
    pub examples: Arc<[Example]>,
    pub batch_size: usize,
    pub order: Order,
    pub padding: Padding,
    pub pad_token_id: u32,
    /// What a batch is filled up with, where sizes should repeat.
    pub filling: Option<Filling>,
    /// Where the model is.
    pub device: Device,
}

/// The order of rows.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// As they are, for evaluation.
    Sequential,
    /// Another one each epoch, equal to Hugging Face's for the same seed.
    Shuffled { seed: u64 },
}

/// A micro-batch in the host's memory.
#[derive(Debug)]
pub struct MicroBatch {
    pub tokens: TokenBatch,
    num_rows: usize,
    num_target_tokens: usize,
    num_tokens: usize,
    /// Which examples of the split are in it.
    examples: Vec<usize>,
}

impl BatchInfo for MicroBatch {
    fn num_rows(&self) -> u64 {
        self.num_rows as u64
    }

    fn num_target_tokens(&self) -> u64 {
        self.num_target_tokens as u64
    }

    fn num_tokens(&self) -> u64 {
        self.num_tokens as u64
    }
}

impl Split {
    /// No batch has more tokens, before it is padded or filled up.
    pub fn full_batch_tokens(&self) -> usize {
        self.batch_size * self.examples.iter().map(|example| example.input_ids.len()).max().unwrap_or(0)
    }

    /// Whether all examples have as many tokens, and so all batches but the last.
    pub fn has_one_length(&self) -> bool {
        self.examples.windows(2).all(|pair| pair[0].input_ids.len() == pair[1].input_ids.len())
    }

    /// No batch has more rows, each of what was packed together counted.
    pub fn most_rows(&self) -> usize {
        let mut rows: Vec<usize> = self.examples.iter().map(|example| example.segment_lengths.len()).collect();
        rows.sort_unstable();
        rows.iter().rev().take(self.batch_size).sum()
    }

    /// Of a batch of the usual number of rows.
    pub fn mean_batch_tokens(&self) -> usize {
        let tokens: usize = self.examples.iter().map(|example| example.input_ids.len()).sum();
        self.batch_size.min(self.examples.len()) * tokens / self.examples.len().max(1)
    }

    fn micro_batch(&self, rows: &[usize]) -> Result<MicroBatch, BoxError> {
        let examples: Vec<&Example> = rows.iter().map(|row| &self.examples[*row]).collect();
        let batch = collate(&examples);
        let batch = match self.padding {
            Padding::Free => batch,
            Padding::Longest(multiple) => batch.pad_to_longest(self.pad_token_id, multiple),
        };
        let (num_rows, num_target_tokens, num_tokens) = (batch.num_rows, batch.num_target_tokens(), batch.num_tokens());
        let targets = batch.targets();
        let sft_data::Batch { input_ids, lengths, .. } = batch;
        let tokens = match self.filling {
            Some(filling) => TokenBatch::filled(&input_ids, &targets, &lengths, filling)?,
            None => TokenBatch::new(&input_ids, &targets, &lengths, Device::Cpu)?,
        };
        Ok(MicroBatch {
            tokens: match self.device {
                // Memory that cannot be pinned serves as well, slower.
                Device::Cuda(index) => tokens.pinned(index).unwrap_or(tokens),
                _ => tokens,
            },
            num_rows,
            num_target_tokens,
            num_tokens,
            examples: rows.to_vec(),
        })
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
        let (split, left) = (self.clone(), self.num_batches().saturating_sub(first));
        let prepared = ahead(left, move |index| {
            let start = (first + index) * split.batch_size;
            split.micro_batch(&order[start..(start + split.batch_size).min(order.len())])
        })?;
        Ok(Box::new(prepared))
    }

    fn split(&self, batch: &MicroBatch, num_rows: usize) -> Result<Vec<MicroBatch>, BoxError> {
        batch.examples.chunks(num_rows.max(1)).map(|examples| self.micro_batch(examples)).collect()
    }

    fn row_numbers(&self, batch: &MicroBatch) -> Vec<u64> {
        let rows = |example: &usize| self.examples[*example].rows.iter().copied();
        batch.examples.iter().flat_map(rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(order: Order) -> Split {
        let rows = |id: u32| vec![u64::from(id) + 11];
        let example =
            |id: u32| Example { input_ids: vec![id; 2], labels: None, segment_lengths: vec![2], rows: rows(id) };
        Split {
            examples: (0..5).map(example).collect(),
            batch_size: 2,
            order,
            padding: Padding::Free,
            pad_token_id: 0,
            filling: None,
            device: Device::Cpu,
        }
    }

    fn ids(split: &Split, epoch: u64, first: usize) -> Vec<Vec<i64>> {
        split
            .batches(epoch, first)
            .unwrap()
            .map(|batch| Vec::try_from(batch.unwrap().tokens.input_ids()).unwrap())
            .collect()
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

    #[test]
    fn parts_of_a_batch_are_its_rows_in_order() {
        let split = Split { batch_size: 5, ..split(Order::Shuffled { seed: 42 }) };
        let batch = split.batches(0, 0).unwrap().next().unwrap().unwrap();
        let ids = |batch: &MicroBatch| Vec::<i64>::try_from(batch.tokens.input_ids()).unwrap();
        let parts = split.split(&batch, 2).unwrap();
        assert_eq!(parts.iter().map(BatchInfo::num_rows).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(parts.iter().flat_map(ids).collect::<Vec<_>>(), ids(&batch));
        let numbers: Vec<u64> = ids(&batch).iter().step_by(2).map(|id| *id as u64 + 11).collect();
        assert_eq!(split.row_numbers(&batch), numbers);
    }

    #[test]
    fn filling_up_is_a_row_that_counts_for_nothing() {
        let rows = [0, 1, 2];
        let plain = split(Order::Sequential).micro_batch(&rows).unwrap();
        let filling = Some(Filling { multiple: 16, token_id: 0, rows: 4 });
        let filled = Split { filling, ..split(Order::Sequential) }.micro_batch(&rows).unwrap();
        assert_eq!(filled.tokens.input_ids().size()[0] % 16, 0);
        assert!(filled.tokens.input_ids().size()[0] > plain.tokens.input_ids().size()[0]);
        assert_eq!(filled.tokens.num_targets(), plain.tokens.num_targets());
        assert_eq!(
            (filled.num_rows(), filled.num_tokens(), filled.num_target_tokens()),
            (plain.num_rows(), plain.num_tokens(), plain.num_target_tokens())
        );
    }
}
