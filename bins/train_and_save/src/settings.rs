//! What flags resolve to: defaults filled in, names turned into types, everything checked before
//! anything is read.

mod model;
mod optimizer;
mod problems;

use crate::flags::{Flags, TextOrBool};
use crate::signals::OnSignal;
use anyhow::Result;
use causal_lm::{AttentionKind, CudaGraphs, Recompute};
use galore_optim::{AdamConfig, GaLoreConfig, MomentDtype, TargetModules, WeightUpdate};
use model::{attention, cuda_graphs, device, dtype, recompute};
use optimizer::optimizer;
use problems::Problems;
use sft_data::{DatasetConfig, Evaluation, LossOn, Packing, PrepareConfig, TokenizerOptions};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use tch::Kind;
use trainer_core::{IntervalStrategy, TrainingArguments};

/// The dataset of the documented recipe.
const DEFAULT_DATASET: &str = "yimeng521/sunny_datasets";

/// A run, fully decided but for what depends on the machine.
#[derive(Debug)]
pub struct Settings {
    pub model_name: String,
    pub model_revision: String,
    pub resume: Option<Resume>,
    pub device: DeviceChoice,
    /// `None`: the file's own.
    pub dtype: Option<Kind>,
    /// `None`: as the device is fast at.
    pub bf16: Option<bool>,
    pub attention: AttentionKind,
    /// `None`: as much as free memory asks for.
    pub recompute: Option<Recompute>,
    /// `None`: where they help.
    pub cuda_graphs: Option<CudaGraphs>,
    pub dataset: DatasetConfig,
    pub prepare: PrepareConfig,
    pub padding: Padding,
    pub tokenizer: TokenizerOptions,
    pub optimizer: OptimizerSettings,
    pub training: TrainingArguments,
    pub early_stopping: Option<EarlyStop>,
    /// Above which factor a loss is worth a warning.
    pub loss_spike_factor: Option<f64>,
    pub on_signal: OnSignal,
    pub terminal: Terminal,
}

/// Where to go on from.
#[derive(Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest complete checkpoint in the output folder.
    Newest,
    /// This one.
    From(PathBuf),
}

/// Where to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA if there is one.
    Auto,
    Cpu,
    Cuda(usize),
}

/// How rows of different length share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// End to end, without padding.
    Free,
    /// Each padded to the longest, rounded up to a multiple of this.
    Longest(NonZeroUsize),
}

/// The optimizer and its constants.
#[derive(Debug)]
pub struct OptimizerSettings {
    pub kind: OptimizerKind,
    pub adam: AdamConfig,
    pub weight_update: WeightUpdate,
    /// `None`: by device and weights.
    pub moments: Option<MomentDtype>,
}

#[derive(Debug)]
pub enum OptimizerKind {
    GaLoreAdamW { galore: GaLoreConfig, targets: TargetModules },
    AdamW,
}

/// `early_stopping_patience` and `early_stopping_threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStop {
    pub patience: u64,
    pub threshold: f64,
}

/// What is shown while it trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// A bar where stderr is a terminal.
    Bar,
    /// Lines only.
    Lines,
}

