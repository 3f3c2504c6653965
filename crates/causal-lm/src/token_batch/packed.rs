//! The tensors of a batch in one buffer, which moves to another device by one copy.

use crate::Error;
use crate::row_layout::{RowLayout, RowLengths};
use tch::{Kind, Tensor};

/// Each section of the buffer begins at a multiple of this many 8-byte words.
const ALIGNMENT: usize = 2;

/// The sizes of a batch's tensors. Batches of one shape need the same operations on tensors of the
/// same sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BatchShape {
    num_tokens: i64,
    num_target_positions: i64,
    num_rows: i64,
    longest_bound: i64,
    has_tokens_by_id: bool,
}

/// What goes into the buffer; see [`Views`] for the fields' meaning.
pub(super) struct Sections<'a> {
    pub(super) input_ids: &'a [i64],
    pub(super) target_positions: &'a [i64],
    pub(super) targets: &'a [i64],
    pub(super) tokens_by_id: Option<&'a [i32]>,
    pub(super) lengths: &'a RowLengths,
    pub(super) min_rows: usize,
    pub(super) longest_bound: i64,
}

/// The tensors of a batch, as views into its buffer.
pub(super) struct Views {
    /// int64 `[n]`.
    pub(super) input_ids: Tensor,
    /// int64 `[m]`: the tokens that have a target.
    pub(super) target_positions: Tensor,
    /// int64 `[m]`: the token that each of them is to predict; negative for padding.
    pub(super) targets: Tensor,
    /// int32 `[n]`: the tokens in the order of their ids, then −1 for each whose gradient is zero.
    pub(super) tokens_by_id: Option<Tensor>,
    pub(super) rows: RowLayout,
}

impl Sections<'_> {
    /// The buffer, int64, and the sizes that [`views`] needs to find the sections in it.
    pub(super) fn pack(&self) -> Result<(Tensor, BatchShape), Error> {
        let cumulative_lengths = self.lengths.cumulative(self.min_rows);
        let mut words = Vec::new();
        let mut add = |section: &mut dyn Iterator<Item = i64>| {
            words.extend(section);
            words.resize(words.len().next_multiple_of(ALIGNMENT), 0);
        };
        // In the order that `views` reads.
        add(&mut self.input_ids.iter().copied());
        add(&mut self.target_positions.iter().copied());
        add(&mut self.targets.iter().copied());
        add(&mut words_of_pairs(&cumulative_lengths, |end| end.cast_unsigned()));
        add(&mut words_of_pairs(&self.lengths.positions(), f32::to_bits));
        add(&mut words_of_pairs(self.tokens_by_id.unwrap_or_default(), |token| token.cast_unsigned()));
        let size = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let shape = BatchShape {
            num_tokens: size(self.input_ids.len()),
            num_target_positions: size(self.targets.len()),
            num_rows: size(cumulative_lengths.len() - 1),
            longest_bound: self.longest_bound,
            has_tokens_by_id: self.tokens_by_id.is_some(),
        };
        Ok((Tensor::f_from_slice(&words)?, shape))
    }
}

/// The tensors of a batch of `shape` in its buffer.
pub(super) fn views(packed: &Tensor, shape: BatchShape, lengths: RowLengths) -> Result<Views, Error> {
    let mut start = 0;
    let mut section = |length: i64, kind: Kind| -> Result<Tensor, Error> {
        let num_bytes = length * kind.elt_size_in_bytes() as i64;
        let num_words = (num_bytes + 7) / 8;
        let section = packed.f_narrow(0, start, num_words)?;
        start += num_words.unsigned_abs().next_multiple_of(ALIGNMENT as u64).cast_signed();
        if kind == Kind::Int64 { Ok(section) } else { Ok(section.f_view_dtype(kind)?.f_narrow(0, 0, length)?) }
    };
    let input_ids = section(shape.num_tokens, Kind::Int64)?;
    let target_positions = section(shape.num_target_positions, Kind::Int64)?;
    let targets = section(shape.num_target_positions, Kind::Int64)?;
    let cumulative_lengths = section(shape.num_rows + 1, Kind::Int)?;
    let positions = section(shape.num_tokens, Kind::Float)?;
    let tokens_by_id = shape.has_tokens_by_id.then(|| section(shape.num_tokens, Kind::Int)).transpose()?;
    let rows = RowLayout { lengths, longest_bound: shape.longest_bound, cumulative_lengths, positions };
    Ok(Views { input_ids, target_positions, targets, tokens_by_id, rows })
}

/// Two 4-byte values in each 8-byte word, in the byte order of memory.
fn words_of_pairs<T: Copy>(values: &[T], bits: impl Fn(T) -> u32) -> impl Iterator<Item = i64> {
    values.chunks(2).map(move |pair| {
        let bytes = |index: usize| pair.get(index).map_or([0; 4], |value| bits(*value).to_ne_bytes());
        let ([a, b, c, d], [e, f, g, h]) = (bytes(0), bytes(1));
        i64::from_ne_bytes([a, b, c, d, e, f, g, h])
    })
}
