//! A batch with its rows laid end to end: no operation spends time on padding.

use crate::Error;
use tch::{Device, Kind, Tensor};

/// Where rows (or documents packed into one) begin and end among `n` tokens.
#[derive(Debug)]
pub struct Rows {
    lengths: Vec<i64>,
    longest: i64,
    /// At least `longest`; what the variable-length kernel is told.
    pub(crate) longest_bound: i64,
    /// int32 `[rows + 1]`, for flash attention on CUDA; there may be more rows, without tokens, at
    /// the end.
    pub(crate) cumulative_lengths: Tensor,
    /// float32 `[n]`: each token's place in its row, for rope's angles.
    pub(crate) positions: Tensor,
}

/// Consecutive rows of one length, which attention takes in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
        let lengths = RowLengths::new(lengths)?;
        let cumulative_lengths = Tensor::f_from_slice(&lengths.ends(0))?.f_to_device(device)?;
        let positions = Tensor::f_from_slice(&lengths.positions())?.f_to_device(device)?;
        let RowLengths { lengths, longest } = lengths;
        Ok(Self { lengths, longest, longest_bound: longest, cumulative_lengths, positions })
    }

    /// Tokens of all rows, `n`.
    pub fn num_tokens(&self) -> i64 {
        self.lengths.iter().sum()
    }

    /// Tokens of the longest row.
    pub fn longest(&self) -> i64 {
        self.longest
    }

    /// All of them, if they are equally long.
    pub(crate) fn of_one_length(&self) -> Option<RowGroup> {
        let length = self.longest;
        let num_rows = i64::try_from(self.lengths.len()).ok()?;
        self.lengths.iter().all(|other| *other == length).then_some(RowGroup { start: 0, num_rows, length })
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

/// Lengths of rows, each at least 1, together fit for int32.
#[derive(Debug, Clone)]
struct RowLengths {
    lengths: Vec<i64>,
    longest: i64,
}

impl RowLengths {
    fn new(lengths: &[usize]) -> Result<Self, Error> {
        let unfit =
            |found: String| Error::Shape { operation: "rows", expected: "rows of 1 token or more".into(), found };
        let lengths: Vec<i64> = lengths.iter().map(|length| i64::try_from(*length).unwrap_or(i64::MAX)).collect();
        let longest = lengths.iter().copied().max().ok_or_else(|| unfit("none".into()))?;
        if let Some(row) = lengths.iter().position(|length| *length == 0) {
            return Err(unfit(format!("row {row} empty")));
        }
        let total = lengths.iter().fold(0i64, |total, length| total.saturating_add(*length));
        if i32::try_from(total).is_err() {
            return Err(unfit("more than 2^31 tokens".into()));
        }
        Ok(Self { lengths, longest })
    }

    /// 0 and each row's end; the last one again until there are `at_least` rows.
    fn ends(&self, at_least: usize) -> Vec<i32> {
        let mut ends = vec![0];
        let mut end = 0;
        for length in &self.lengths {
            end += *length as i32; // checked by `new`
            ends.push(end);
        }
        ends.resize(ends.len().max(at_least + 1), end);
        ends
    }

    /// 0, 1, 2, … in each row.
    fn positions(&self) -> Vec<f32> {
        self.lengths.iter().flat_map(|length| (0..*length).map(|place| place as f32)).collect()
    }
}

/// What a batch is filled up with, so that sizes are the same from one batch to another. Nothing is
/// learned from what is added, and losses and gradients are those of the batch as it was.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    /// Tokens, and positions for which a loss is computed, are filled up to a multiple of this; at
    /// least 1.
    pub multiple: usize,
    /// What tokens are filled up with, in a row of their own.
    pub token_id: i64,
    /// At least so many rows, the last ones without tokens if need be.
    pub rows: usize,
}

/// Token ids of a batch, and what each token is to predict.
#[derive(Debug)]
pub struct TokenBatch {
    /// All that a device needs of a batch, in one piece: it is moved by one copy. The tensors below
    /// are views into it.
    packed: Tensor,
    shape: Shape,
    /// int64 `[n]`.
    pub(crate) input_ids: Tensor,
    pub(crate) rows: Rows,
    /// int64 `[m]`: the tokens that have a target.
    pub(crate) target_positions: Tensor,
    /// int64 `[m]`: the token each of them is to predict; negative where it has none after all.
    pub(crate) targets: Tensor,
    /// int32 `[n]`, in a batch that was filled up: the tokens in the order of their ids, then -1
    /// for each whose gradient is zero.
    pub(crate) tokens_by_id: Option<Tensor>,
    num_targets: i64,
    largest_id: i64,
}

