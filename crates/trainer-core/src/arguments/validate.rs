//! Checks of the arguments against each other. All problems are reported together.

use super::{IntervalStrategy, SaveStrategy, TrainingArguments};
use crate::Error;
use crate::schedule::{SchedulerKwargs, SchedulerType};
use std::fmt;

/// The largest batch size and the largest number of accumulation steps. A larger number is a typing
/// error. Products of two numbers within the limit fit every integer type that they are stored in.
const MAX_BATCH: usize = 1_000_000;

/// One argument that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentProblem {
    /// The argument's name.
    pub field: &'static str,
    /// The argument's value.
    pub value: String,
    /// How to fix it.
    pub fix: String,
}

impl fmt::Display for ArgumentProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is {}: {}", self.field, self.value, self.fix)
    }
}

/// Collects problems. A check reads `problems.require(condition, field, value, fix)`.
#[derive(Default)]
struct Problems(Vec<ArgumentProblem>);

impl Problems {
    fn require(&mut self, holds: bool, field: &'static str, value: impl fmt::Display, fix: impl Into<String>) {
        if !holds {
            self.0.push(ArgumentProblem { field, value: value.to_string(), fix: fix.into() });
        }
    }

    /// Requires a positive whole number of steps, or a ratio between 0 and 1.
    fn require_interval(&mut self, field: &'static str, steps: f64) {
        let usable = steps.is_finite() && steps > 0.0 && (steps < 1.0 || steps.fract() == 0.0);
        self.require(usable, field, steps, "give a whole number of steps, or a ratio of the run between 0 and 1");
    }
}

