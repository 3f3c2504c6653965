//! Which batches have come before: a kernel that makes a plan for each shape pays where shapes
//! repeat.

use crate::rows::RowGroup;
use std::collections::HashMap;

/// A plan takes tens of milliseconds, and saves a tenth of one in each block.
const PAYS_FROM: u32 = 3;
/// Shapes that are counted. Where there are more, they hardly repeat.
const MAX_SHAPES: usize = 64;

/// How often batches with all rows of one length were seen.
#[derive(Debug, Default)]
pub(crate) struct Repeats(HashMap<RowGroup, u32>);

impl Repeats {
    /// Counts a batch, and says whether a plan for it pays.
    pub(crate) fn pays(&mut self, rows: RowGroup) -> bool {
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
        let mut repeats = Repeats::default();
        let seen = [(8, 1024), (8, 1024), (4, 1024), (8, 1024), (8, 512), (8, 1024)];
        let pays = seen.map(|(num_rows, length)| repeats.pays(rows(num_rows, length)));
        assert_eq!(pays, [false, false, false, true, false, true]);
        for length in 0..1000 {
            assert!(!repeats.pays(rows(1, length)));
        }
        for _ in 0..3 {
            assert!(!repeats.pays(rows(1, 999)), "the table is full");
        }
        assert!(repeats.pays(rows(8, 1024)));
    }
}