impl Settings {
    /// Fills in the defaults and checks everything that can be checked without reading a file.
    ///
    /// # Errors
    /// One usage error that lists every problem.
    pub fn resolve(flags: Flags) -> Result<Self> {
        let mut problems = Problems::default();
        let optimizer = optimizer(&flags, &mut problems);
        let training = training(&flags, &mut problems);
        let max_length = flags.max_length.unwrap_or(1024);
        let prepare = PrepareConfig {
            max_length: (max_length > 0).then_some(max_length),
            packing: packing(&flags, &mut problems),
            loss_on: loss_on(&flags, &mut problems),
        };
        problems.check(prepare.validate());
        let evaluation = match training.eval_strategy {
            IntervalStrategy::No if !training.eval_on_start => Evaluation::Off,
            _ => Evaluation::Required,
        };
        let padding = padding(&flags, &mut problems);
        if padding != Padding::Free && prepare.packing != Packing::None {
            problems.add("padding_free", "false", "packed rows are not padded: leave out packing or padding");
        }
        let dataset = DatasetConfig {
            dataset_name: flags.dataset_name.unwrap_or_else(|| DEFAULT_DATASET.to_owned()),
            dataset_config: flags.dataset_config,
            revision: flags.dataset_revision.unwrap_or_else(|| "main".to_owned()),
            train_split: flags.dataset_train_split,
            eval_split: flags.dataset_test_split,
            test_size: flags.test_size,
            seed: training.seed,
            text_field: flags.dataset_text_field.unwrap_or_else(|| "text".to_owned()),
            evaluation,
        };
        if flags.report_to.as_deref().is_some_and(|name| name != "none") {
            let found = flags.report_to.as_deref().unwrap_or_default();
            problems.add("report_to", found, "only none is supported; metrics.jsonl has every figure");
        }
        let is_below = |value: f64, least: f64| value.is_nan() || value < least;
        if flags.test_size.is_some_and(|size| is_below(size, 0.0)) {
            problems.add(
                "test_size",
                flags.test_size.unwrap_or_default(),
                "use a fraction below 1 or a number of rows",
            );
        }
        if flags.loss_spike_factor.is_some_and(|factor| !factor.is_finite() || factor <= 1.0) {
            problems.add("loss_spike_factor", flags.loss_spike_factor.unwrap_or_default(), "use a number above 1");
        }
        if let Some(threshold) = flags.early_stopping_threshold {
            if is_below(threshold, 0.0) {
                problems.add("early_stopping_threshold", threshold, "use 0 or more");
            }
            if flags.early_stopping_patience.is_none() {
                problems.add("early_stopping_threshold", threshold, "has no effect without early_stopping_patience");
            }
        }
        let early_stopping = flags
            .early_stopping_patience
            .map(|patience| EarlyStop { patience, threshold: flags.early_stopping_threshold.unwrap_or(0.0) });
        if early_stopping.is_some() && evaluation == Evaluation::Off {
            problems.add("early_stopping_patience", "set", "needs evaluations: set eval_strategy to epoch or steps");
        }
        let settings = Self {
            model_revision: flags.model_revision.unwrap_or_else(|| "main".to_owned()),
            resume: flags.resume_from_checkpoint.and_then(|resume| match resume {
                TextOrBool::Bool(false) => None,
                TextOrBool::Bool(true) => Some(Resume::Newest),
                TextOrBool::Text(path) => Some(Resume::From(path.into())),
            }),
            device: device(flags.device.as_deref(), flags.use_cpu, &mut problems),
            dtype: dtype(flags.dtype.as_deref().unwrap_or("bfloat16"), &mut problems),
            bf16: flags.bf16,
            attention: attention(flags.attn_implementation.as_deref(), &mut problems),
            recompute: recompute(flags.recompute.as_deref(), flags.gradient_checkpointing, &mut problems),
            cuda_graphs: cuda_graphs(flags.cuda_graphs.as_deref(), &mut problems),
            tokenizer: TokenizerOptions { eos_token: flags.eos_token, chat_template_path: flags.chat_template_path },
            terminal: if flags.disable_tqdm.unwrap_or(false) { Terminal::Lines } else { Terminal::Bar },
            model_name: flags.model_name.unwrap_or_default(),
            dataset,
            prepare,
            padding,
            optimizer,
            training,
            early_stopping,
            loss_spike_factor: flags.loss_spike_factor,
            on_signal: if flags.save_on_signal.unwrap_or(true) { OnSignal::Save } else { OnSignal::Leave },
        };
        if settings.model_name.is_empty() {
            problems.put_first("--model_name is missing: a model's folder or its hub id");
        }
        problems.none().map(|()| settings)
    }
}

