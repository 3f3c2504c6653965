//! The arguments of a run: Hugging Face's names, the documented recipe as defaults.

use crate::schedule::{SchedulerKwargs, SchedulerType};
use crate::string_enum::string_enum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

mod validate;
pub use validate::ArgumentProblem;

#[cfg(test)]
mod tests;

string_enum! {
    /// When something is done that is done again and again.
    "strategy" IntervalStrategy {
        /// Never.
        No = "no",
        /// Every so many optimizer steps.
        Steps = "steps",
        /// At the end of each epoch.
        Epoch = "epoch",
    }
}

string_enum! {
    /// When checkpoints are saved.
    "save strategy" SaveStrategy {
        /// Never.
        No = "no",
        /// Every `save_steps` optimizer steps, and after the last one.
        Steps = "steps",
        /// At the end of each epoch.
        Epoch = "epoch",
        /// Whenever an evaluation is the best so far.
        Best = "best",
    }
}

string_enum! {
    /// What a step time is.
    "step timing" StepTiming {
        /// Wait for the device after each step: each time is that step's own.
        Step = "step",
        /// Do not wait: steps between two waits (logs, evaluations, saves) share their mean, and
        /// the maximum is of such means. The first step is always timed by itself.
        Window = "window",
    }
}

/// What the loop is told. Fields are named and defined as in `transformers.TrainingArguments`; the
/// defaults are the documented recipe. Step counts below 1 are ratios of the run's optimizer steps,
/// rounded up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingArguments {
    /// Where everything goes. Empty means it was not given, which is an error.
    pub output_dir: PathBuf,
    /// Passes over the training split; a fraction stops within an epoch. Default 10.
    pub num_train_epochs: f64,
    /// Optimizer steps to take in place of `num_train_epochs` when positive. Default -1.
    pub max_steps: i64,
    /// Rows in a training micro-batch. Default 8. The source makes the batches; a resume checks
    /// that it is unchanged.
    pub per_device_train_batch_size: usize,
    /// Rows in an evaluation batch. Default 8. Metrics do not depend on it.
    pub per_device_eval_batch_size: usize,
    /// Micro-batches in an optimizer step. Default 1.
    pub gradient_accumulation_steps: usize,
    /// Peak learning rate. Default 1e-5.
    pub learning_rate: f64,
    /// Shape of the schedule. Default linear.
    pub lr_scheduler_type: SchedulerType,
    /// Parameters of the schedule.
    pub lr_scheduler_kwargs: SchedulerKwargs,
    /// Part of the run spent warming up, when `warmup_steps` is 0. Default 0.1.
    pub warmup_ratio: f64,
    /// Steps of warm-up; below 1 a ratio; 0: `warmup_ratio` decides. Default 0.
    pub warmup_steps: f64,
    /// Gradients are scaled down to this norm; 0 turns clipping off. Default 1.
    pub max_grad_norm: f64,
    /// End the run after this many steps in a row whose loss or gradient norm is not finite; each
    /// of them updates nothing. To know in time, the host waits for the device before each update.
    /// 0: it does not; figures are looked at when they are due, and the first that is not finite
    /// ends the run. Default 3.
    pub max_bad_steps: u64,
    /// When memory runs out, go on with micro-batches of half as many rows, and twice as many of
    /// them in an optimizer step. Default false.
    pub auto_find_batch_size: bool,
    /// When to log. Default steps.
    pub logging_strategy: IntervalStrategy,
    /// Optimizer steps between logs. Default 85.
    pub logging_steps: f64,
    /// Log the first step too. Default false.
    pub logging_first_step: bool,
    /// When to evaluate. Default epoch.
    pub eval_strategy: IntervalStrategy,
    /// Optimizer steps between evaluations; unset: `logging_steps`.
    pub eval_steps: Option<f64>,
    /// Epochs (strategy epoch) or steps (strategy steps) before the first evaluation. Default 0.
    pub eval_delay: f64,
    /// Evaluate before the first step. Default false.
    pub eval_on_start: bool,
    /// When to save. Default epoch.
    pub save_strategy: SaveStrategy,
    /// Optimizer steps between checkpoints. Default 500.
    pub save_steps: f64,
    /// Checkpoints to keep; unset keeps all. Default 1. The best one is kept besides.
    pub save_total_limit: Option<usize>,
    /// Load the best checkpoint into the model when training has ended. Default false.
    pub load_best_model_at_end: bool,
    /// The evaluation metric that decides which checkpoint is best, one of
    /// [`TrainingArguments::BEST_METRICS`], with or without `eval_`; unset: `loss`.
    pub metric_for_best_model: Option<String>,
    /// Whether a greater metric is better; unset: unless its name ends in `loss` or it is the
    /// perplexity.
    pub greater_is_better: Option<bool>,
    /// Seed of the row order and of all else that is random. Default 42.
    pub seed: u64,
    /// How steps are timed. Default step.
    pub step_timing: StepTiming,
}

impl Default for TrainingArguments {
    fn default() -> Self {
        Self {
            output_dir: PathBuf::new(),
            num_train_epochs: 10.0,
            max_steps: -1,
            per_device_train_batch_size: 8,
            per_device_eval_batch_size: 8,
            gradient_accumulation_steps: 1,
            learning_rate: 1e-5,
            lr_scheduler_type: SchedulerType::Linear,
            lr_scheduler_kwargs: SchedulerKwargs::default(),
            warmup_ratio: 0.1,
            warmup_steps: 0.0,
            max_grad_norm: 1.0,
            max_bad_steps: 3,
            auto_find_batch_size: false,
            logging_strategy: IntervalStrategy::Steps,
            logging_steps: 85.0,
            logging_first_step: false,
            eval_strategy: IntervalStrategy::Epoch,
            eval_steps: None,
            eval_delay: 0.0,
            eval_on_start: false,
            save_strategy: SaveStrategy::Epoch,
            save_steps: 500.0,
            save_total_limit: Some(1),
            load_best_model_at_end: false,
            metric_for_best_model: None,
            greater_is_better: None,
            seed: 42,
            step_timing: StepTiming::Step,
        }
    }
}

impl TrainingArguments {
    /// What `metric_for_best_model` may name, with or without `eval_`.
    pub const BEST_METRICS: &[&str] = &["loss", "mean_token_accuracy", "perplexity"];

    /// The key in the evaluation metrics that decides which checkpoint is best: `eval_loss` unless
    /// set.
    pub fn best_metric_key(&self) -> String {
        let name = self.metric_for_best_model.as_deref().unwrap_or("loss");
        match name.strip_prefix("eval_").unwrap_or(name) {
            "perplexity" => "perplexity".to_owned(),
            name => format!("eval_{name}"),
        }
    }

    /// Whether `metric` is finite and strictly better than `best`.
    pub fn is_better(&self, metric: f64, best: Option<f64>) -> bool {
        let greater_is_better = self.greater_is_better.unwrap_or_else(|| {
            let key = self.best_metric_key();
            !key.ends_with("loss") && key != "perplexity"
        });
        metric.is_finite() && best.is_none_or(|best| if greater_is_better { metric > best } else { metric < best })
    }

    /// Whether the loop itself looks for the best checkpoint, as HF's Trainer does.
    pub(crate) fn tracks_best(&self) -> bool {
        self.load_best_model_at_end || self.metric_for_best_model.is_some() || self.save_strategy == SaveStrategy::Best
    }
}
