//! The arguments of a run, with the names and the meaning that they have in Hugging Face's
//! transformers.

use crate::schedule::{SchedulerKwargs, SchedulerType};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

mod parse;
mod validate;
pub use validate::ArgumentProblem;

#[cfg(test)]
mod tests;

/// When the loop logs or evaluates. Its names in files are `no`, `steps` and `epoch`; `Display` and
/// `FromStr` use the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalStrategy {
    /// Never.
    No,
    /// Every given number of optimizer steps.
    Steps,
    /// At the end of each epoch.
    Epoch,
}

serde_plain::derive_display_from_serialize!(IntervalStrategy);
serde_plain::derive_fromstr_from_deserialize!(IntervalStrategy);

/// When the loop saves a checkpoint. Its names in files are `no`, `steps`, `epoch` and `best`;
/// `Display` and `FromStr` use the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaveStrategy {
    /// Never.
    No,
    /// Every `save_steps` optimizer steps, and after the last one.
    Steps,
    /// At the end of each epoch.
    Epoch,
    /// Whenever an evaluation is the best so far.
    Best,
}

serde_plain::derive_display_from_serialize!(SaveStrategy);
serde_plain::derive_fromstr_from_deserialize!(SaveStrategy);

/// Whether entries of the log history say how many tokens were trained on. Its names in files are
/// `no`, `all` and `non_padding`; `true` is `all` and `false` is `no`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputTokens {
    /// They do not.
    No,
    /// They do. Padding is never trained on here, so it does not count.
    All,
    /// The same as `all`.
    NonPadding,
}

serde_plain::derive_display_from_serialize!(InputTokens);
serde_plain::derive_fromstr_from_deserialize!(InputTokens);

/// How step times are measured. The names in files are `step` and `window`; `Display` and `FromStr`
/// use the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepTiming {
    /// Wait for the device after each step, so that every step has its own time.
    Step,
    /// Do not wait after each step. Steps between two waits (logs, evaluations, saves) share their
    /// mean time, and the reported maximum is the largest of these means. The first step still has
    /// its own time. The name in files is `window`.
    #[serde(rename = "window")]
    Averaged,
}

serde_plain::derive_display_from_serialize!(StepTiming);
serde_plain::derive_fromstr_from_deserialize!(StepTiming);

