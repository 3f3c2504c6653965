//! A batch with its rows laid end to end: no operation spends time on padding.

use crate::Error;
use tch::{Device, Tensor};

/// Where rows (or documents packed into one) begin and end among `n` tokens.
#[derive(Debug)]
pub struct Rows {
    lengths: Vec<i64>,
    longest: i64,
    /// int32 `[rows + 1]`, for flash attention on CUDA.
    pub(crate) cumulative_lengths: Tensor,
    /// float32 `[n]`: each token's place in its row, for rope's angles.
    pub(crate) positions: Tensor,
}

/// Consecutive rows of one length, which attention takes in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowGroup {
    pub(crate) start: i64,
    pub(crate) num_rows: i64,
    pub(crate) length: i64,
}

impl Rows {
    /// Rows of the given lengths, one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] without rows or with an empty one.
    pub fn new(lengths: &[usize], device: Device) -> Result<Self, Error> {
        let unfit =
            |found: String| Error::Shape { operation: "rows", expected: "rows of 1 token or more".into(), found };
        let lengths: Vec<i64> = lengths.iter().map(|length| i64::try_from(*length).unwrap_or(i64::MAX)).collect();
        let longest = lengths.iter().copied().max().ok_or_else(|| unfit("none".into()))?;
        if let Some(row) = lengths.iter().position(|length| *length == 0) {
            return Err(unfit(format!("row {row} empty")));
        }
        let mut ends = vec![0i32];
        let mut end = 0i32;
        for length in &lengths {
            end = i32::try_from(*length)
                .ok()
                .and_then(|length| end.checked_add(length))
                .ok_or_else(|| unfit("more than 2^31 tokens".into()))?;
            ends.push(end);
        }
        let cumulative_lengths = Tensor::f_from_slice(&ends)?.f_to_device(device)?;
        let positions: Vec<f32> = lengths.iter().flat_map(|length| (0..*length).map(|place| place as f32)).collect();
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(device)?;
        Ok(Self { lengths, longest, cumulative_lengths, positions })
    }

    fn to_device(&self, device: Device) -> Result<Self, Error> {
        let cumulative_lengths = to_device(&self.cumulative_lengths, device)?;
        let positions = to_device(&self.positions, device)?;
        Ok(Self { lengths: self.lengths.clone(), longest: self.longest, cumulative_lengths, positions })
    }

    /// Tokens of all rows, `n`.
    pub fn num_tokens(&self) -> i64 {
        self.lengths.iter().sum()
    }

    /// Tokens of the longest row.
    pub fn longest(&self) -> i64 {
        self.longest
    }

    pub(crate) fn groups(&self) -> Vec<RowGroup> {
        let mut groups: Vec<RowGroup> = Vec::new();
        let mut start = 0;
        for length in &self.lengths {
            match groups.last_mut() {
                Some(group) if group.length == *length => group.num_rows += 1,
                _ => groups.push(RowGroup { start, num_rows: 1, length: *length }),
            }
            start += length;
        }
        groups
    }
}

/// Token ids of a batch, and what each token is to predict.
#[derive(Debug)]
pub struct TokenBatch {
    /// int64 `[n]`.
    pub(crate) input_ids: Tensor,
    pub(crate) rows: Rows,
    /// int64 `[m]`: the tokens that have a target.
    pub(crate) target_positions: Tensor,
    /// int64 `[m]`: the token each of them is to predict.
    pub(crate) targets: Tensor,
    largest_id: i64,
}

