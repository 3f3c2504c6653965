//! When targets refresh their subspaces: all on one step, or spread over the steps of a gap.
//!
//! The plan is no state. It follows from a target's position in its group and from its number of
//! steps, so a resumed run refreshes as if it had never stopped, on the same kind of device. What
//! departs from the plan (a refresh that could not be made, a gap that became longer) is in
//! [`Progress`] and in state files.

use crate::RefreshTiming;
use serde::{Deserialize, Serialize};
use tch::Device;

/// Targets of one shape that a GPU decomposes together. At order 1024, 24 matrices take as long as
/// 8; beyond that, the time grows with the number.
const TOGETHER_ON_GPU: usize = 24;

/// Refreshes that decide about a lazy target's gap (Q-GaLore, 2407.08296).
const LAZY_REFRESHES: usize = 5;
/// The mean cosine from which a subspace counts as unchanged (Q-GaLore).
const LAZY_COSINE: f32 = 0.4;

/// When one target is refreshed.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Steps between two refreshes.
    gap: i64,
    /// The step within each gap that refreshes, from 1 to the gap.
    step_in_gap: i64,
    is_lazy: bool,
    progress: Progress,
}

/// What of a target's refreshes does not follow from the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Progress {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) basis: BasisAge,
    /// The step before which the moments were last zero, if not before the first.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) moments_since: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) lazy: Lazy,
}

/// What the basis comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BasisAge {
    /// The refresh that was due last.
    #[default]
    Current,
    /// An earlier refresh, because the gradient was zero when the next one was due.
    Overdue,
    /// Nothing yet, for the same reason: it is zero, and so is the update.
    Missing,
}

/// The gap of a lazy target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Lazy {
    /// How many times the gap has doubled.
    pub(crate) doublings: u32,
    /// The step of the last refresh.
    pub(crate) last: i64,
    /// Cosines of the first vector with its predecessor at the last refreshes, oldest first.
    pub(crate) cosines: Vec<f32>,
    /// The place of the first vector in the basis.
    pub(crate) first_vector: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Schedule {
    /// A target that is refreshed on the last step of each gap.
    pub(crate) fn new(gap: i64, is_lazy: bool) -> Self {
        Schedule { gap, step_in_gap: gap, is_lazy, progress: Progress::default() }
    }

    /// Sets the step within each gap that refreshes, from 1 to the gap.
    pub(crate) fn refresh_at(&mut self, step: i64) {
        self.step_in_gap = step;
    }

    pub(crate) fn is_lazy(&self) -> bool {
        self.is_lazy
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(crate) fn set_progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Whether the basis is due before `step`, counted from 0, apart from the first.
    pub(crate) fn is_due(&self, step: i64) -> bool {
        self.progress.basis != BasisAge::Current || (self.is_planned(step) && step > self.pause_end())
    }

    fn is_planned(&self, step: i64) -> bool {
        (step - self.step_in_gap) % self.gap == 0
    }

    /// The last step that a lazy target passes over: its gap is `2ᵏ` planned ones. Others pass over
    /// none.
    fn pause_end(&self) -> i64 {
        if !self.is_lazy {
            return -1;
        }
        let longer = 1i64.checked_shl(self.progress.lazy.doublings).filter(|factor| *factor > 0).unwrap_or(i64::MAX);
        self.progress.lazy.last.saturating_add(self.gap.saturating_mul(longer - 1))
    }

    /// Notes that the basis before `step` is from this step's gradient.
    pub(crate) fn refreshed(&mut self, step: i64) {
        self.progress.basis = BasisAge::Current;
        if self.is_lazy {
            self.progress.lazy.last = step;
        }
    }

    /// Notes that the next step has to try again.
    pub(crate) fn postpone(&mut self, age: BasisAge) {
        self.progress.basis = age;
    }

    /// Notes that the moments are zero before `step`.
    pub(crate) fn moments_are_zero(&mut self, step: i64) {
        self.progress.moments_since = step;
    }

    /// Notes how much of the first vector a refresh has kept, and where the first one is now.
    pub(crate) fn note_cosine(&mut self, cosine: f32, first_vector: i64) {
        let lazy = &mut self.progress.lazy;
        lazy.first_vector = first_vector;
        lazy.cosines.push(cosine);
        if lazy.cosines.len() > LAZY_REFRESHES {
            lazy.cosines.remove(0);
        }
        let mean = lazy.cosines.iter().sum::<f32>() / LAZY_REFRESHES as f32;
        if lazy.cosines.len() == LAZY_REFRESHES && mean >= LAZY_COSINE {
            lazy.doublings = lazy.doublings.saturating_add(1);
        }
    }
}

impl Progress {
    /// Whether a target of this rank can have this progress after `num_steps`.
    pub(crate) fn is_possible(&self, num_steps: i64, rank: i64) -> bool {
        let Lazy { last, cosines, first_vector, .. } = &self.lazy;
        (0..=num_steps).contains(&self.moments_since)
            && (0..=num_steps).contains(last)
            && cosines.len() <= LAZY_REFRESHES
            && cosines.iter().all(|cosine| cosine.is_finite())
            && (0..rank).contains(first_vector)
    }
}

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
    fn a_lazy_gap_doubles_while_the_first_vector_stays() {
        let mut schedule = Schedule::new(10, true);
        schedule.refreshed(0);
        let mut refreshed = Vec::new();
        for step in 1..=350 {
            if schedule.is_due(step) {
                schedule.refreshed(step);
                schedule.note_cosine(if step < 300 { 0.9 } else { -2.0 }, 0);
                refreshed.push(step);
            }
        }
        // Five cosines, then 20 steps, then 40, 80 and 160.
        assert_eq!(refreshed, [10, 20, 30, 40, 50, 70, 110, 190, 350]);
        assert_eq!(schedule.progress().lazy.doublings, 4, "the mean fell below the bound");
        let mut other = Schedule::new(10, true);
        other.set_progress(serde_json::from_str(&serde_json::to_string(schedule.progress()).unwrap()).unwrap());
        assert_eq!(other.progress(), schedule.progress());
        assert!(schedule.progress().is_possible(350, 1) && !schedule.progress().is_possible(349, 1));
        assert_eq!(serde_json::to_string(&Progress::default()).unwrap(), "{}");
    }

    #[test]
    fn a_postponed_refresh_is_due_until_it_is_made() {
        let mut schedule = Schedule::new(10, false);
        assert!(schedule.is_due(0) && !schedule.is_due(1) && schedule.is_due(20));
        schedule.postpone(BasisAge::Overdue);
        assert!(schedule.is_due(21) && schedule.is_due(22));
        schedule.refreshed(22);
        assert!(!schedule.is_due(23) && schedule.is_due(30));
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