/// The arguments of a run.
///
/// Fields have the names and the meaning of `transformers.TrainingArguments`. Their defaults are
/// those of transformers 5.17. [`documented_recipe`](Self::documented_recipe) is a preset with the
/// values of a documented fine-tuning run. Two fields do not exist in transformers: `max_bad_steps`
/// and `step_timing`. `warmup_ratio` existed in earlier versions of it.
///
/// A step is an optimizer step. A number of steps below 1 is a ratio of all steps of the run,
/// rounded up to whole steps.
///
/// A missing field has its default when the arguments are read from a file. An unknown field is an
/// error. Values are read as Hugging Face's parser reads them: a number may be in quotes
/// (`"2e-5"`), and `"yes"` is true. `null` means what `None` means in transformers; where that is
/// an error, it is one here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object of training arguments")]
pub struct TrainingArguments {
    /// The folder that checkpoints and result files are written to. It must be set; the default is
    /// empty, which is an error. It must be valid UTF-8, because JSON files record it.
    pub output_dir: PathBuf,
    /// Passes over the training split. A fraction ends the run within an epoch. Default 3.
    #[serde(deserialize_with = "parse::number")]
    pub num_train_epochs: f64,
    /// Optimizer steps of the run. A positive number replaces `num_train_epochs`. Default -1.
    #[serde(deserialize_with = "parse::signed")]
    pub max_steps: i64,
    /// Rows in a training micro-batch, at most 1,000,000. Default 8. The loop does not make
    /// batches: the [`BatchSource`](crate::BatchSource) must use the same number. A resumed run
    /// must not change it.
    #[serde(deserialize_with = "parse::count")]
    pub per_device_train_batch_size: usize,
    /// Rows in an evaluation batch, at most 1,000,000. Default 8. The metrics do not depend on it.
    #[serde(deserialize_with = "parse::count")]
    pub per_device_eval_batch_size: usize,
    /// Micro-batches in an optimizer step, at most 1,000,000. Default 1.
    #[serde(deserialize_with = "parse::count")]
    pub gradient_accumulation_steps: usize,
    /// The highest learning rate of the schedule. Default 5e-5.
    #[serde(deserialize_with = "parse::number")]
    pub learning_rate: f64,
    /// The shape of the schedule. Default linear.
    pub lr_scheduler_type: SchedulerType,
    /// Parameters of the schedule. Default: none.
    #[serde(deserialize_with = "parse::scheduler_kwargs")]
    pub lr_scheduler_kwargs: SchedulerKwargs,
    /// The part of the run that warms up, between 0 and 1. It counts when `warmup_steps` is not
    /// set. Default 0, which `null` means too.
    #[serde(deserialize_with = "parse::number_or_zero")]
    pub warmup_ratio: f64,
    /// Steps of warm-up. A number below 1 is a ratio of the run, and 0 is no warm-up. Default:
    /// not set, which leaves it to `warmup_ratio`.
    #[serde(deserialize_with = "parse::number_if_given")]
    pub warmup_steps: Option<f64>,
    /// A gradient with a larger norm is scaled down to this norm. 0 turns clipping off, and so does
    /// `null`. Default 1.
    #[serde(deserialize_with = "parse::number_or_zero")]
    pub max_grad_norm: f64,
    /// The run ends after this many bad steps in a row. A step is bad when its loss or its gradient
    /// norm is NaN or infinite; it updates nothing. To find a bad step before its update, the host
    /// waits for the device in each step. With 0 the host does not wait: the loop looks at the
    /// figures when a log is due, and the first bad step ends the run. Default 3.
    #[serde(deserialize_with = "parse::count")]
    pub max_bad_steps: u64,
    /// When memory runs out, continue with micro-batches of half as many rows, and twice as many
    /// micro-batches in an optimizer step. Default false.
    #[serde(deserialize_with = "parse::truth")]
    pub auto_find_batch_size: bool,
    /// When to log. Default steps.
    pub logging_strategy: IntervalStrategy,
    /// Optimizer steps between logs. Default 500.
    #[serde(deserialize_with = "parse::number")]
    pub logging_steps: f64,
    /// Log the first step as well. Default false.
    #[serde(deserialize_with = "parse::truth")]
    pub logging_first_step: bool,
    /// Adds `num_input_tokens_seen` to each entry of the log history. Default no. The state counts
    /// these tokens in any case.
    #[serde(deserialize_with = "parse::input_tokens")]
    pub include_num_input_tokens_seen: InputTokens,
    /// When to evaluate. Default no.
    pub eval_strategy: IntervalStrategy,
    /// Optimizer steps between evaluations. Default: `logging_steps`, which 0 in a file means too.
    #[serde(deserialize_with = "parse::steps_unless_zero")]
    pub eval_steps: Option<f64>,
    /// Do not evaluate before this many epochs (strategy `epoch`) or steps (strategy `steps`).
    /// Default 0.
    #[serde(deserialize_with = "parse::number")]
    pub eval_delay: f64,
    /// Evaluate before the first step. Default false.
    #[serde(deserialize_with = "parse::truth")]
    pub eval_on_start: bool,
    /// When to save a checkpoint. Default steps.
    pub save_strategy: SaveStrategy,
    /// Optimizer steps between checkpoints. Default 500.
    #[serde(deserialize_with = "parse::number")]
    pub save_steps: f64,
    /// Leave the optimizer's state out of checkpoints. No run can resume from them then. Default
    /// false. The loop always writes its own files; a learner reads this field.
    #[serde(deserialize_with = "parse::truth")]
    pub save_only_model: bool,
    /// How many checkpoints to keep, in addition to the best one. Default: all, which a number of 0
    /// or less in a file means too. The loop deletes nothing itself; a callback that deletes
    /// checkpoints reads this field.
    #[serde(deserialize_with = "parse::limit")]
    pub save_total_limit: Option<usize>,
    /// Load the best checkpoint into the learner when training has ended. Default false.
    #[serde(deserialize_with = "parse::truth")]
    pub load_best_model_at_end: bool,
    /// The evaluation metric that decides which checkpoint is the best: one of
    /// [`TrainingArguments::BEST_METRICS`], with or without the prefix `eval_`. Default: `loss`.
    pub metric_for_best_model: Option<String>,
    /// Whether a greater metric is better. Default: false for a metric whose name ends in `loss`
    /// and for the perplexity, true for others.
    #[serde(deserialize_with = "parse::truth_if_given")]
    pub greater_is_better: Option<bool>,
    /// The seed of the row order and of everything else that is random. Default 42.
    #[serde(deserialize_with = "parse::count")]
    pub seed: u64,
    /// The seed of the row order alone. Default: `seed`.
    #[serde(deserialize_with = "parse::count_if_given")]
    pub data_seed: Option<u64>,
    /// How step times are measured. Default step.
    pub step_timing: StepTiming,
}

