//! What can be typed: every flag, and under the same name every key of a configuration file. All
//! are optional here; what they resolve to is in `settings.rs`.

use clap::Parser;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use trainer_core::{IntervalStrategy, SaveStrategy, SchedulerType};

/// Continues training a causal language model on your texts and saves the best checkpoint.
///
/// With --model_name and --output_dir alone it runs the documented recipe: GaLore AdamW (rank 1024,
/// update_proj_gap 500, scale 1.8, on attention and MLP) at learning rate 1e-5 for 10 epochs in
/// bfloat16, evaluating and saving each epoch. Names and meanings are those of Hugging Face's
/// TrainingArguments and SFTConfig; `-` and `_` are interchangeable in names.
#[derive(Debug, Clone, Default, Parser, Serialize, Deserialize)]
#[command(
    name = "train_and_save",
    version,
    rename_all = "snake_case",
    max_term_width = 110,
    allow_negative_numbers = true,
    args_override_self = true
)]
#[serde(deny_unknown_fields, default)]
pub struct Flags {
    /// Configuration file (.yaml, .toml or .json) with any of these flags as keys; a flag given
    /// here goes before it
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Model to train: a folder in Hugging Face's layout, or a hub id
    #[arg(long, alias = "model_name_or_path", value_name = "DIR|ID", help_heading = "Input and output")]
    pub model_name: Option<String>,
    /// Hub revision of the model: branch, tag or commit [default: main]
    #[arg(long, value_name = "REV", help_heading = "Input and output")]
    pub model_revision: Option<String>,
    /// Where checkpoints and, at the end, the best model and its tokenizer go
    #[arg(long, value_name = "DIR", help_heading = "Input and output")]
    pub output_dir: Option<PathBuf>,
    /// Go on from a checkpoint: its folder, or `true` for the newest complete one in output_dir
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "DIR|true", help_heading = "Input and output")]
    pub resume_from_checkpoint: Option<TextOrBool>,

    /// Dataset: a hub id, a folder with one file or folder a split, or a file [default:
    /// yimeng521/sunny_datasets]
    #[arg(long, value_name = "ID|DIR|FILE", help_heading = "Data")]
    pub dataset_name: Option<String>,
    /// Configuration of a hub dataset that has several
    #[arg(long, alias = "dataset_config_name", value_name = "NAME", help_heading = "Data")]
    pub dataset_config: Option<String>,
    /// Hub revision of the dataset [default: main]
    #[arg(long, value_name = "REV", help_heading = "Data")]
    pub dataset_revision: Option<String>,
    /// Split to train on [default: train]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub dataset_train_split: Option<String>,
    /// Split to evaluate on [default: test, else validation, eval or dev]
    #[arg(long, alias = "dataset_eval_split", value_name = "NAME", help_heading = "Data")]
    pub dataset_test_split: Option<String>,
    /// Set rows of the training split aside for evaluation: a fraction below 1, or a number of rows
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub test_size: Option<f64>,
    /// Column that holds the text [default: text]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub dataset_text_field: Option<String>,
    /// Longest row in tokens; the rest is cut off. 0: no limit [default: 1024]
    #[arg(long, alias = "max_seq_length", value_name = "N", help_heading = "Data")]
    pub max_length: Option<usize>,
    /// Put several rows into one of max_length [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Data")]
    pub packing: Option<bool>,
    /// How rows are packed: bfd, bfd_split or wrapped [default: bfd]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub packing_strategy: Option<String>,
    /// Lay rows end to end in place of padding them to the longest; the result is the same: auto,
    /// true or false [default: auto, which is true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL|auto", help_heading = "Data")]
    pub padding_free: Option<TextOrBool>,
    /// With padding: round the width up to a multiple of this [default: 1]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub pad_to_multiple_of: Option<usize>,
    /// Count only what the assistant says in the loss [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Data")]
    pub assistant_only_loss: Option<bool>,
    /// Count only the completion of prompt-completion rows in the loss [default: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Data")]
    pub completion_only_loss: Option<bool>,
    /// End-of-sequence token in place of the tokenizer's own
    #[arg(long, value_name = "TOKEN", help_heading = "Data")]
    pub eos_token: Option<String>,
    /// Jinja chat template in place of the tokenizer's own
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub chat_template_path: Option<PathBuf>,

    /// Where to train: auto (cuda if there is one), cpu, cuda or cuda:N [default: auto]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub device: Option<String>,
    /// Train on the CPU [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Model")]
    pub use_cpu: Option<bool>,
    /// Type of the weights: bfloat16, float16, float32, or auto for the file's own [default:
    /// bfloat16]
    #[arg(long, alias = "torch_dtype", alias = "model_dtype", value_name = "NAME", help_heading = "Model")]
    pub dtype: Option<String>,
    /// Compute in bfloat16, whatever the type of the weights [default: on CUDA; on the CPU float32
    /// is faster]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Model")]
    pub bf16: Option<bool>,
    /// flash_attention_2 (the fastest flash kernel at hand), sdpa (libtorch's alone) or eager
    /// [default: flash_attention_2]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub attn_implementation: Option<String>,
    /// Let the backward compute again what there is no room to keep, see --recompute [default:
    /// true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Model")]
    pub gradient_checkpointing: Option<bool>,
    /// What the backward computes again: none, cheap (norms), block (all of a block), or auto, as
    /// little as free memory allows [default: auto; none with --gradient_checkpointing false]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub recompute: Option<String>,
    /// Record the work of a batch and launch it as a whole when one of its size comes again: auto
    /// (where the host would hold up the GPU), on or off [default: auto]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub cuda_graphs: Option<String>,

    /// galore_adamw, or adamw_torch (also adamw_torch_fused) [default: galore_adamw]
    #[arg(long, value_name = "NAME", help_heading = "Optimizer")]
    pub optim: Option<String>,
    /// GaLore's settings: rank, update_proj_gap, scale, proj_type [default: "rank=1024,
    /// update_proj_gap=500, scale=1.8"]
    #[arg(long, value_name = "K=V,...", help_heading = "Optimizer")]
    pub optim_args: Option<String>,
    /// When GaLore's targets make their subspaces anew: together, on every update_proj_gap-th step,
    /// or staggered, each once in as many steps but spread over them, which evens out the steps
    /// [default: together]
    #[arg(long, value_name = "NAME", help_heading = "Optimizer")]
    pub galore_refresh: Option<String>,
    /// How GaLore finds a subspace: svd, as galore-torch does, eigenvectors (of the Gram matrix: a
    /// fraction of the time on a GPU and at small ranks), or auto [default: auto: svd on the CPU,
    /// eigenvectors on CUDA]
    #[arg(long, value_name = "NAME", help_heading = "Optimizer")]
    pub galore_solver: Option<String>,
    /// Modules that GaLore projects: names or parts of names, regular expressions, or all-linear
    /// [default: attn mlp]
    #[arg(long, num_args = 1.., value_name = "NAME", value_delimiter = ' ', overrides_with = "optim_target_modules", help_heading = "Optimizer")]
    #[serde(deserialize_with = "one_or_several")]
    pub optim_target_modules: Option<Vec<String>>,
    /// Peak learning rate [default: 1e-5]
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub learning_rate: Option<f64>,
    /// linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup or
    /// inverse_sqrt [default: linear]
    #[arg(long, value_name = "NAME", help_heading = "Optimizer")]
    pub lr_scheduler_type: Option<SchedulerType>,
    /// Parameters of the schedule as JSON: num_cycles, power, lr_end, timescale
    #[arg(long, value_name = "JSON", value_parser = json, help_heading = "Optimizer")]
    pub lr_scheduler_kwargs: Option<serde_json::Value>,
    /// Part of the run spent warming up [default: 0.1]
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub warmup_ratio: Option<f64>,
    /// Steps of warm-up, in place of warmup_ratio; below 1 a ratio [default: 0]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub warmup_steps: Option<f64>,
    /// Decoupled weight decay; biases and norms have none [default: 0]
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub weight_decay: Option<f64>,
    /// Decay of the first moment [default: 0.9]
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub adam_beta1: Option<f64>,
    /// Decay of the second moment [default: 0.999]
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub adam_beta2: Option<f64>,
    /// Added to the root of the second moment [default: 1e-6 for galore_adamw, else 1e-8]
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub adam_epsilon: Option<f64>,
    /// Scale gradients down to this norm; 0: never [default: 1]
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub max_grad_norm: Option<f64>,
    /// How 16-bit weights take a float32 update: exact (16 hidden bits a weight), stochastic, or
    /// nearest (loses most of a small learning rate's updates) [default: exact]
    #[arg(long, value_name = "NAME", help_heading = "Optimizer")]
    pub bf16_weight_update: Option<String>,
    /// Type of Adam's moments: float32, or bfloat16 for half the memory (GaLore's bases are then
    /// float16) [default: auto: bfloat16 on CUDA for bfloat16 weights, else float32]
    #[arg(long, value_name = "NAME", help_heading = "Optimizer")]
    pub optim_state_dtype: Option<String>,

    /// Passes over the training split [default: 10]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub num_train_epochs: Option<f64>,
    /// Optimizer steps, in place of num_train_epochs when positive [default: -1]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub max_steps: Option<i64>,
    /// Rows in a micro-batch [default: 8]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub per_device_train_batch_size: Option<usize>,
    /// Rows in an evaluation batch; eval_loss does not depend on it [default: 8]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub per_device_eval_batch_size: Option<usize>,
    /// Micro-batches in an optimizer step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub gradient_accumulation_steps: Option<usize>,
    /// When memory runs out, halve the micro-batch and double the accumulation, so that steps stay
    /// the same; for evaluation too [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Training")]
    pub auto_find_batch_size: Option<bool>,
    /// End the run after this many steps in a row whose loss or gradient is NaN or infinite; each
    /// of them is skipped. 0: look only when a log, an evaluation or a save is due, and end at the
    /// first [default: 3]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub max_bad_steps: Option<u64>,
    /// Seed of the row order and of all else that is random [default: 42]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub seed: Option<u64>,

    /// When to log: steps, epoch or no [default: steps]
    #[arg(long, value_name = "NAME", help_heading = "Logging, evaluation, checkpoints")]
    pub logging_strategy: Option<IntervalStrategy>,
    /// Steps between logs; below 1 a part of the run [default: 85]
    #[arg(long, value_name = "N", help_heading = "Logging, evaluation, checkpoints")]
    pub logging_steps: Option<f64>,
    /// Log the first step too [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Logging, evaluation, checkpoints")]
    pub logging_first_step: Option<bool>,
    /// Where to report to besides the files: none is all there is [default: none]
    #[arg(long, value_name = "NAME", help_heading = "Logging, evaluation, checkpoints")]
    pub report_to: Option<String>,
    /// No progress bar [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Logging, evaluation, checkpoints")]
    pub disable_tqdm: Option<bool>,
    /// When to evaluate: epoch, steps or no [default: epoch]
    #[arg(long, alias = "evaluation_strategy", value_name = "NAME", help_heading = "Logging, evaluation, checkpoints")]
    pub eval_strategy: Option<IntervalStrategy>,
    /// Whether to evaluate at all [default: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Logging, evaluation, checkpoints")]
    pub do_eval: Option<bool>,
    /// Steps between evaluations; below 1 a part of the run [default: logging_steps]
    #[arg(long, value_name = "N", help_heading = "Logging, evaluation, checkpoints")]
    pub eval_steps: Option<f64>,
    /// Epochs or steps before the first evaluation [default: 0]
    #[arg(long, value_name = "N", help_heading = "Logging, evaluation, checkpoints")]
    pub eval_delay: Option<f64>,
    /// Evaluate before the first step [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Logging, evaluation, checkpoints")]
    pub eval_on_start: Option<bool>,
    /// When to save a checkpoint: epoch, steps, best or no [default: epoch]
    #[arg(long, value_name = "NAME", help_heading = "Logging, evaluation, checkpoints")]
    pub save_strategy: Option<SaveStrategy>,
    /// Steps between checkpoints; below 1 a part of the run [default: 500]
    #[arg(long, value_name = "N", help_heading = "Logging, evaluation, checkpoints")]
    pub save_steps: Option<f64>,
    /// Newest checkpoints to keep, the best one besides; 0 keeps all [default: 1]
    #[arg(long, value_name = "N", help_heading = "Logging, evaluation, checkpoints")]
    pub save_total_limit: Option<usize>,
    /// On SIGTERM, SIGINT or SIGHUP save after the current step and end, on SIGUSR1 save and go on;
    /// false: end at once [default: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Logging, evaluation, checkpoints")]
    pub save_on_signal: Option<bool>,
    /// Accepted for compatibility: the best model is in output_dir at the end either way [default:
    /// false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Logging, evaluation, checkpoints")]
    pub load_best_model_at_end: Option<bool>,
    /// Evaluation metric that decides which checkpoint is best [default: eval_loss]
    #[arg(long, value_name = "NAME", help_heading = "Logging, evaluation, checkpoints")]
    pub metric_for_best_model: Option<String>,
    /// Whether more of that metric is better [default: unless its name ends in loss]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL", help_heading = "Logging, evaluation, checkpoints")]
    pub greater_is_better: Option<bool>,
    /// Stop after this many evaluations in a row without improvement [default: never]
    #[arg(long, value_name = "N", help_heading = "Logging, evaluation, checkpoints")]
    pub early_stopping_patience: Option<u64>,
    /// Warn when a logged loss is more than this many times the median of the 16 before it
    /// [default: never]
    #[arg(long, value_name = "X", help_heading = "Logging, evaluation, checkpoints")]
    pub loss_spike_factor: Option<f64>,
    /// What counts as improvement [default: 0]
    #[arg(long, value_name = "X", help_heading = "Logging, evaluation, checkpoints")]
    pub early_stopping_threshold: Option<f64>,
}

/// A flag that takes a word or a boolean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TextOrBool {
    /// `true` or `false`.
    Bool(bool),
    /// Anything else.
    Text(String),
}

impl std::str::FromStr for TextOrBool {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(boolean(text).map_or_else(|_| Self::Text(text.to_owned()), Self::Bool))
    }
}

/// Booleans as argparse users write them.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A list of strings, or one string.
fn one_or_several<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrSeveral {
        One(String),
        Several(Vec<String>),
    }
    Ok(Option::deserialize(deserializer)?.map(|found| match found {
        OneOrSeveral::One(names) => names.split_whitespace().map(str::to_owned).collect(),
        OneOrSeveral::Several(names) => names,
    }))
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
