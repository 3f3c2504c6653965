//! Which tokens count in the loss.

use std::ops::Range;

/// The tokens of an example that count in the loss, as ranges of positions: in order, not empty,
/// and apart from each other.
///
/// Ranges take 8 bytes each, where the labels themselves would take 8 bytes a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    ranges: Vec<Range<u32>>,
}

impl Labels {
    /// The ranges.
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }

    /// Number of tokens that count in `segment`, without its first one, which no position predicts.
    pub(crate) fn num_targets(&self, segment: Range<usize>) -> usize {
        let first = segment.start + 1;
        self.ranges
            .iter()
            .map(|range| (range.end as usize).min(segment.end).saturating_sub((range.start as usize).max(first)))
            .sum()
    }

    /// Adds a range, which must not start before the end of the last one.
    pub(crate) fn push(&mut self, range: Range<usize>) {
        let range = range.start as u32..range.end as u32;
        match self.ranges.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }

    /// Adds the part of `other` in `piece`, moved so that it starts at `start`.
    pub(crate) fn push_piece(&mut self, other: &Labels, piece: Range<usize>, start: usize) {
        for range in &other.ranges {
            let from = (range.start as usize).max(piece.start);
            let to = (range.end as usize).min(piece.end);
            if from < to {
                self.push(from - piece.start + start..to - piece.start + start);
            }
        }
    }

    /// The tokens that are in both.
    pub(crate) fn intersection(&self, other: &Labels) -> Self {
        let mut both = Self::default();
        for range in &other.ranges {
            both.push_piece(self, range.start as usize..range.end as usize, range.start as usize);
        }
        both.ranges.shrink_to_fit();
        both
    }

    /// The part in `piece`, as labels of an example that starts there.
    pub(crate) fn part(&self, piece: Range<usize>) -> Self {
        let mut part = Self::default();
        part.push_piece(self, piece, 0);
        part.ranges.shrink_to_fit();
        part
    }
}

/// For each token, whether it counts.
impl FromIterator<bool> for Labels {
    fn from_iter<I: IntoIterator<Item = bool>>(counts: I) -> Self {
        let mut labels = Self::default();
        for (position, counts) in counts.into_iter().enumerate() {
            if counts {
                labels.push(position..position + 1);
            }
        }
        labels.ranges.shrink_to_fit();
        labels
    }
}
