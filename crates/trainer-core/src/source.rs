//! Where batches come from.

use crate::BoxError;

/// Batches of one epoch, in order.
pub type Batches<'a, B> = Box<dyn Iterator<Item = Result<B, BoxError>> + 'a>;

/// A split that can be walked in batches, in an order that depends on nothing but the epoch.
pub trait BatchSource {
    /// One micro-batch.
    type Batch: BatchInfo;

    /// Rows in the split.
    fn num_rows(&self) -> usize;

    /// Micro-batches in an epoch; the last, partial one counts.
    fn num_batches(&self) -> usize;

    /// The batches of `epoch` (counted from 0) from micro-batch `first` on. Skipping must be cheap:
    /// a resume starts here.
    ///
    /// The iterator may prepare batches ahead of time; the loop asks for a whole accumulation
    /// window before it starts it.
    fn batches(&self, epoch: u64, first: usize) -> Result<Batches<'_, Self::Batch>, BoxError>;

    /// The same rows in the same order, in batches of `num_rows` (at least 1) or less. The loop
    /// asks for it when a batch does not fit into memory. Default: an error.
    fn split(&self, _batch: &Self::Batch, _num_rows: usize) -> Result<Vec<Self::Batch>, BoxError> {
        Err("batches of this source cannot be split".into())
    }

    /// The numbers that the batch's rows have in the dataset, counted from 1, to name them in
    /// messages. Default: none.
    fn row_numbers(&self, _batch: &Self::Batch) -> Vec<u64> {
        Vec::new()
    }
}

/// What the loop needs to know about a batch.
pub trait BatchInfo {
    /// Rows of the split in this batch.
    fn num_rows(&self) -> u64;

    /// Tokens the model is to predict.
    fn num_target_tokens(&self) -> u64;

    /// Tokens without padding (the sum of the attention mask).
    fn num_tokens(&self) -> u64;
}
