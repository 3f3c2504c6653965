//! Where rows lie in a batch: they stand end to end, so no operation spends time on padding.

use crate::Error;
use tch::{Device, Tensor};

/// Where rows (or documents packed into one row) begin and end among the `n` tokens of a batch.
#[derive(Debug)]
pub struct RowLayout {
    pub(crate) lengths: RowLengths,
    /// The row length that the variable-length attention kernel is told; at least that of the
    /// longest row.
    pub(crate) longest_bound: i64,
    /// int32 `[rows + 1]`, for flash attention on CUDA. Rows without tokens may follow the real
    /// ones.
    pub(crate) cumulative_lengths: Tensor,
    /// float32 `[n]`: each token's place in its row, for rope's angles.
    pub(crate) positions: Tensor,
}

/// Consecutive rows of the same length. Attention takes them in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RowGroup {
    /// The first row's first token.
    pub(crate) start: i64,
    pub(crate) num_rows: i64,
    pub(crate) length: i64,
}

impl RowLayout {
    /// Rows of the given lengths, one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no rows, if one is empty, or if they have 2³¹ tokens or more;
    /// [`Error::Torch`] from libtorch.
    pub fn new(lengths: &[usize], device: Device) -> Result<Self, Error> {
        let lengths = RowLengths::new(lengths)?;
        let cumulative_lengths = Tensor::f_from_slice(&lengths.cumulative(0))?.f_to_device(device)?;
        let positions = Tensor::f_from_slice(&lengths.positions())?.f_to_device(device)?;
        Ok(Self { longest_bound: lengths.longest, lengths, cumulative_lengths, positions })
    }

    /// Tokens of all rows, `n`.
    pub fn num_tokens(&self) -> i64 {
        self.lengths.lengths.iter().sum()
    }

    /// Tokens of the longest row.
    pub fn longest(&self) -> i64 {
        self.lengths.longest
    }

    /// All rows as one group, if they have the same length.
    pub(crate) fn as_one_group(&self) -> Option<RowGroup> {
        let RowLengths { lengths, longest: length } = &self.lengths;
        let num_rows = i64::try_from(lengths.len()).ok()?;
        let have_one_length = lengths.iter().all(|other| other == length);
        have_one_length.then_some(RowGroup { start: 0, num_rows, length: *length })
    }

    /// The rows as groups of neighbours that have the same length.
    pub(crate) fn groups(&self) -> Vec<RowGroup> {
        let mut groups: Vec<RowGroup> = Vec::new();
        let mut start = 0;
        for length in &self.lengths.lengths {
            match groups.last_mut() {
                Some(group) if group.length == *length => group.num_rows += 1,
                _ => groups.push(RowGroup { start, num_rows: 1, length: *length }),
            }
            start += length;
        }
        groups
    }
}

/// Lengths of rows, each at least 1, with a sum that fits an int32.
#[derive(Debug, Clone)]
pub(crate) struct RowLengths {
    lengths: Vec<i64>,
    pub(crate) longest: i64,
}

impl RowLengths {
    pub(crate) fn new(lengths: &[usize]) -> Result<Self, Error> {
        let unfit =
            |found: String| Error::Shape { operation: "rows", expected: "rows of 1 token or more".into(), found };
        let lengths: Vec<i64> = lengths.iter().map(|length| i64::try_from(*length).unwrap_or(i64::MAX)).collect();
        let longest = lengths.iter().copied().max().ok_or_else(|| unfit("none".into()))?;
        if let Some(row) = lengths.iter().position(|length| *length == 0) {
            return Err(unfit(format!("row {row} empty")));
        }
        let total = lengths.iter().fold(0i64, |total, length| total.saturating_add(*length));
        if i32::try_from(total).is_err() {
            return Err(unfit("2^31 tokens or more".into()));
        }
        Ok(Self { lengths, longest })
    }

    /// 0, then the end of each row. The last end is repeated until there are `min_rows` rows.
    pub(crate) fn cumulative(&self, min_rows: usize) -> Vec<i32> {
        let mut ends = vec![0];
        let mut end = 0;
        for length in &self.lengths {
            end += *length as i32; // `new` has checked the sum
            ends.push(end);
        }
        ends.resize(ends.len().max(min_rows + 1), end);
        ends
    }

    /// 0, 1, 2, … in each row.
    pub(crate) fn positions(&self) -> Vec<f32> {
        self.lengths.iter().flat_map(|length| (0..*length).map(|place| place as f32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_length_are_grouped() {
        let rows = RowLayout::new(&[3, 3, 1, 3], Device::Cpu).unwrap();
        let group = |start, num_rows, length| RowGroup { start, num_rows, length };
        assert_eq!(rows.groups(), [group(0, 2, 3), group(6, 1, 1), group(7, 1, 3)]);
        assert_eq!(rows.as_one_group(), None);
        assert_eq!(RowLayout::new(&[4, 4], Device::Cpu).unwrap().as_one_group(), Some(group(0, 2, 4)));
        let positions = Vec::<f32>::try_from(&rows.positions).unwrap();
        assert_eq!(positions, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 0.0, 1.0, 2.0]);
        assert_eq!(Vec::<i32>::try_from(&rows.cumulative_lengths).unwrap(), [0, 3, 6, 7, 10]);
        assert_eq!((rows.num_tokens(), rows.longest()), (10, 3));
    }
}
