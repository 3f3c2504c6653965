//! How long rows are.

use serde::Serialize;

/// How long rows are, in tokens. All are 0 if there are no rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: usize,
    /// The longest.
    pub max: usize,
    /// The mean.
    pub mean: f64,
    /// Half of the rows are not longer.
    pub median: usize,
    /// 95 of 100 rows are not longer: with this `max_length` they would stay whole.
    pub percentile_95: usize,
    /// How many rows there are of which length: powers of two, in order, without those at either
    /// end that no row falls into.
    pub histogram: Vec<LengthBucket>,
}

/// Rows of about the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LengthBucket {
    /// The least number of tokens.
    pub from: usize,
    /// The largest number of tokens.
    pub to: usize,
    /// Number of rows.
    pub rows: usize,
}

impl Lengths {
    pub(super) fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        // The smallest length that `share` of the rows do not exceed.
        let quantile = |share: f64| {
            let rank = (lengths.len() as f64 * share).ceil() as usize;
            lengths.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self {
            min: lengths.first().copied().unwrap_or_default(),
            max: lengths.last().copied().unwrap_or_default(),
            mean: lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64,
            median: quantile(0.5),
            percentile_95: quantile(0.95),
            histogram: histogram(&lengths),
        }
    }
}

/// The lengths must be in order.
fn histogram(lengths: &[usize]) -> Vec<LengthBucket> {
    let mut buckets = Vec::new();
    let mut left = lengths;
    while let Some(&shortest) = left.first() {
        let mut bucket = match buckets.last() {
            None => bucket_of(shortest),
            Some(LengthBucket { to, .. }) => bucket_of(to + 1),
        };
        bucket.rows = left.partition_point(|&length| length <= bucket.to);
        left = left.get(bucket.rows..).unwrap_or_default();
        buckets.push(bucket);
    }
    buckets
}

fn bucket_of(length: usize) -> LengthBucket {
    match length.checked_ilog2() {
        None => LengthBucket { from: 0, to: 0, rows: 0 },
        Some(power) => LengthBucket { from: 1 << power, to: (1 << power) * 2 - 1, rows: 0 },
    }
}
