//! The trait of what supplies batches.

use crate::BoxError;

/// The batches of one epoch, in order.
pub type Batches<'a, B> = Box<dyn Iterator<Item = Result<B, BoxError>> + 'a>;

/// A split of a dataset, as batches. The loop trains on one source and evaluates on another one of
/// the same type.
///
/// The batches of an epoch must depend on the epoch's number only: a resumed run starts an epoch
/// again in its middle, and must get the batches that the first run would have got.
///
/// ```
/// use trainer_core::{BatchInfo, BatchSource, Batches, BoxError};
///
/// struct Rows(Vec<f64>);
/// struct Batch(Vec<f64>);
///
/// impl BatchInfo for Batch {
///     fn num_rows(&self) -> u64 {
///         self.0.len() as u64
///     }
///     fn num_target_tokens(&self) -> u64 {
///         self.0.len() as u64
///     }
///     fn num_tokens(&self) -> u64 {
///         self.0.len() as u64
///     }
/// }
///
/// /// Four rows in a batch, in file order.
/// impl BatchSource for Rows {
///     type Batch = Batch;
///
///     fn num_rows(&self) -> usize {
///         self.0.len()
///     }
///     fn num_batches(&self) -> usize {
///         self.0.len().div_ceil(4)
///     }
///     fn batches(&self, _epoch: u64, first: usize) -> Result<Batches<'_, Batch>, BoxError> {
///         Ok(Box::new(self.0.chunks(4).skip(first).map(|rows| Ok(Batch(rows.to_vec())))))
///     }
/// }
/// ```
pub trait BatchSource {
    /// One micro-batch.
    type Batch: BatchInfo;

    /// The number of rows in the split.
    fn num_rows(&self) -> usize;

    /// The number of micro-batches in an epoch. A last one with fewer rows counts.
    fn num_batches(&self) -> usize;

    /// The batches of `epoch` (counted from 0), starting with micro-batch `first`. Skipping the
    /// batches before `first` must be cheap.
    ///
    /// The iterator can prepare batches ahead of time, for example with
    /// [`prefetch`](crate::prefetch). The loop takes all batches of an accumulation window before
    /// it runs the first one.
    ///
    /// # Errors
    ///
    /// The batches cannot be read. An error here, or as an item of the iterator, ends the run with
    /// [`Error::Data`](crate::Error::Data).
    fn batches(&self, epoch: u64, first: usize) -> Result<Batches<'_, Self::Batch>, BoxError>;

    /// The rows of `batch` in the same order, in batches of at most `num_rows` (at least 1). The
    /// loop calls it when a batch does not fit into memory and
    /// [`auto_find_batch_size`](crate::TrainingArguments::auto_find_batch_size) is set.
    ///
    /// # Errors
    ///
    /// The batch cannot be split; the run ends with
    /// [`Error::SplitBatch`](crate::Error::SplitBatch). Default: always.
    fn split_batch(&self, _batch: &Self::Batch, _num_rows: usize) -> Result<Vec<Self::Batch>, BoxError> {
        Err("batches of this source cannot be split".into())
    }

    /// The numbers of the rows of `batch` in the dataset, counted from 1. Messages about a bad step
    /// name them. Default: none.
    fn row_numbers(&self, _batch: &Self::Batch) -> Vec<u64> {
        Vec::new()
    }
}

/// What the loop needs to know about a batch. Speeds, weights and counts come from these numbers.
pub trait BatchInfo {
    /// The number of rows in the batch.
    fn num_rows(&self) -> u64;

    /// The number of tokens that the model is to predict. The loss is their mean.
    fn num_target_tokens(&self) -> u64;

    /// The number of tokens without padding: the sum of the attention mask.
    fn num_tokens(&self) -> u64;
}
