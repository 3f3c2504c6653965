//! A split as the loop walks it.
//!
//! The next few batches are laid out on another thread while the model works on one. The loop
//! counts which of them were trained on.

use causal_lm::graphs::{self, BatchShapes};
use causal_lm::{BucketPadding, CausalLm, CudaGraphs, TokenBatch};
use sft_data::{Example, collate, epoch_order, length_grouped_order};
use std::num::NonZeroUsize;
use std::sync::Arc;
use tch::Device;
use tracing::info;
use trainer_core::{BatchInfo, BatchSource, Batches, BoxError, prefetch};

/// Examples of one split and how they become batches. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct SplitBatches {
    pub(crate) examples: Arc<[Example]>,
    pub(crate) batch_size: usize,
    pub(crate) order: RowOrder,
    /// `None`: rows lie end to end, without padding.
    pub(crate) padded_to_multiple_of: Option<NonZeroUsize>,
    pub(crate) pad_token_id: u32,
    /// What batches are filled up with on a GPU, so that their sizes repeat.
    pub(crate) bucket: Option<BucketPadding>,
    /// Where the model is.
    pub(crate) device: Device,
}

/// The order of a split's rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowOrder {
    /// As they are, for evaluation.
    Sequential,
    /// Another one each epoch, equal to Hugging Face's for the same seed.
    Shuffled { seed: u64 },
    /// Another one each epoch, in which rows of about one length are in one window of
    /// `rows_per_step`.
    GroupedByLength { seed: u64, rows_per_step: NonZeroUsize },
}

/// A micro-batch in the host's memory.
#[derive(Debug)]
pub(crate) struct MicroBatch {
    pub(crate) tokens: TokenBatch,
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

impl SplitBatches {
    /// Tokens of the largest batch, before padding of any kind.
    pub(crate) fn full_batch_tokens(&self) -> usize {
        self.batch_size * self.examples.iter().map(|example| example.input_ids.len()).max().unwrap_or(0)
    }

    /// Whether all examples have as many tokens, and so all batches but the last.
    fn has_one_length(&self) -> bool {
        self.examples.windows(2).all(|pair| pair[0].input_ids.len() == pair[1].input_ids.len())
    }

    /// Rows of the batch with the most, where each row that was packed counts.
    fn most_rows(&self) -> usize {
        let mut rows: Vec<usize> = self.examples.iter().map(|example| example.segment_lengths.len()).collect();
        rows.sort_unstable();
        rows.iter().rev().take(self.batch_size).sum()
    }

    /// Tokens of a batch of the usual number of rows.
    fn mean_batch_tokens(&self) -> usize {
        let tokens: usize = self.examples.iter().map(|example| example.input_ids.len()).sum();
        self.batch_size.min(self.examples.len()) * tokens / self.examples.len().max(1)
    }

    /// Has passes over the model recorded as CUDA graphs where that was asked for, or where it
    /// helps, and fills batches up accordingly.
    pub(crate) fn choose_graphs(&mut self, model: &mut CausalLm, wanted: Option<CudaGraphs>) {
        let shapes = BatchShapes {
            mean_tokens: self.mean_batch_tokens(),
            full_tokens: self.full_batch_tokens(),
            most_rows: self.most_rows(),
            has_one_length: self.has_one_length(),
        };
        let padding = self.bucket.unwrap_or_else(|| BucketPadding::for_gpu(i64::from(self.pad_token_id)));
        let Some(bucket) = graphs::choose(model, shapes, wanted, padding) else { return };
        self.bucket = Some(bucket);
        info!(
            "CUDA graphs: a batch has {} tokens in the mean, filled up to a multiple of {}; batches of a size seen twice \
             are launched as a whole",
            shapes.mean_tokens, bucket.multiple_of
        );
    }

    fn micro_batch(&self, rows: &[usize]) -> Result<MicroBatch, BoxError> {
        let examples: Vec<&Example> = rows.iter().map(|row| &self.examples[*row]).collect();
        let batch = collate(&examples);
        let batch = match self.padded_to_multiple_of {
            None => batch,
            Some(multiple) => batch.pad_to_longest(self.pad_token_id, multiple),
        };
        let (num_rows, num_target_tokens, num_tokens) = (batch.num_rows, batch.num_target_tokens(), batch.num_tokens());
        let targets = batch.targets();
        let sft_data::Batch { input_ids, lengths, .. } = batch;
        let tokens = match self.bucket {
            Some(bucket) => TokenBatch::padded_to_bucket(&input_ids, &targets, &lengths, bucket)?,
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

impl BatchSource for SplitBatches {
    type Batch = MicroBatch;

    fn num_rows(&self) -> usize {
        self.examples.len()
    }

    fn num_batches(&self) -> usize {
        self.examples.len().div_ceil(self.batch_size)
    }

    fn batches(&self, epoch: u64, first: usize) -> Result<Batches<'_, MicroBatch>, BoxError> {
        let order = match self.order {
            RowOrder::Sequential => (0..self.examples.len()).collect(),
            RowOrder::Shuffled { seed } => epoch_order(self.examples.len(), seed.wrapping_add(epoch)),
            RowOrder::GroupedByLength { seed, rows_per_step } => {
                let lengths: Vec<usize> = self.examples.iter().map(|example| example.input_ids.len()).collect();
                length_grouped_order(&lengths, rows_per_step, seed, epoch)
            }
        };
        let (split, left) = (self.clone(), self.num_batches().saturating_sub(first));
        let prepared = prefetch(left, move |index| {
            let start = (first + index) * split.batch_size;
            split.micro_batch(&order[start..(start + split.batch_size).min(order.len())])
        })?;
        Ok(Box::new(prepared))
    }

    fn split_batch(&self, batch: &MicroBatch, num_rows: usize) -> Result<Vec<MicroBatch>, BoxError> {
        batch.examples.chunks(num_rows.max(1)).map(|examples| self.micro_batch(examples)).collect()
    }

    fn row_numbers(&self, batch: &MicroBatch) -> Vec<u64> {
        let rows = |example: &usize| self.examples[*example].rows.iter().copied();
        batch.examples.iter().flat_map(rows).collect()
    }
}

#[cfg(test)]
mod tests;
