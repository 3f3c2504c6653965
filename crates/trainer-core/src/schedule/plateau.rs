//! The rate that falls when evaluations stop improving, as torch's `ReduceLROnPlateau`.
//!
//! The state is a function of all evaluations so far. They are in the log history, so a resumed run
//! computes the state from them, and no checkpoint has to hold it.

use super::{PlateauMode, SchedulerKwargs, ThresholdMode};

pub(super) struct Plateau<'a> {
    rate: f64,
    kwargs: &'a SchedulerKwargs,
    best: Option<f64>,
    /// Evaluations in a row without improvement.
    num_bad: u64,
    /// Evaluations that do not count, after a reduction.
    cooldown: u64,
}

impl<'a> Plateau<'a> {
    pub(super) fn new(rate: f64, kwargs: &'a SchedulerKwargs) -> Self {
        Self { rate, kwargs, best: None, num_bad: 0, cooldown: 0 }
    }

    pub(super) fn rate_after(mut self, evaluations: impl IntoIterator<Item = f64>) -> f64 {
        for metric in evaluations {
            self.add(metric);
        }
        self.rate
    }

    fn add(&mut self, metric: f64) {
        if self.is_better(metric) {
            self.best = Some(metric);
            self.num_bad = 0;
        } else {
            self.num_bad += 1;
        }
        if self.cooldown > 0 {
            self.cooldown -= 1;
            self.num_bad = 0;
        }
        if self.num_bad > self.kwargs.patience.unwrap_or(10) {
            let reduced = (self.rate * self.kwargs.factor.unwrap_or(0.1)).max(self.kwargs.min_lr.unwrap_or(0.0));
            if self.rate - reduced > self.kwargs.eps.unwrap_or(1e-8) {
                self.rate = reduced;
            }
            self.cooldown = self.kwargs.cooldown.unwrap_or(0);
            self.num_bad = 0;
        }
    }

    fn is_better(&self, metric: f64) -> bool {
        let Some(best) = self.best else { return !metric.is_nan() };
        let threshold = self.kwargs.threshold.unwrap_or(1e-4);
        let mode = self.kwargs.mode.unwrap_or(PlateauMode::Min);
        match (mode, self.kwargs.threshold_mode.unwrap_or(ThresholdMode::Rel)) {
            (PlateauMode::Min, ThresholdMode::Rel) => metric < best * (1.0 - threshold),
            (PlateauMode::Min, ThresholdMode::Abs) => metric < best - threshold,
            (PlateauMode::Max, ThresholdMode::Rel) => metric > best * (threshold + 1.0),
            (PlateauMode::Max, ThresholdMode::Abs) => metric > best + threshold,
        }
    }
}
