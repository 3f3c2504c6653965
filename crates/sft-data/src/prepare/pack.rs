//! Packs several rows into one example, with the same result as TRL's `pack_dataset`.
//!
//! Best fit decreasing ("Fewer Truncations Improve Language Modeling", Ding et al., 2024,
//! <https://arxiv.org/abs/2404.10830>) takes the longest row first, and puts each row into the
//! example where it leaves the least space.

use super::tokenize::TokenRow;
use super::{Example, Labels};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// `datasets.map(batched=True)` passes this many rows at a time, and TRL packs each lot separately.
const ROWS_PER_LOT: usize = 1000;

/// Packs whole rows into examples of at most `limit` tokens. Longer rows are split first.
pub(super) fn best_fit_decreasing(rows: Vec<TokenRow>, limit: usize) -> Vec<Example> {
    let mut rows = rows.into_iter();
    let mut examples = Vec::new();
    loop {
        // A lot is freed before the next one is packed.
        let lot: Vec<TokenRow> = rows.by_ref().take(ROWS_PER_LOT).collect();
        if lot.is_empty() {
            return examples;
        }
        examples.extend(pack_lot(&split(&lot, limit), limit).into_iter().filter(has_targets));
    }
}

/// Lays rows end to end and cuts the stream every `limit` tokens. Each example is one document,
/// even if rows end inside it.
pub(super) fn wrapped(rows: &[TokenRow], limit: usize) -> Vec<Example> {
    let lot_to_examples = |lot: &[TokenRow]| {
        let stream = concatenate(lot.iter().map(Piece::from));
        let rows_of = rows_by_piece(lot, limit);
        let stream = [TokenRow { input_ids: stream.input_ids, labels: stream.labels, ..TokenRow::default() }];
        let pieces = split(&stream, limit).into_iter().zip(rows_of);
        let examples: Vec<Example> = pieces.map(|(piece, rows)| Example { rows, ..concatenate([piece]) }).collect();
        examples
    };
    rows.chunks(ROWS_PER_LOT).flat_map(lot_to_examples).filter(has_targets).collect()
}

/// For each piece of `limit` tokens, the rows that it holds a part of.
fn rows_by_piece(rows: &[TokenRow], limit: usize) -> Vec<Vec<u64>> {
    let mut pieces: Vec<Vec<u64>> = Vec::new();
    let mut start = 0;
    for row in rows.iter().filter(|row| !row.input_ids.is_empty()) {
        let end = start + row.input_ids.len();
        pieces.resize_with(end.div_ceil(limit), Vec::new);
        pieces[start / limit..].iter_mut().for_each(|piece| piece.push(row.number));
        start = end;
    }
    pieces
}

/// Part of a row.
#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    input_ids: &'a [u32],
    /// The labels of the whole row.
    labels: Option<&'a Labels>,
    /// Where the part starts in the row.
    start: usize,
    row: u64,
}

impl<'a> From<&'a TokenRow> for Piece<'a> {
    fn from(row: &'a TokenRow) -> Self {
        Self { input_ids: &row.input_ids, labels: row.labels.as_ref(), start: 0, row: row.number }
    }
}

fn split(rows: &[TokenRow], limit: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::with_capacity(rows.len());
    for row in rows {
        for (index, input_ids) in row.input_ids.chunks(limit).enumerate() {
            pieces.push(Piece { input_ids, start: index * limit, ..Piece::from(row) });
        }
    }
    pieces
}

fn pack_lot(pieces: &[Piece<'_>], limit: usize) -> Vec<Example> {
    let mut order: Vec<&Piece<'_>> = pieces.iter().collect();
    order.sort_by_key(|piece| Reverse(piece.input_ids.len()));
    let mut bins: Vec<Vec<Piece<'_>>> = Vec::new();
    // The bins that have a given space left. The bin that has had it the longest comes first.
    let mut by_space: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for &piece in order {
        let length = piece.input_ids.len();
        let best_fit = by_space.range_mut(length..).next().and_then(|(&space, bins)| Some((space, bins.pop_front()?)));
        let (space, bin) = best_fit.unwrap_or_else(|| {
            bins.push(Vec::new());
            (limit, bins.len() - 1)
        });
        if by_space.get(&space).is_some_and(VecDeque::is_empty) {
            by_space.remove(&space);
        }
        bins[bin].push(piece);
        if space > length {
            by_space.entry(space - length).or_default().push_back(bin);
        }
    }
    bins.into_iter().map(concatenate).collect()
}

fn concatenate<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Example {
    let pieces: Vec<Piece<'_>> = pieces.into_iter().collect();
    let input_ids: Vec<u32> = pieces.iter().flat_map(|piece| piece.input_ids).copied().collect();
    let labels = pieces.iter().any(|piece| piece.labels.is_some()).then(|| {
        let mut labels = Labels::default();
        let mut at = 0;
        for piece in &pieces {
            let length = piece.input_ids.len();
            match piece.labels {
                Some(row) => labels.push_piece(row, piece.start..piece.start + length, at),
                None => labels.push(at..at + length),
            }
            at += length;
        }
        labels
    });
    let segment_lengths = pieces.iter().map(|piece| piece.input_ids.len() as u32).collect();
    let mut rows: Vec<u64> = pieces.iter().map(|piece| piece.row).collect();
    rows.dedup();
    Example { input_ids, labels, segment_lengths, rows }
}

/// False for a last piece of one token, which predicts nothing.
fn has_targets(example: &Example) -> bool {
    example.num_targets() > 0
}

#[cfg(test)]
mod tests;
