//! Learning rate schedules, equal to those of `transformers.optimization`.
//!
//! Step `k`, counted from 0, uses the rate `learning_rate · factor(k)`. With a warm-up the first
//! step therefore has the rate 0.

use crate::TrainingArguments;
use plateau::Plateau;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

mod kwargs;
mod plateau;
#[cfg(test)]
mod tests;

pub use kwargs::{PlateauMode, SchedulerKwargs, StageShape, ThresholdMode};

/// The shape of the schedule after the warm-up. The names in files are those of HF, for example
/// `cosine_with_restarts`; `Display` and `FromStr` use the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerType {
    /// Falls to 0 in a straight line.
    Linear,
    /// Falls to 0 along half a cosine wave (`num_cycles` 0.5).
    Cosine,
    /// `num_cycles` half cosine waves (default 1), each starting at the highest rate.
    CosineWithRestarts,
    /// Falls to `lr_end` along a polynomial of degree `power`.
    Polynomial,
    /// The same rate in all steps, without a warm-up.
    Constant,
    /// The same rate in all steps after the warm-up.
    ConstantWithWarmup,
    /// Falls with the square root of the step.
    InverseSqrt,
    /// Falls along half a cosine wave to `min_lr`, or to `min_lr_rate` of the highest rate.
    CosineWithMinLr,
    /// As `cosine_with_min_lr`, one step ahead: the first step of the warm-up has a rate.
    CosineWarmupWithMinLr,
    /// Stays at the highest rate after the warm-up, and falls in the last `num_decay_steps` steps.
    WarmupStableDecay,
    /// The same rate, multiplied by `factor` whenever evaluations have not improved for `patience`
    /// of them. There is no warm-up.
    ReduceLrOnPlateau,
}

serde_plain::derive_display_from_serialize!(SchedulerType);
serde_plain::derive_fromstr_from_deserialize!(SchedulerType);

impl SchedulerType {
    /// Each type with the keys of `lr_scheduler_kwargs` that it accepts.
    const ACCEPTED_KWARGS: &[(Self, &[&str])] = &[
        (Self::Cosine, &["num_cycles"]),
        (Self::CosineWithRestarts, &["num_cycles"]),
        (Self::Polynomial, &["lr_end", "power"]),
        (Self::InverseSqrt, &["timescale"]),
        (Self::CosineWithMinLr, &["num_cycles", "min_lr", "min_lr_rate"]),
        (Self::CosineWarmupWithMinLr, &["num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"]),
        (
            Self::WarmupStableDecay,
            &["num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"],
        ),
        (
            Self::ReduceLrOnPlateau,
            &["mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps"],
        ),
    ];

    /// The keys of `lr_scheduler_kwargs` that this type accepts.
    pub(crate) fn accepted_kwargs(self) -> &'static [&'static str] {
        Self::ACCEPTED_KWARGS.iter().find(|(kind, _)| *kind == self).map_or(&[], |(_, keys)| *keys)
    }
}

/// The learning rate of every step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    learning_rate: f64,
    shape: SchedulerType,
    kwargs: SchedulerKwargs,
    warmup_steps: u64,
    training_steps: u64,
    /// The rate that evaluations have led to, where they decide.
    adapted: Option<f64>,
}

impl Schedule {
    /// The schedule of a run of `training_steps` optimizer steps.
    pub fn new(arguments: &TrainingArguments, training_steps: u64) -> Self {
        Self {
            learning_rate: arguments.learning_rate,
            shape: arguments.lr_scheduler_type,
            kwargs: arguments.lr_scheduler_kwargs.clone(),
            warmup_steps: warmup_steps(arguments, training_steps),
            training_steps,
            adapted: None,
        }
    }

    /// Takes in the evaluations so far: the values of the metric that decides which checkpoint is
    /// the best, in their order. Only [`SchedulerType::ReduceLrOnPlateau`] depends on them.
    pub fn adapt_to(&mut self, evaluations: impl IntoIterator<Item = f64>) {
        if self.shape == SchedulerType::ReduceLrOnPlateau {
            self.adapted = Some(Plateau::new(self.learning_rate, &self.kwargs).rate_after(evaluations));
        }
    }

