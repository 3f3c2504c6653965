//! For which batches cuDNN makes a plan. It makes one for each shape, which pays where shapes come
//! again.

use crate::row_layout::RowGroup;
use std::collections::HashMap;

/// A plan takes tens of milliseconds, and saves a tenth of a millisecond in each block.
const PAYS_FROM: u32 = 3;
/// Shapes that are counted. Where there are more, they hardly come again.
const MAX_SHAPES: usize = 64;

/// How often batches whose rows have one length have been seen, by number and length of rows.
#[derive(Debug, Default)]
pub(crate) struct PlanPolicy(HashMap<RowGroup, u32>);

impl PlanPolicy {
    /// Counts a batch, and says whether a plan for its shape pays.
    pub(crate) fn pays_after_counting(&mut self, rows: RowGroup) -> bool {
        if self.0.len() == MAX_SHAPES && !self.0.contains_key(&rows) {
            return false;
        }
        let count = self.0.entry(rows).or_default();
        *count = count.saturating_add(1);
        *count >= PAYS_FROM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_made_for_what_comes_a_third_time() {
        let rows = |num_rows, length| RowGroup { start: 0, num_rows, length };
        let mut policy = PlanPolicy::default();
        let seen = [(8, 1024), (8, 1024), (4, 1024), (8, 1024), (8, 512), (8, 1024)];
        let pays = seen.map(|(num_rows, length)| policy.pays_after_counting(rows(num_rows, length)));
        assert_eq!(pays, [false, false, false, true, false, true]);
        for length in 0..1000 {
            assert!(!policy.pays_after_counting(rows(1, length)));
        }
        for _ in 0..3 {
            assert!(!policy.pays_after_counting(rows(1, 999)), "the table is full");
        }
        assert!(policy.pays_after_counting(rows(8, 1024)));
    }
}
