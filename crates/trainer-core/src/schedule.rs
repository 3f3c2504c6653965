//! Learning rate schedules, equal to those of `transformers.optimization`.
//!
//! Step `k`, counted from 0, is taken with `learning_rate · factor(k)`; with warm-up the first step
//! therefore has rate 0.

use crate::TrainingArguments;
use crate::string_enum::string_enum;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

#[cfg(test)]
mod tests;

string_enum! {
    /// Shape of the schedule after the warm-up.
    "lr_scheduler_type" SchedulerType {
        /// Down to 0 in a straight line.
        Linear = "linear",
        /// Down to 0 along half a cosine (`num_cycles` 0.5).
        Cosine = "cosine",
        /// `num_cycles` half cosines (default 1), each from the top.
        CosineWithRestarts = "cosine_with_restarts",
        /// Down to `lr_end` along a polynomial of degree `power`.
        Polynomial = "polynomial",
        /// The same rate throughout, without warm-up.
        Constant = "constant",
        /// The same rate after the warm-up.
        ConstantWithWarmup = "constant_with_warmup",
        /// Falls with the square root of the step.
        InverseSqrt = "inverse_sqrt",
    }
}

impl SchedulerType {
    /// The keys of `lr_scheduler_kwargs` it understands.
    pub(crate) fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Cosine | Self::CosineWithRestarts => &["num_cycles"],
            Self::Polynomial => &["lr_end", "power"],
            Self::InverseSqrt => &["timescale"],
            Self::Linear | Self::Constant | Self::ConstantWithWarmup => &[],
        }
    }
}

/// Parameters of a schedule; unset ones have HF's defaults. A key its type does not take is refused
/// by validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulerKwargs {
    /// Waves of a cosine: 0.5 for `cosine`, 1 for `cosine_with_restarts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_cycles: Option<f64>,
    /// Degree of the polynomial: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
    /// Last learning rate of the polynomial: 1e-7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_end: Option<f64>,
    /// Time scale of `inverse_sqrt`: the warm-up steps, or 10000 without warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timescale: Option<f64>,
}

impl SchedulerKwargs {
    pub(crate) fn lr_end(&self) -> f64 {
        self.lr_end.unwrap_or(1e-7)
    }

    /// Each key and whether it was given.
    pub(crate) fn given(&self) -> [(&'static str, bool); 4] {
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

    /// Steps of warm-up.
    pub fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    /// The learning rate that optimizer step `step`, counted from 0, is taken with.
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

/// `warmup_steps` of 1 or more is a count, below it a ratio of the run; `warmup_ratio` counts when
/// it is 0.
fn warmup_steps(arguments: &TrainingArguments, training_steps: u64) -> u64 {
    if arguments.warmup_steps >= 1.0 {
        return arguments.warmup_steps as u64;
    }
    let ratio = if arguments.warmup_steps > 0.0 { arguments.warmup_steps } else { arguments.warmup_ratio };
    (training_steps as f64 * ratio).ceil() as u64
}
