//! Parameters of schedules: `lr_scheduler_kwargs`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::f64::consts::PI;

/// Parameters of a schedule. A parameter that is not set has HF's default.
/// [`TrainingArguments::validate`](crate::TrainingArguments::validate) refuses a parameter that the
/// [`SchedulerType`](crate::SchedulerType) does not use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object with any of the keys num_cycles, power, lr_end and timescale, or those of other schedules"
)]
pub struct SchedulerKwargs {
    /// Number of cosine waves. Default 1 for `cosine_with_restarts`, and 0.5 for others.
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
    /// The lowest learning rate: of `cosine_with_min_lr` and `cosine_warmup_with_min_lr`, which
    /// need this or `min_lr_rate`, and of `reduce_lr_on_plateau`, where it is 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_lr: Option<f64>,
    /// The lowest learning rate as a part of the highest, in place of `min_lr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_lr_rate: Option<f64>,
    /// The first learning rate of `cosine_warmup_with_min_lr` as a part of the highest. Default:
    /// one over the number of warm-up steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_lr_rate: Option<f64>,
    /// Steps of decay of `warmup_stable_decay`, which needs this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_decay_steps: Option<u64>,
    /// Steps between warm-up and decay. Default: what they leave of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_stable_steps: Option<u64>,
    /// The shape of the warm-up of `warmup_stable_decay`. Default linear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_type: Option<StageShape>,
    /// The shape of its decay. Default cosine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_type: Option<StageShape>,
    /// The rate before its warm-up and after its decay, as a part of the highest. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_lr_ratio: Option<f64>,
    /// Whether `reduce_lr_on_plateau` takes a smaller or a greater metric for an improvement.
    /// Default min.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<PlateauMode>,
    /// What it multiplies the rate by. Default 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Evaluations in a row without improvement that it lets pass. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// The smallest change that is an improvement. Default 1e-4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Whether `threshold` is a part of the best metric or a difference from it. Default rel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_mode: Option<ThresholdMode>,
    /// Evaluations after a reduction that do not count. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<u64>,
    /// A reduction by no more than this is left out. Default 1e-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
}

impl SchedulerKwargs {
    pub(crate) fn lr_end(&self) -> f64 {
        self.lr_end.unwrap_or(1e-7)
    }

    /// The keys that are set.
    pub(crate) fn keys(&self) -> Vec<String> {
        match serde_json::to_value(self) {
            Ok(Value::Object(set)) => set.into_iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        }
    }
}

/// How the rate goes from one level to another. Its names in files are `linear`, `cosine` and
/// `1-sqrt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageShape {
    /// In a straight line.
    Linear,
    /// Along a cosine wave.
    Cosine,
    /// As one minus a square root.
    #[serde(rename = "1-sqrt")]
    OneMinusSqrt,
}

impl StageShape {
    pub(super) fn rising(self, progress: f64) -> f64 {
        match self {
            Self::Linear => progress,
            Self::Cosine => 0.5 * (1.0 - (PI * progress).cos()),
            Self::OneMinusSqrt => 1.0 - (1.0 - progress).sqrt(),
        }
    }

    pub(super) fn falling(self, progress: f64, num_cycles: f64) -> f64 {
        match self {
            Self::Linear => 1.0 - progress,
            Self::Cosine => 0.5 * (1.0 + (PI * num_cycles * 2.0 * progress).cos()),
            Self::OneMinusSqrt => 1.0 - progress.sqrt(),
        }
    }
}

/// Which metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlateauMode {
    /// A smaller one.
    Min,
    /// A greater one.
    Max,
}

/// What a threshold is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    /// The best metric.
    Rel,
    /// Nothing: it is a difference.
    Abs,
}
