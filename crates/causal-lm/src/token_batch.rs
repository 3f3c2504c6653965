//! A batch of rows laid end to end, with the token that each token is to predict.

mod packed;

pub(crate) use packed::BatchShape;

use crate::row_layout::RowLengths;
use crate::{BucketPadding, Error, RowLayout};
use packed::{Sections, Views, views};
use tch::{Device, Kind, Tensor};

/// Token ids of a batch, and the token that each of them is to predict.
#[derive(Debug)]
pub struct TokenBatch {
    /// All that a device needs of the batch. The tensors below are views into it.
    packed: Tensor,
    shape: BatchShape,
    /// int64 `[n]`.
    pub(crate) input_ids: Tensor,
    pub(crate) rows: RowLayout,
    /// int64 `[m]`: the tokens that have a target. In a padded batch, some without one follow.
    pub(crate) target_positions: Tensor,
    /// int64 `[m]`: the token that each of them is to predict; negative for those without a target.
    pub(crate) targets: Tensor,
    /// int32 `[n]`, in a padded batch only: the tokens in the order of their ids, then −1 for each
    /// whose gradient is zero.
    pub(crate) tokens_by_id: Option<Tensor>,
    facts: HostFacts,
}

/// What the host knows of a batch's values, wherever the tensors are.
#[derive(Debug, Clone, Copy)]
struct HostFacts {
    num_targets: i64,
    /// Among ids and targets.
    largest_id: i64,
}

impl TokenBatch {
    /// A batch from host memory, on `device`.
    ///
    /// `targets[i]` is the token that should follow `input_ids[i]`, or a negative number for none.
    /// `lengths` are the rows' numbers of tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths do not add up, a row is empty or an id is negative;
    /// [`Error::Torch`] from libtorch.
    pub fn new(input_ids: &[i64], targets: &[i64], lengths: &[usize], device: Device) -> Result<Self, Error> {
        let (target_positions, kept_targets) = positions_with_target(targets);
        let facts = checked_facts(input_ids, targets, lengths)?;
        let lengths = &RowLengths::new(lengths)?;
        let sections = Sections {
            input_ids,
            target_positions: &target_positions,
            targets: &kept_targets,
            tokens_by_id: None,
            lengths,
            min_rows: 0,
            longest_bound: lengths.longest,
        };
        Self::from_sections(&sections, facts)?.to_device(device)
    }