impl TokenBatch {
    /// A batch from host memory. `targets[i]` is the token that should follow `input_ids[i]`, or a negative number for none.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths do not add up or an id is negative; [`Error::Torch`] from libtorch.
    pub fn new(input_ids: &[i64], targets: &[i64], lengths: &[usize], device: Device) -> Result<Self, Error> {
        let unfit = |expected: String, found: String| Error::Shape { operation: "token batch", expected, found };
        if input_ids.len() != targets.len() {
            return Err(unfit(format!("{} targets, one a token", input_ids.len()), targets.len().to_string()));
        }
        let total = lengths.iter().fold(0usize, |total, length| total.saturating_add(*length));
        if total != input_ids.len() {
            return Err(unfit(format!("rows of {} tokens in all", input_ids.len()), total.to_string()));
        }
        if let Some(id) = input_ids.iter().find(|id| **id < 0) {
            return Err(unfit("token ids from 0 on".into(), id.to_string()));
        }
        let (positions, kept): (Vec<i64>, Vec<i64>) = (0i64..)
            .zip(targets)
            .filter(|(_, target)| **target >= 0)
            .map(|(position, target)| (position, *target))
            .unzip();
        let to_device = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        Ok(Self {
            input_ids: to_device(input_ids)?,
            rows: Rows::new(lengths, device)?,
            target_positions: to_device(&positions)?,
            targets: to_device(&kept)?,
            largest_id: input_ids.iter().chain(&kept).copied().max().unwrap_or(0),
        })
    }

    /// The batch on another device. On the same one it is the same memory; to a GPU it goes without waiting for the work queued there.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn to_device(&self, device: Device) -> Result<Self, Error> {
        Ok(Self {
            input_ids: to_device(&self.input_ids, device)?,
            rows: self.rows.to_device(device)?,
            target_positions: to_device(&self.target_positions, device)?,
            targets: to_device(&self.targets, device)?,
            largest_id: self.largest_id,
        })
    }

    /// Token ids, int64 `[n]`.
    pub fn input_ids(&self) -> &Tensor {
        &self.input_ids
    }

    /// Number of tokens with a target.
    pub fn num_targets(&self) -> i64 {
        self.targets.size().first().copied().unwrap_or(0)
    }

    /// An id past the embedding would be read out of bounds on a GPU.
    pub(crate) fn check_vocabulary(&self, vocab_size: i64) -> Result<(), Error> {
        if self.largest_id < vocab_size {
            return Ok(());
        }
        let expected = format!("token ids below the model's vocab_size {vocab_size}");
        Err(Error::Shape { operation: "token batch", expected, found: self.largest_id.to_string() })
    }
}

/// A copy that waits would wait for all work queued on the GPU, the step before included. CUDA copies pageable memory aside before it
/// returns, so the source may go at once.
fn to_device(tensor: &Tensor, device: Device) -> Result<Tensor, Error> {
    const NON_BLOCKING: bool = true;
    const ALWAYS_COPY: bool = false;
    Ok(tensor.f_to_device_(device, tensor.f_kind()?, NON_BLOCKING, ALWAYS_COPY)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_length_are_grouped() {
        let rows = Rows::new(&[3, 3, 1, 3], Device::Cpu).unwrap();
        let group = |start, num_rows, length| RowGroup { start, num_rows, length };
        assert_eq!(rows.groups(), [group(0, 2, 3), group(6, 1, 1), group(7, 1, 3)]);
        let positions = Vec::<f32>::try_from(&rows.positions).unwrap();
        assert_eq!(positions, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 0.0, 1.0, 2.0]);
        assert_eq!(Vec::<i32>::try_from(&rows.cumulative_lengths).unwrap(), [0, 3, 6, 7, 10]);
        assert_eq!((rows.num_tokens(), rows.longest()), (10, 3));
    }

    #[test]
    fn unfit_batches_are_refused() {
        for (ids, targets, lengths, expected) in [
            (vec![1, 2], vec![2], vec![2], "2 targets"),
            (vec![1, 2], vec![2, -100], vec![3], "rows of 2 tokens"),
            (vec![1, -2], vec![2, -100], vec![2], "token ids from 0 on, found -2"),
            (vec![], vec![], vec![], "found none"),
            (vec![1], vec![-100], vec![1, 0], "row 1 empty"),
        ] {
            let message = TokenBatch::new(&ids, &targets, &lengths, Device::Cpu).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let batch = TokenBatch::new(&[1, 9], &[9, -100], &[2], Device::Cpu).unwrap();
        let batch = batch.to_device(Device::Cpu).unwrap();
        assert_eq!(batch.num_targets(), 1);
        assert!(batch.check_vocabulary(9).unwrap_err().to_string().contains("found 9"));
        assert!(batch.check_vocabulary(10).is_ok());
    }
}