fn training(flags: &Flags, problems: &mut Problems) -> TrainingArguments {
    let defaults = TrainingArguments::default();
    let evaluates = flags.do_eval.unwrap_or(true);
    let lr_scheduler_kwargs = match &flags.lr_scheduler_kwargs {
        Some(value) => {
            let parsed = serde_json::from_value(value.clone()).map_err(|error| format!("lr_scheduler_kwargs: {error}"));
            problems.check(parsed).unwrap_or_default()
        }
        None => defaults.lr_scheduler_kwargs.clone(),
    };
    let training = TrainingArguments {
        output_dir: flags.output_dir.clone().unwrap_or_default(),
        num_train_epochs: flags.num_train_epochs.unwrap_or(defaults.num_train_epochs),
        max_steps: flags.max_steps.unwrap_or(defaults.max_steps),
        per_device_train_batch_size: flags.per_device_train_batch_size.unwrap_or(defaults.per_device_train_batch_size),
        per_device_eval_batch_size: flags.per_device_eval_batch_size.unwrap_or(defaults.per_device_eval_batch_size),
        gradient_accumulation_steps: flags.gradient_accumulation_steps.unwrap_or(defaults.gradient_accumulation_steps),
        learning_rate: flags.learning_rate.unwrap_or(defaults.learning_rate),
        lr_scheduler_type: flags.lr_scheduler_type.unwrap_or(defaults.lr_scheduler_type),
        lr_scheduler_kwargs,
        warmup_ratio: flags.warmup_ratio.unwrap_or(defaults.warmup_ratio),
        warmup_steps: flags.warmup_steps.unwrap_or(defaults.warmup_steps),
        max_grad_norm: flags.max_grad_norm.unwrap_or(defaults.max_grad_norm),
        max_bad_steps: flags.max_bad_steps.unwrap_or(defaults.max_bad_steps),
        auto_find_batch_size: flags.auto_find_batch_size.unwrap_or(defaults.auto_find_batch_size),
        logging_strategy: flags.logging_strategy.unwrap_or(defaults.logging_strategy),
        logging_steps: flags.logging_steps.unwrap_or(defaults.logging_steps),
        logging_first_step: flags.logging_first_step.unwrap_or(defaults.logging_first_step),
        eval_strategy: match flags.eval_strategy.unwrap_or(defaults.eval_strategy) {
            _ if !evaluates => IntervalStrategy::No,
            strategy => strategy,
        },
        eval_steps: flags.eval_steps.or(defaults.eval_steps),
        eval_delay: flags.eval_delay.unwrap_or(defaults.eval_delay),
        eval_on_start: flags.eval_on_start.unwrap_or(defaults.eval_on_start) && evaluates,
        save_strategy: flags.save_strategy.unwrap_or(defaults.save_strategy),
        save_steps: flags.save_steps.unwrap_or(defaults.save_steps),
        save_total_limit: flags.save_total_limit.or(defaults.save_total_limit).filter(|limit| *limit > 0),
        load_best_model_at_end: flags.load_best_model_at_end.unwrap_or(defaults.load_best_model_at_end),
        metric_for_best_model: flags.metric_for_best_model.clone().or(defaults.metric_for_best_model.clone()),
        greater_is_better: flags.greater_is_better.or(defaults.greater_is_better),
        seed: flags.seed.unwrap_or(defaults.seed),
        step_timing: defaults.step_timing,
    };
    for (field, rows) in [
        ("per_device_train_batch_size", training.per_device_train_batch_size),
        ("per_device_eval_batch_size", training.per_device_eval_batch_size),
        ("gradient_accumulation_steps", training.gradient_accumulation_steps),
    ] {
        if rows > MOST_ROWS {
            problems.add(field, rows, format!("use {MOST_ROWS} or less"));
        }
    }
    if training.output_dir.to_str().is_none() {
        problems.add("output_dir", training.output_dir.display(), "the path must be valid UTF-8");
    }
    problems.check(training.validate());
    training
}

/// A batch beyond this is a typing error, and products of two still fit every integer.
const MOST_ROWS: usize = 1_000_000;

fn padding(flags: &Flags, problems: &mut Problems) -> Padding {
    let multiple = match flags.pad_to_multiple_of {
        Some(multiple @ (0 | MOST_ROWS..)) => {
            problems.add("pad_to_multiple_of", multiple, format!("use 1 to {}", MOST_ROWS - 1));
            None
        }
        multiple => multiple.and_then(NonZeroUsize::new),
    };
    match (&flags.padding_free, multiple) {
        (Some(TextOrBool::Text(text)), _) if text != "auto" => {
            problems.add("padding_free", text, "use auto, true or false");
            Padding::Free
        }
        (Some(TextOrBool::Bool(true)), Some(multiple)) => {
            problems.add("pad_to_multiple_of", multiple, "there is no padding with padding_free true");
            Padding::Free
        }
        (Some(TextOrBool::Bool(false)), multiple) => Padding::Longest(multiple.unwrap_or(NonZeroUsize::MIN)),
        (None | Some(TextOrBool::Text(_)), Some(multiple)) => Padding::Longest(multiple),
        _ => Padding::Free,
    }
}

fn packing(flags: &Flags, problems: &mut Problems) -> Packing {
    let strategy = match flags.packing_strategy.as_deref() {
        None | Some("bfd") => Packing::BestFitDecreasing,
        Some("bfd_split") => Packing::BestFitDecreasingSplit,
        Some("wrapped") => Packing::Wrapped,
        Some(other) => {
            problems.add("packing_strategy", other, "use bfd, bfd_split or wrapped");
            Packing::BestFitDecreasing
        }
    };
    if flags.packing.unwrap_or(false) { strategy } else { Packing::None }
}

fn loss_on(flags: &Flags, problems: &mut Problems) -> LossOn {
    match (flags.assistant_only_loss.unwrap_or(false), flags.completion_only_loss) {
        (true, Some(true)) => {
            problems.add("completion_only_loss", "true", "not together with assistant_only_loss");
            LossOn::Assistant
        }
        (true, _) => LossOn::Assistant,
        (false, Some(false)) => LossOn::All,
        (false, _) => LossOn::Auto,
    }
}

#[cfg(test)]
mod tests;