impl TrainingArguments {
    /// Checks every argument, alone and against the others.
    ///
    /// # Errors
    ///
    /// [`Error::Arguments`] lists all problems together.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Problems::default();
        self.check_run(&mut problems);
        self.check_schedule(&mut problems);
        self.check_strategies(&mut problems);
        if problems.0.is_empty() { Ok(()) } else { Err(Error::Arguments { problems: problems.0 }) }
    }

    fn check_run(&self, problems: &mut Problems) {
        let set = !self.output_dir.as_os_str().is_empty();
        problems.require(set, "output_dir", "empty", "give the folder to write to");
        let is_text = self.output_dir.to_str().is_some();
        problems.require(is_text, "output_dir", self.output_dir.display(), "the path must be valid UTF-8");
        let usable = self.max_steps == -1 || self.max_steps > 0;
        problems.require(usable, "max_steps", self.max_steps, "give a positive number, or -1 for num_train_epochs");
        let epochs = self.num_train_epochs;
        let usable = self.max_steps > 0 || (epochs.is_finite() && epochs > 0.0);
        problems.require(usable, "num_train_epochs", epochs, "give a positive number");
        for (field, value) in [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
        ] {
            problems.require(value >= 1, field, value, "give 1 or more");
            problems.require(value <= MAX_BATCH, field, value, format!("use {MAX_BATCH} or less"));
        }
        let norm = self.max_grad_norm;
        let usable = norm.is_finite() && norm >= 0.0;
        problems.require(usable, "max_grad_norm", norm, "give a positive number, or 0 for no clipping");
        let limit = self.save_total_limit;
        problems.require(limit != Some(0), "save_total_limit", 0, "give 1 or more, or leave it out to keep all");
    }

    fn check_schedule(&self, problems: &mut Problems) {
        let rate = self.learning_rate;
        problems.require(rate.is_finite() && rate >= 0.0, "learning_rate", rate, "give a number of 0 or more");
        let ratio = self.warmup_ratio;
        problems.require((0.0..=1.0).contains(&ratio), "warmup_ratio", ratio, "give a ratio between 0 and 1");
        let steps = self.warmup_steps.unwrap_or_default();
        problems.require(
            steps.is_finite() && steps >= 0.0 && (steps < 1.0 || steps.fract() == 0.0),
            "warmup_steps",
            steps,
            "give a whole number of steps, a ratio of the run below 1, or 0 for no warm-up",
        );

        let kwargs = &self.lr_scheduler_kwargs;
        let kind = self.lr_scheduler_type;
        let accepted = match kind.accepted_kwargs() {
            [] => "takes none".to_owned(),
            keys => format!("takes {}", keys.join(", ")),
        };
        for key in kwargs.keys() {
            let usable = kind.accepted_kwargs().contains(&key.as_str());
            problems.require(usable, "lr_scheduler_kwargs", key, format!("leave it out; {kind} {accepted}"));
        }
        for (key, value) in
            [("num_cycles", kwargs.num_cycles), ("power", kwargs.power), ("timescale", kwargs.timescale)]
        {
            let usable = value.is_none_or(|value| value.is_finite() && value > 0.0);
            let shown = format!("{key}={}", value.unwrap_or_default());
            problems.require(usable, "lr_scheduler_kwargs", shown, "give a positive number");
        }
        for (key, value) in [
            ("min_lr_rate", kwargs.min_lr_rate),
            ("min_lr_ratio", kwargs.min_lr_ratio),
            ("warmup_lr_rate", kwargs.warmup_lr_rate),
            ("factor", kwargs.factor),
        ] {
            let usable = value.is_none_or(|value| (0.0..1.0).contains(&value));
            let shown = format!("{key}={}", value.unwrap_or_default());
            problems.require(usable, "lr_scheduler_kwargs", shown, "give 0 or more, less than 1");
        }
        for (key, value) in [("min_lr", kwargs.min_lr), ("threshold", kwargs.threshold), ("eps", kwargs.eps)] {
            let usable = value.is_none_or(|value| value.is_finite() && value >= 0.0);
            let shown = format!("{key}={}", value.unwrap_or_default());
            problems.require(usable, "lr_scheduler_kwargs", shown, "give a number of 0 or more");
        }
        self.check_needed_kwargs(problems);
        if kind == SchedulerType::Polynomial {
            let end = kwargs.lr_end();
            let usable = end.is_finite() && (0.0..rate).contains(&end);
            let shown = format!("lr_end={end}");
            problems.require(
                usable,
                "lr_scheduler_kwargs",
                shown,
                format!("give 0 or more, less than learning_rate {rate}"),
            );
        }
    }

    /// What a schedule cannot do without.
    fn check_needed_kwargs(&self, problems: &mut Problems) {
        let SchedulerKwargs { min_lr, min_lr_rate, num_decay_steps, .. } = &self.lr_scheduler_kwargs;
        let kind = self.lr_scheduler_type;
        match kind {
            SchedulerType::CosineWithMinLr | SchedulerType::CosineWarmupWithMinLr => {
                let usable = min_lr.is_some() != min_lr_rate.is_some();
                let fix = "give one of min_lr and min_lr_rate in `lr_scheduler_kwargs`";
                problems.require(usable, "lr_scheduler_type", kind, fix);
            }
            SchedulerType::WarmupStableDecay => {
                let fix = "give num_decay_steps in `lr_scheduler_kwargs`";
                problems.require(num_decay_steps.is_some(), "lr_scheduler_type", kind, fix);
            }
            SchedulerType::ReduceLrOnPlateau => {
                let usable = self.eval_strategy != IntervalStrategy::No;
                let fix = "set eval_strategy to steps or epoch: evaluations decide the rate";
                problems.require(usable, "lr_scheduler_type", kind, fix);
            }
            _ => {}
        }
    }

    fn check_strategies(&self, problems: &mut Problems) {
        if self.logging_strategy == IntervalStrategy::Steps {
            problems.require_interval("logging_steps", self.logging_steps);
        }
        if self.eval_strategy == IntervalStrategy::Steps {
            problems.require_interval("eval_steps", self.eval_steps.unwrap_or(self.logging_steps));
        }
        if self.save_strategy == SaveStrategy::Steps {
            problems.require_interval("save_steps", self.save_steps);
        }
        let delay = self.eval_delay;
        problems.require(delay.is_finite() && delay >= 0.0, "eval_delay", delay, "give 0 or more");

        let evaluates = self.eval_strategy != IntervalStrategy::No;
        let saves = self.save_strategy;
        let usable = saves != SaveStrategy::Best || evaluates;
        problems.require(usable, "save_strategy", saves, "set eval_strategy to steps or epoch: best needs evaluations");
        if self.load_best_model_at_end {
            self.check_load_best(problems);
        }
        let named = self.metric_for_best_model.as_deref().unwrap_or("loss");
        let is_known = Self::BEST_METRICS.contains(&named.strip_prefix("eval_").unwrap_or(named));
        let shown = if named.is_empty() { "empty" } else { named };
        let fix = format!("use one of {}, or leave it out for loss", Self::BEST_METRICS.join(", "));
        problems.require(is_known, "metric_for_best_model", shown, fix);
    }

    /// The best evaluation must have a checkpoint. Either the loop saves the best evaluations, or
    /// it saves at the steps at which it evaluates.
    fn check_load_best(&self, problems: &mut Problems) {
        let matching = match (self.eval_strategy, self.save_strategy) {
            (IntervalStrategy::No, _) => false,
            (_, SaveStrategy::Best) => true,
            (IntervalStrategy::Epoch, SaveStrategy::Epoch) => true,
            (IntervalStrategy::Steps, SaveStrategy::Steps) => {
                let every = self.eval_steps.unwrap_or(self.logging_steps);
                // The unit is a millionth: as floats, 0.3 is not a multiple of 0.1.
                let (save, eval) = ((self.save_steps * 1e6).round(), (every * 1e6).round());
                (self.save_steps < 1.0) == (every < 1.0) && save % eval == 0.0
            }
            _ => false,
        };
        problems.require(
            matching,
            "load_best_model_at_end",
            true,
            format!(
                "set save_strategy to best, or equal to eval_strategy (found {} and {}), with save_steps a multiple of eval_steps",
                self.save_strategy, self.eval_strategy
            ),
        );
    }
}