    /// The number of warm-up steps.
    pub fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    /// The learning rate of optimizer step `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.adapted.unwrap_or_else(|| self.learning_rate * self.factor(step))
    }

    fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps
            && let Some(factor) = self.warmup_factor(step)
        {
            return factor;
        }
        let after_warmup = step.saturating_sub(self.warmup_steps) as f64;
        let decay_steps = self.training_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = after_warmup / decay_steps;
        match self.shape {
            SchedulerType::Constant | SchedulerType::ConstantWithWarmup | SchedulerType::ReduceLrOnPlateau => 1.0,
            SchedulerType::Linear => self.training_steps.saturating_sub(step) as f64 / decay_steps,
            SchedulerType::Cosine => {
                let num_cycles = self.kwargs.num_cycles.unwrap_or(0.5);
                (0.5 * (1.0 + (PI * num_cycles * 2.0 * progress).cos())).max(0.0)
            }
            SchedulerType::CosineWithRestarts if progress >= 1.0 => 0.0,
            SchedulerType::CosineWithRestarts => {
                let num_cycles = self.kwargs.num_cycles.unwrap_or(1.0);
                (0.5 * (1.0 + (PI * ((num_cycles * progress) % 1.0)).cos())).max(0.0)
            }
            SchedulerType::Polynomial if step > self.training_steps => self.kwargs.lr_end() / self.learning_rate,
            SchedulerType::Polynomial => {
                let range = self.learning_rate - self.kwargs.lr_end();
                let decay = range * (1.0 - progress).powf(self.kwargs.power.unwrap_or(1.0)) + self.kwargs.lr_end();
                decay / self.learning_rate
            }
            SchedulerType::InverseSqrt => {
                let default = if self.warmup_steps == 0 { 10_000.0 } else { self.warmup_steps as f64 };
                let timescale = self.kwargs.timescale.unwrap_or(default);
                let shift = timescale - self.warmup_steps as f64;
                1.0 / ((step as f64 + shift) / timescale).sqrt()
            }
            SchedulerType::CosineWithMinLr => self.cosine_to_lowest(progress),
            SchedulerType::CosineWarmupWithMinLr => self.cosine_to_lowest((after_warmup + 1.0) / decay_steps),
            SchedulerType::WarmupStableDecay => self.stable_then_decay(step),
        }
    }

    /// The factor within the warm-up; `None` for a schedule without one.
    fn warmup_factor(&self, step: u64) -> Option<f64> {
        let (step, of) = (step as f64, self.warmup_steps as f64);
        match self.shape {
            SchedulerType::Constant | SchedulerType::ReduceLrOnPlateau => None,
            SchedulerType::CosineWarmupWithMinLr => Some(match self.kwargs.warmup_lr_rate {
                None => (step + 1.0) / of,
                Some(first) => first + (1.0 - first) * step / (of - 1.0).max(1.0),
            }),
            SchedulerType::WarmupStableDecay => {
                let lowest = self.kwargs.min_lr_ratio.unwrap_or(0.0);
                let shape = self.kwargs.warmup_type.unwrap_or(StageShape::Linear);
                Some(shape.rising(step / of) * (1.0 - lowest) + lowest)
            }
            _ => Some(step / of),
        }
    }

    fn cosine_to_lowest(&self, progress: f64) -> f64 {
        let lowest = self.kwargs.min_lr_rate.or_else(|| Some(self.kwargs.min_lr? / self.learning_rate));
        let lowest = lowest.unwrap_or(0.0);
        let factor = 0.5 * (1.0 + (PI * self.kwargs.num_cycles.unwrap_or(0.5) * 2.0 * progress).cos());
        (factor * (1.0 - lowest) + lowest).max(0.0)
    }

    fn stable_then_decay(&self, step: u64) -> f64 {
        let SchedulerKwargs { num_decay_steps, num_stable_steps, decay_type, min_lr_ratio, num_cycles, .. } =
            self.kwargs;
        let lowest = min_lr_ratio.unwrap_or(0.0);
        let decay = num_decay_steps.unwrap_or_default() as f64;
        let warmup = self.warmup_steps as f64;
        // Below 0 where the decay is longer than what is left of the run. It then begins midway.
        let stable = num_stable_steps.map_or(self.training_steps as f64 - warmup - decay, |steps| steps as f64);
        let into_decay = step as f64 - warmup - stable;
        if into_decay < 0.0 {
            return 1.0;
        }
        if into_decay >= decay {
            return lowest;
        }
        let shape = decay_type.unwrap_or(StageShape::Cosine);
        let factor = shape.falling(into_decay / decay, num_cycles.unwrap_or(0.5));
        (factor * (1.0 - lowest) + lowest).max(0.0)
    }
}

/// The number of warm-up steps. `warmup_steps` is a count when it is 1 or more, and a ratio of the
/// run below 1. When it is not set, `warmup_ratio` is used.
fn warmup_steps(arguments: &TrainingArguments, training_steps: u64) -> u64 {
    let steps = arguments.warmup_steps.unwrap_or(arguments.warmup_ratio);
    if arguments.warmup_steps.is_some() && steps >= 1.0 {
        return steps as u64;
    }
    (training_steps as f64 * steps).ceil() as u64
}