/// Batches of one shape ask for the same operations on tensors of the same sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    tokens: i64,
    targets: i64,
    rows: i64,
    longest_bound: i64,
    has_tokens_by_id: bool,
}

impl TokenBatch {
    /// A batch from host memory. `targets[i]` is the token that should follow `input_ids[i]`, or a
    /// negative number for none.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths do not add up or an id is negative; [`Error::Torch`] from
    /// libtorch.
    pub fn new(input_ids: &[i64], targets: &[i64], lengths: &[usize], device: Device) -> Result<Self, Error> {
        let (positions, kept) = kept_targets(targets);
        let largest_id = check(input_ids, targets, lengths, &kept)?;
        let lengths = RowLengths::new(lengths)?;
        let bound = lengths.longest;
        Self::packed(input_ids, &positions, &kept, None, lengths, 0, bound, largest_id)?.to_device(device)
    }

    /// A batch in host memory whose sizes are those of many others; for devices on which a new size
    /// costs more than a few tokens. What attention is told of the longest row is the next power of
    /// two.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn filled(input_ids: &[i64], targets: &[i64], lengths: &[usize], filling: Filling) -> Result<Self, Error> {
        let (mut positions, mut kept) = kept_targets(targets);
        let num_targets = kept.len();
        let largest_id = check(input_ids, targets, lengths, &kept)?.max(filling.token_id);
        let multiple = filling.multiple.max(1);
        let (mut input_ids, mut lengths) = (input_ids.to_vec(), lengths.to_vec());
        let num_tokens = input_ids.len().next_multiple_of(multiple);
        let mut by_id = tokens_with_gradient(targets, &lengths);
        by_id.sort_by_key(|token| input_ids[*token]);
        // Below 2^31: `RowLengths` sees to it.
        let mut by_id: Vec<i32> = by_id.into_iter().map(|token| token as i32).collect();
        by_id.resize(num_tokens, -1);
        if num_tokens > input_ids.len() {
            lengths.push(num_tokens - input_ids.len());
            input_ids.resize(num_tokens, filling.token_id);
        }
        // Different ones, since each gets a gradient, if only zero.
        let without_target = (0..input_ids.len()).filter(|place| targets.get(*place).is_none_or(|target| *target < 0));
        let lacking = num_targets.next_multiple_of(multiple).min(num_tokens) - num_targets;
        positions.extend(without_target.take(lacking).map(|place| place as i64));
        kept.resize(positions.len(), NO_TARGET);
        let lengths = RowLengths::new(&lengths)?;
        let bound = lengths.longest.max(1).unsigned_abs().next_power_of_two();
        let bound = i64::try_from(bound).unwrap_or(i64::MAX);
        Self::packed(&input_ids, &positions, &kept, Some(&by_id), lengths, filling.rows, bound, largest_id)
    }

    #[allow(clippy::too_many_arguments)] // the parts of a batch
    fn packed(
        input_ids: &[i64],
        positions: &[i64],
        targets: &[i64],
        by_id: Option<&[i32]>,
        lengths: RowLengths,
        at_least_rows: usize,
        longest_bound: i64,
        largest_id: i64,
    ) -> Result<Self, Error> {
        let ends = lengths.ends(at_least_rows);
        let mut packed = Vec::new();
        let mut add = |words: &mut dyn Iterator<Item = i64>| {
            packed.extend(words);
            packed.resize(packed.len().next_multiple_of(ALIGNMENT), 0);
        };
        add(&mut input_ids.iter().copied());
        add(&mut positions.iter().copied());
        add(&mut targets.iter().copied());
        add(&mut pairs(&ends, |end| end.cast_unsigned()));
        add(&mut pairs(&lengths.positions(), f32::to_bits));
        add(&mut pairs(by_id.unwrap_or_default(), |token| token.cast_unsigned()));
        let size = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let (tokens, num_rows) = (size(input_ids.len()), size(ends.len() - 1));
        let (targets_len, has_tokens_by_id) = (size(targets.len()), by_id.is_some());
        let shape = Shape { tokens, targets: targets_len, rows: num_rows, longest_bound, has_tokens_by_id };
        let num_targets = size(targets.iter().filter(|target| **target >= 0).count());
        Self::unpacked(Tensor::f_from_slice(&packed)?, shape, &lengths, num_targets, largest_id)
    }

    fn unpacked(
        packed: Tensor,
        shape: Shape,
        lengths: &RowLengths,
        num_targets: i64,
        largest_id: i64,
    ) -> Result<Self, Error> {
        let mut start = 0;
        let mut section = |length: i64, kind: Kind| -> Result<Tensor, Error> {
            let words = length * kind.elt_size_in_bytes() as i64;
            let words = (words + 7) / 8;
            let section = packed.f_narrow(0, start, words)?;
            start += words.unsigned_abs().next_multiple_of(ALIGNMENT as u64).cast_signed();
            if kind == Kind::Int64 { Ok(section) } else { Ok(section.f_view_dtype(kind)?.f_narrow(0, 0, length)?) }
        };
        let input_ids = section(shape.tokens, Kind::Int64)?;
        let target_positions = section(shape.targets, Kind::Int64)?;
        let targets = section(shape.targets, Kind::Int64)?;
        let cumulative_lengths = section(shape.rows + 1, Kind::Int)?;
        let positions = section(shape.tokens, Kind::Float)?;
        let tokens_by_id = shape.has_tokens_by_id.then(|| section(shape.tokens, Kind::Int)).transpose()?;
        let RowLengths { lengths, longest } = lengths.clone();
        let longest_bound = shape.longest_bound;
        let rows = Rows { lengths, longest, longest_bound, cumulative_lengths, positions };
        Ok(Self { packed, shape, input_ids, rows, target_positions, targets, tokens_by_id, num_targets, largest_id })
    }

    fn with_packed(&self, packed: Tensor) -> Result<Self, Error> {
        let lengths = RowLengths { lengths: self.rows.lengths.clone(), longest: self.rows.longest };
        Self::unpacked(packed, self.shape, &lengths, self.num_targets, self.largest_id)
    }

    /// The batch on another device. On the same one it is the same memory; to a GPU it goes without
    /// waiting for the work queued there.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn to_device(&self, device: Device) -> Result<Self, Error> {
        const NON_BLOCKING: bool = true;
        const ALWAYS_COPY: bool = false;
        // A copy that waits would wait for all work queued on the GPU, the step before included.
        // CUDA copies pageable memory aside before it returns, and libtorch keeps pinned memory
        // until it has been read, so the source may go at once.
        self.with_packed(self.packed.f_to_device_(device, Kind::Int64, NON_BLOCKING, ALWAYS_COPY)?)
    }

    /// The batch in host memory that CUDA device `index` reads by itself while the host goes on.
    ///
    /// # Errors
    /// [`Error::TorchExt`] without CUDA.
    pub fn pinned(&self, index: usize) -> Result<Self, Error> {
        self.with_packed(torch_ext::cuda::pinned(&self.packed, index)?)
    }

    /// Its own memory, on the same device.
    pub(crate) fn copied(&self) -> Result<Self, Error> {
        self.with_packed(crate::ops::copied(&self.packed)?)
    }

    /// Takes over the tokens of a batch of the same shape. What this one says of its rows in host
    /// memory is then of no meaning.
    pub(crate) fn overwrite(&mut self, with: &Self) -> Result<(), Error> {
        if self.shape != with.shape {
            let (expected, found) = (format!("{:?}", self.shape), format!("{:?}", with.shape));
            return Err(Error::Shape { operation: "token batch", expected, found });
        }
        self.packed.f_copy_(&with.packed)?;
        Ok(())
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Token ids, int64 `[n]`.
    pub fn input_ids(&self) -> &Tensor {
        &self.input_ids
    }

    /// Number of tokens with a target.
    pub fn num_targets(&self) -> i64 {
        self.num_targets
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

/// Any negative number.
const NO_TARGET: i64 = -1;

/// Each part of a packed batch begins at a multiple of this many 8-byte words.
const ALIGNMENT: usize = 2;

/// Two 4-byte values in each word, as they lie in memory.
fn pairs<T: Copy>(values: &[T], bits: impl Fn(T) -> u32) -> impl Iterator<Item = i64> {
    values.chunks(2).map(move |pair| {
        let bytes = |index: usize| pair.get(index).map_or([0; 4], |value| bits(*value).to_ne_bytes());
        let ([a, b, c, d], [e, f, g, h]) = (bytes(0), bytes(1));
        i64::from_ne_bytes([a, b, c, d, e, f, g, h])
    })
}

/// Places that have a target, and it.
fn kept_targets(targets: &[i64]) -> (Vec<i64>, Vec<i64>) {
    (0i64..).zip(targets).filter(|(_, target)| **target >= 0).map(|(place, target)| (place, *target)).unzip()
}

/// Tokens of rows up to the last that has a target: no loss follows from those behind it.
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

/// Refuses what does not fit together; the largest id of all.
fn check(input_ids: &[i64], targets: &[i64], lengths: &[usize], kept: &[i64]) -> Result<i64, Error> {
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
    Ok(input_ids.iter().chain(kept).copied().max().unwrap_or(0))
}

#[cfg(test)]
mod tests;
