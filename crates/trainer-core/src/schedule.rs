//! Learning rate schedules, equal to those of `transformers.optimization`.
//!
//! Step `k`, counted from 0, uses the rate `learning_rate · factor(k)`. With a warm-up the first
//! step therefore has the rate 0.

use crate::TrainingArguments;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

#[cfg(test)]
mod tests;

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
}

serde_plain::derive_display_from_serialize!(SchedulerType);
serde_plain::derive_fromstr_from_deserialize!(SchedulerType);

impl SchedulerType {
    /// The keys of `lr_scheduler_kwargs` that this type accepts.
    pub(crate) fn accepted_kwargs(self) -> &'static [&'static str] {
        match self {
            Self::Cosine | Self::CosineWithRestarts => &["num_cycles"],
            Self::Polynomial => &["lr_end", "power"],
            Self::InverseSqrt => &["timescale"],
            Self::Linear | Self::Constant | Self::ConstantWithWarmup => &[],
        }
    }
}

/// Parameters of a schedule. A parameter that is not set has HF's default.
/// [`TrainingArguments::validate`] refuses a parameter that the [`SchedulerType`] does not use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object with any of the keys num_cycles, power, lr_end and timescale"
)]
pub struct SchedulerKwargs {
    /// Number of cosine waves. Default 0.5 for `cosine`, and 1 for `cosine_with_restarts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_cycles: Option<f64>,
    /// Degree of the polynomial. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
    /// The last learning rate of the polynomial. Default 1e-7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_end: Option<f64>,
    /// Time scale of `inverse_sqrt`, in steps. Default: the number of warm-up steps, or 10000
    /// without a warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timescale: Option<f64>,
}

impl SchedulerKwargs {
    pub(crate) fn lr_end(&self) -> f64 {
        self.lr_end.unwrap_or(1e-7)
    }

    /// Each key, and whether it is set.
    pub(crate) fn keys(&self) -> [(&'static str, bool); 4] {
        [
            ("num_cycles", self.num_cycles.is_some()),
            ("power", self.power.is_some()),
            ("lr_end", self.lr_end.is_some()),
            ("timescale", self.timescale.is_some()),
        ]
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
        }
    }

    /// The number of warm-up steps.
    pub fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    /// The learning rate of optimizer step `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.learning_rate * self.factor(step)
    }

    fn factor(&self, step: u64) -> f64 {
        let warms_up = self.shape != SchedulerType::Constant;
        if warms_up && step < self.warmup_steps {
            return step as f64 / self.warmup_steps.max(1) as f64;
        }
        let after_warmup = step.saturating_sub(self.warmup_steps) as f64;
        let decay_steps = self.training_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = after_warmup / decay_steps;
        match self.shape {
            SchedulerType::Constant | SchedulerType::ConstantWithWarmup => 1.0,
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
        }
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