    /// A batch in host memory, padded so that its sizes are those of many others. This is for
    /// devices on which a new size costs more than a few tokens. Attention is told the next power
    /// of two as the longest row's length.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn padded_to_bucket(
        input_ids: &[i64],
        targets: &[i64],
        lengths: &[usize],
        padding: BucketPadding,
    ) -> Result<Self, Error> {
        let (mut target_positions, mut kept_targets) = positions_with_target(targets);
        let num_targets = kept_targets.len();
        let mut facts = checked_facts(input_ids, targets, lengths)?;
        facts.largest_id = facts.largest_id.max(padding.token_id);
        let multiple_of = padding.multiple_of.max(1);
        let (mut input_ids, mut lengths) = (input_ids.to_vec(), lengths.to_vec());
        let num_tokens = input_ids.len().next_multiple_of(multiple_of);
        let mut by_id = tokens_with_gradient(targets, &lengths);
        by_id.sort_by_key(|token| input_ids[*token]);
        // `RowLengths` checks below that the number of tokens fits.
        let mut by_id: Vec<i32> = by_id.into_iter().map(|token| token as i32).collect();
        by_id.resize(num_tokens, -1);
        if num_tokens > input_ids.len() {
            lengths.push(num_tokens - input_ids.len());
            input_ids.resize(num_tokens, padding.token_id);
        }
        // Each position is used once: every one of them gets a gradient written, if only a zero.
        let without_target = (0..input_ids.len()).filter(|place| targets.get(*place).is_none_or(|target| *target < 0));
        let num_missing = num_targets.next_multiple_of(multiple_of).min(num_tokens) - num_targets;
        target_positions.extend(without_target.take(num_missing).map(|place| place as i64));
        kept_targets.resize(target_positions.len(), NO_TARGET);
        let lengths = RowLengths::new(&lengths)?;
        let longest_bound = lengths.longest.unsigned_abs().next_power_of_two();
        let sections = Sections {
            input_ids: &input_ids,
            target_positions: &target_positions,
            targets: &kept_targets,
            tokens_by_id: Some(&by_id),
            lengths: &lengths,
            min_rows: padding.min_rows,
            longest_bound: i64::try_from(longest_bound).unwrap_or(i64::MAX),
        };
        Self::from_sections(&sections, facts)
    }

    fn from_sections(sections: &Sections<'_>, facts: HostFacts) -> Result<Self, Error> {
        let (packed, shape) = sections.pack()?;
        Self::unpack(packed, shape, sections.lengths.clone(), facts)
    }

    fn unpack(packed: Tensor, shape: BatchShape, lengths: RowLengths, facts: HostFacts) -> Result<Self, Error> {
        let Views { input_ids, target_positions, targets, tokens_by_id, rows } = views(&packed, shape, lengths)?;
        Ok(Self { packed, shape, input_ids, rows, target_positions, targets, tokens_by_id, facts })
    }

    fn with_buffer(&self, packed: Tensor) -> Result<Self, Error> {
        Self::unpack(packed, self.shape, self.rows.lengths.clone(), self.facts)
    }

    /// The batch on another device. On the same device it shares its memory with this one. A copy
    /// to a GPU does not wait for the work queued there.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn to_device(&self, device: Device) -> Result<Self, Error> {
        const NON_BLOCKING: bool = true;
        const ALWAYS_COPY: bool = false;
        // A blocking copy would wait for all work queued on the GPU, the previous step included.
        // The source may be dropped at once: CUDA copies pageable memory before it returns, and
        // libtorch keeps pinned memory until it has been read.
        self.with_buffer(self.packed.f_to_device_(device, Kind::Int64, NON_BLOCKING, ALWAYS_COPY)?)
    }

    /// The batch in pinned host memory, which CUDA device `index` reads by itself while the host
    /// goes on.
    ///
    /// # Errors
    /// [`Error::TorchExt`] without CUDA.
    pub fn pinned(&self, index: usize) -> Result<Self, Error> {
        self.with_buffer(torch_ext::cuda::pinned(&self.packed, index)?)
    }

    /// A copy in memory of its own, on the same device.
    pub(crate) fn deep_copy(&self) -> Result<Self, Error> {
        self.with_buffer(crate::ops::deep_copy(&self.packed)?)
    }

    /// Takes over the device's view of a batch of the same shape. What this batch says of its rows
    /// in host memory is then out of date.
    pub(crate) fn overwrite(&mut self, with: &Self) -> Result<(), Error> {
        if self.shape != with.shape {
            let (expected, found) = (format!("{:?}", self.shape), format!("{:?}", with.shape));
            return Err(Error::Shape { operation: "token batch", expected, found });
        }
        self.packed.f_copy_(&with.packed)?;
        Ok(())
    }

    pub(crate) fn shape(&self) -> BatchShape {
        self.shape
    }

    /// Token ids, int64 `[n]`.
    pub fn input_ids(&self) -> &Tensor {
        &self.input_ids
    }

    /// Number of tokens with a target.
    pub fn num_targets(&self) -> i64 {
        self.facts.num_targets
    }

    /// Refuses ids that the model's embedding does not have. A GPU would read out of bounds.
    pub(crate) fn check_vocabulary(&self, vocab_size: i64) -> Result<(), Error> {
        let largest_id = self.facts.largest_id;
        if largest_id < vocab_size {
            return Ok(());
        }
        let expected = format!("token ids below the model's vocab_size {vocab_size}");
        Err(Error::Shape { operation: "token batch", expected, found: largest_id.to_string() })
    }
}

/// Any negative number.
const NO_TARGET: i64 = -1;

/// The positions that have a target, and their targets.
fn positions_with_target(targets: &[i64]) -> (Vec<i64>, Vec<i64>) {
    (0i64..).zip(targets).filter(|(_, target)| **target >= 0).map(|(place, target)| (place, *target)).unzip()
}

/// Each row's tokens up to its last target. No loss depends on the tokens behind it.
fn tokens_with_gradient(targets: &[i64], lengths: &[usize]) -> Vec<usize> {
    let (mut start, mut tokens) = (0usize, Vec::new());
    for length in lengths {
        let end = targets.len().min(start.saturating_add(*length));
        let count = targets[start..end].iter().rposition(|target| *target >= 0).map_or(0, |last| last + 1);
        tokens.extend(start..start + count);
        start = end;
    }
    tokens
}

/// What the host knows of rows, once lengths and ids have been checked.
fn checked_facts(input_ids: &[i64], targets: &[i64], lengths: &[usize]) -> Result<HostFacts, Error> {
    let unfit = |expected: String, found: String| Error::Shape { operation: "token batch", expected, found };
    if input_ids.len() != targets.len() {
        return Err(unfit(format!("{} targets, one per token", input_ids.len()), targets.len().to_string()));
    }
    let total = lengths.iter().fold(0usize, |total, length| total.saturating_add(*length));
    if total != input_ids.len() {
        return Err(unfit(format!("rows of {} tokens in all", input_ids.len()), total.to_string()));
    }
    if let Some(id) = input_ids.iter().find(|id| **id < 0) {
        return Err(unfit("token ids of 0 or more".into(), id.to_string()));
    }
    let num_targets = targets.iter().filter(|target| **target >= 0).count();
    Ok(HostFacts {
        num_targets: i64::try_from(num_targets).unwrap_or(i64::MAX),
        // Targets without a token are negative, so they never are the largest.
        largest_id: input_ids.iter().chain(targets).copied().max().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests;
