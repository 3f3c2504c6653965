//! When targets refresh their subspaces: all on one step, or spread over the steps of a gap.
//!
//! The schedule is no state. It follows from a target's position in its group and from its number
//! of steps, so a resumed run refreshes as if it had never stopped, on the same kind of device.

use crate::RefreshTiming;
use tch::Device;

/// Targets of one shape that a GPU decomposes together. At order 1024, 24 matrices take as long as
/// 8; beyond that, the time grows with the number.
const TOGETHER_ON_GPU: usize = 24;

/// For each target the step within a gap, from 1 to `gap`, on which it is refreshed. `shapes` are
/// those of a group's targets, in order.
pub(crate) fn refresh_steps(shapes: &[Vec<i64>], timing: RefreshTiming, gap: i64, device: Device) -> Vec<i64> {
    let together = match (timing, device) {
        (RefreshTiming::Together, _) => return vec![gap; shapes.len()],
        (RefreshTiming::Staggered, Device::Cuda(_)) => TOGETHER_ON_GPU,
        // The CPU decomposes one matrix after the other.
        (RefreshTiming::Staggered, _) => 1,
    };
    let groups = groups(shapes, together);
    let count = groups.len() as i128;
    // i128, because a gap may be any number. The result is no larger than the gap.
    let step = |index: i128| ((index * i128::from(gap) / count) as i64).max(1);
    (1..).zip(groups).flat_map(|(index, members)| std::iter::repeat_n(step(index), members)).collect()
}

/// Splits runs of neighbours of one shape as evenly as possible into groups of at most `at_most`.
/// Returns the number of targets in each group.
fn groups(shapes: &[Vec<i64>], at_most: usize) -> Vec<usize> {
    let runs = shapes.chunk_by(|shape, next| shape == next).map(<[_]>::len);
    let parts = |run: usize| {
        let count = run.div_ceil(at_most);
        (0..count).map(move |part| (part + 1) * run / count - part * run / count)
    };
    runs.flat_map(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lengths: &[usize]) -> Vec<Vec<i64>> {
        let shape = |(index, length): (usize, &usize)| std::iter::repeat_n(vec![index as i64, 8], *length);
        lengths.iter().enumerate().flat_map(shape).collect()
    }

    #[test]
    fn groups_are_of_one_shape_and_even() {
        assert_eq!(groups(&of(&[96, 48, 24]), 24), [24; 7]);
        assert_eq!(groups(&of(&[50, 1, 10]), 24), [16, 17, 17, 1, 10]);
        assert_eq!(groups(&of(&[2, 3]), 1), [1; 5]);
        assert!(groups(&[], 24).is_empty());
    }

    #[test]
    fn steps_are_spread_over_the_gap() {
        let shapes = of(&[2, 3]);
        let staggered = |gap, device| refresh_steps(&shapes, RefreshTiming::Staggered, gap, device);
        assert_eq!(staggered(500, Device::Cpu), [100, 200, 300, 400, 500]);
        assert_eq!(staggered(500, Device::Cuda(0)), [250, 250, 500, 500, 500]);
        // More targets than steps: several share a step.
        assert_eq!(staggered(2, Device::Cpu), [1, 1, 1, 1, 2]);
        assert_eq!(staggered(1, Device::Cpu), [1; 5]);
        assert_eq!(staggered(i64::MAX, Device::Cpu)[4], i64::MAX);
        assert_eq!(refresh_steps(&shapes, RefreshTiming::Together, 500, Device::Cpu), [500; 5]);
    }
}