impl Default for TrainingArguments {
    /// The defaults of transformers 5.17, and an empty `output_dir`.
    fn default() -> Self {
        Self {
            output_dir: PathBuf::new(),
            num_train_epochs: 3.0,
            max_steps: -1,
            per_device_train_batch_size: 8,
            per_device_eval_batch_size: 8,
            gradient_accumulation_steps: 1,
            learning_rate: 5e-5,
            lr_scheduler_type: SchedulerType::Linear,
            lr_scheduler_kwargs: SchedulerKwargs::default(),
            warmup_ratio: 0.0,
            warmup_steps: None,
            max_grad_norm: 1.0,
            max_bad_steps: 3,
            auto_find_batch_size: false,
            logging_strategy: IntervalStrategy::Steps,
            logging_steps: 500.0,
            logging_first_step: false,
            include_num_input_tokens_seen: InputTokens::No,
            eval_strategy: IntervalStrategy::No,
            eval_steps: None,
            eval_delay: 0.0,
            eval_on_start: false,
            save_strategy: SaveStrategy::Steps,
            save_steps: 500.0,
            save_only_model: false,
            save_total_limit: None,
            load_best_model_at_end: false,
            metric_for_best_model: None,
            greater_is_better: None,
            seed: 42,
            data_seed: None,
            step_timing: StepTiming::Step,
        }
    }
}

impl TrainingArguments {
    /// The values that `metric_for_best_model` can have, with or without the prefix `eval_`.
    pub const BEST_METRICS: &[&str] = &["loss", "mean_token_accuracy", "perplexity"];

    /// A preset for full fine-tuning on a small dataset: 10 epochs with a learning rate of 1e-5 and
    /// a warm-up over a tenth of the run, a log every 85 steps, an evaluation and a checkpoint at
    /// the end of each epoch, one checkpoint kept. All other fields have their defaults.
    #[must_use]
    pub fn documented_recipe() -> Self {
        Self {
            num_train_epochs: 10.0,
            learning_rate: 1e-5,
            warmup_ratio: 0.1,
            logging_steps: 85.0,
            eval_strategy: IntervalStrategy::Epoch,
            save_strategy: SaveStrategy::Epoch,
            save_total_limit: Some(1),
            ..Self::default()
        }
    }

    /// The seed of the row order: `data_seed`, or `seed` without it.
    pub fn row_order_seed(&self) -> u64 {
        self.data_seed.unwrap_or(self.seed)
    }

    /// The key of the evaluation metric that decides which checkpoint is the best. It is
    /// `eval_loss` unless `metric_for_best_model` names another metric.
    pub fn best_metric_key(&self) -> String {
        let name = self.metric_for_best_model.as_deref().unwrap_or("loss");
        match name.strip_prefix("eval_").unwrap_or(name) {
            "perplexity" => "perplexity".to_owned(),
            name => format!("eval_{name}"),
        }
    }

    /// Whether `metric` is finite and strictly better than `best`. Any finite metric is better than
    /// `None`.
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
