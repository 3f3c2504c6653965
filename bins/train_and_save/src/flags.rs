//! What can be typed: every flag, and under the same name every key of a configuration file.
//!
//! What a value means, its type and its default belong to the field of the same name in the
//! configuration struct of the crate that uses it. Flags that take a name are texts here: all of
//! them are checked together, so that one message lists every mistake.

use crate::verbs;
use clap::{Arg, ArgAction, Args, Command, CommandFactory, Parser};
use serde::Serialize;
use serde_json::Value;
use sft_trainer::config::values::{boolean, finite, json, word};
use sft_trainer::config::{OptionNames, foreign};
use std::any::TypeId;
use std::path::PathBuf;

/// Continues training a causal language model on your texts and saves the best checkpoint.
///
/// With --model_name and --output_dir alone it runs the documented recipe: GaLore AdamW (rank 1024,
/// update_proj_gap 500, scale 1.8, on attention and MLP) at learning rate 1e-5 for 10 epochs in
/// bfloat16, evaluating and saving each epoch. Names and meanings are those of Hugging Face's
/// TrainingArguments and SFTConfig; `-` and `_` are interchangeable in names.
#[derive(Debug, Parser, Serialize)]
#[command(
    name = "train_and_save",
    version,
    max_term_width = 110,
    allow_negative_numbers = true,
    args_override_self = true
)]
pub struct Flags {
    #[command(flatten)]
    #[serde(flatten)]
    pub input_output: InputOutput,
    #[command(flatten)]
    #[serde(flatten)]
    data: Data,
    #[command(flatten)]
    #[serde(flatten)]
    model: Model,
    #[command(flatten)]
    #[serde(flatten)]
    optimizer: OptimizerFlags,
    #[command(flatten)]
    #[serde(flatten)]
    training: Training,
    #[command(flatten)]
    #[serde(flatten)]
    logging: Logging,
}

#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Input and output", rename_all = "snake_case")]
pub struct InputOutput {
    /// Configuration file (.yaml, .toml or .json) with these flags as keys; flags go before it
    #[arg(value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Model to train: a folder in Hugging Face's layout, or a hub id
    #[arg(alias = "model_name_or_path", value_name = "DIR|ID")]
    model_name: Option<String>,
    /// Hub revision of the model: branch, tag or commit [default: main]
    model_revision: Option<String>,
    /// Where checkpoints and, at the end, the best model and its tokenizer go
    output_dir: Option<PathBuf>,
    /// Go on from a checkpoint: its folder; true: the newest; auto: the newest, if there is one
    #[arg(num_args = 0..=1, default_missing_value = "true", value_parser = word, value_name = "DIR|true|auto")]
    resume_from_checkpoint: Option<Value>,
    /// Push the model to the hub [default: false]
    push_to_hub: Option<bool>,
    /// Repository to push to [default: the name of output_dir]
    hub_model_id: Option<String>,
    /// What to push: end, every_save, checkpoint or all_checkpoints [default: every_save]
    hub_strategy: Option<String>,
    /// Whether a new repository is private [default: the hub decides]
    hub_private_repo: Option<bool>,
    /// Branch to push to [default: main]
    hub_revision: Option<String>,
    /// Token to push with [default: HF_TOKEN]
    hub_token: Option<String>,
    /// Push a checkpoint while the one before is under way [default: false]
    hub_always_push: Option<bool>,
}

#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Data", rename_all = "snake_case")]
pub struct Data {
    /// Dataset: a hub id, a folder or a file [default: yimeng521/sunny_datasets]
    #[arg(value_name = "ID|DIR|FILE")]
    dataset_name: Option<String>,
    /// Files to read: names or patterns inside the dataset, or a JSON map from splits to them
    #[arg(num_args = 1.., value_name = "FILE|JSON", overrides_with = "data_files")]
    data_files: Option<Vec<String>>,
    /// Folder inside the dataset to read from
    #[arg(value_name = "DIR")]
    data_dir: Option<String>,
    /// Several datasets to mix, as JSON: a list of {"path", "split", "columns", "fraction", …}
    #[arg(value_name = "JSON", value_parser = json)]
    datasets: Option<Value>,
    /// How their rows follow: concat, interleave_under, _over or _once [default: concat]
    mix_strategy: Option<String>,
    /// How likely each of them gives the next row, such as 0.7,0.3 [default: they take turns]
    #[arg(value_name = "X,X")]
    interleave_probs: Option<String>,
    /// Configuration of a hub dataset that has several
    #[arg(alias = "dataset_config_name")]
    dataset_config: Option<String>,
    /// Hub revision of the dataset [default: main]
    dataset_revision: Option<String>,
    /// Split to train on [default: train]
    dataset_train_split: Option<String>,
    /// Split to evaluate on [default: test, else validation, eval or dev]
    #[arg(alias = "dataset_eval_split")]
    dataset_test_split: Option<String>,
    /// Set rows of the training split aside for evaluation: a fraction below 1, or a number of rows
    #[arg(alias = "test_split_size", value_name = "N")]
    test_size: Option<f64>,
    /// Train on the first so many rows of the training split [default: all]
    max_train_samples: Option<usize>,
    /// Evaluate on the first so many rows of the evaluation split [default: all]
    max_eval_samples: Option<usize>,
    /// Column that holds the text [default: text]
    dataset_text_field: Option<String>,
    /// text, messages, sharegpt, prompt_completion, alpaca, … [default: what the columns show]
    dataset_format: Option<String>,
    /// Jinja template (or a file) that makes a row's text of its columns
    #[arg(value_name = "JINJA|FILE")]
    text_template: Option<String>,
    /// Memory that the rows and their tokens may take, such as 8GiB [default: half of what is free]
    max_dataset_memory: Option<String>,
    /// Keep tokenized rows in the cache folder, for the next run [default: true]
    token_cache: Option<bool>,
    /// Memory on the disk that they may take together, such as 8GiB [default: 20GiB]
    token_cache_limit: Option<String>,
    /// Longest row in tokens; the rest is cut off. 0: no limit [default: 1024]
    #[arg(alias = "max_seq_length")]
    max_length: Option<usize>,
    /// Put several rows into one of max_length [default: false]
    packing: Option<bool>,
    /// How rows are packed: bfd, bfd_split or wrapped [default: bfd]
    packing_strategy: Option<String>,
    /// Lay rows end to end in place of padding them; the result is the same [default: auto]
    #[arg(num_args = 0..=1, default_missing_value = "true", value_parser = word, value_name = "BOOL|auto")]
    padding_free: Option<Value>,
    /// With padding: round the width up to a multiple of this [default: 1]
    pad_to_multiple_of: Option<usize>,
    /// Count only what the assistant says in the loss [default: false]
    assistant_only_loss: Option<bool>,
    /// Count only the completion of prompt-completion rows in the loss [default: true]
    completion_only_loss: Option<bool>,
    /// Rows longer than max_length: keep_start, keep_end, drop or split [default: keep_start]
    truncation_mode: Option<String>,
    /// What counts in the loss: all, assistant, last (turn of the assistant) or completion
    train_on: Option<String>,
    /// Count only the last turn of the assistant in the loss [default: false]
    mask_history: Option<bool>,
    /// The assistant's reasoning: keep, drop, or mask (it stays and is not learnt) [default: keep]
    thinking: Option<String>,
    /// Which tokens that end turns are learnt: turn, last or none [default: turn]
    train_on_eos: Option<String>,
    /// Order of the rows: random, group_by_length or sequential [default: random]
    train_sampling_strategy: Option<String>,
    /// Batches of rows of about one length: train_sampling_strategy group_by_length
    group_by_length: Option<bool>,
    /// End-of-sequence token in place of the tokenizer's own
    eos_token: Option<String>,
    /// Jinja chat template in place of the tokenizer's own
    chat_template_path: Option<PathBuf>,
}

#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Model", rename_all = "snake_case")]
pub struct Model {
    /// Where to train: auto (cuda if there is one), cpu, cuda or cuda:N [default: auto]
    device: Option<String>,
    /// Train on the CPU [default: false]
    #[arg(alias = "no_cuda")]
    use_cpu: Option<bool>,
    /// bfloat16, float16, float32, or auto for the file's own type [default: bfloat16]
    #[arg(alias = "torch_dtype", alias = "model_dtype")]
    dtype: Option<String>,
    /// Compute in bfloat16 [default: on CUDA; on the CPU float32 is faster]
    bf16: Option<bool>,
    /// flash_attention_2, sdpa (libtorch's alone) or eager [default: flash_attention_2]
    attn_implementation: Option<String>,
    /// Let the backward compute again what there is no room for (--recompute) [default: true]
    gradient_checkpointing: Option<bool>,
    /// What the backward computes again: none, cheap (norms), block or auto [default: auto]
    recompute: Option<String>,
    /// Launch the work of a batch as a whole: auto, on or off [default: auto]
    cuda_graphs: Option<String>,
}

#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Optimizer", rename_all = "snake_case")]
pub struct OptimizerFlags {
    /// galore_adamw(_8bit), galore_adafactor, adamw_torch, adamw_8bit, adafactor, apollo_adamw, …
    optim: Option<String>,
    /// GaLore's settings: rank, update_proj_gap, scale, proj_type, refresh, subspace, moments,
    /// lazy_refresh, basis, seed [default: "rank=1024, update_proj_gap=500, scale=1.8"]
    #[arg(value_name = "K=V,...")]
    optim_args: Option<String>,
    /// When subspaces are refreshed: together or staggered over the gap [default: together]
    galore_refresh: Option<String>,
    /// svd, eigenvectors, power, dct, random or auto (svd on the CPU) [default: auto]
    galore_solver: Option<String>,
    /// Modules to project: names, parts or patterns of them, or all-linear [default: attn mlp]
    #[arg(num_args = 1.., value_name = "NAME", value_delimiter = ' ', overrides_with = "optim_target_modules")]
    optim_target_modules: Option<Vec<String>>,
    /// Peak learning rate [default: 1e-5]
    learning_rate: Option<f64>,
    /// linear, cosine, constant, or another schedule of transformers [default: linear]
    lr_scheduler_type: Option<String>,
    /// Parameters of the schedule as JSON, such as {"min_lr_rate": 0.1}
    #[arg(value_name = "JSON", value_parser = json)]
    lr_scheduler_kwargs: Option<Value>,
    /// Part of the run spent warming up [default: 0.1]
    warmup_ratio: Option<f64>,
    /// Steps of warm-up, in place of warmup_ratio; below 1 a ratio [default: 0]
    warmup_steps: Option<f64>,
    /// Decoupled weight decay; biases and norms have none [default: 0]
    weight_decay: Option<f64>,
    /// Decay of the first moment [default: 0.9]
    adam_beta1: Option<f64>,
    /// Decay of the second moment [default: 0.999]
    adam_beta2: Option<f64>,
    /// Added to the root of the second moment [default: 1e-6 for galore_adamw, else 1e-8]
    adam_epsilon: Option<f64>,
    /// Scale gradients down to this norm; 0: never [default: 1]
    max_grad_norm: Option<f64>,
    /// How 16-bit weights are rounded: stochastic, exact or nearest [default: stochastic]
    bf16_weight_update: Option<String>,
    /// float32, bfloat16, 8bit or compact moments [default: auto: as optim and the weights say]
    #[arg(alias = "optim_state")]
    optim_state_dtype: Option<String>,
}

#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Training", rename_all = "snake_case")]
pub struct Training {
    /// Passes over the training split [default: 10]
    num_train_epochs: Option<f64>,
    /// Optimizer steps, in place of num_train_epochs when positive [default: -1]
    max_steps: Option<i64>,
    /// Rows in a micro-batch [default: 8]
    per_device_train_batch_size: Option<usize>,
    /// Rows in an evaluation batch; eval_loss does not depend on it [default: 8]
    per_device_eval_batch_size: Option<usize>,
    /// Micro-batches in an optimizer step [default: 1]
    gradient_accumulation_steps: Option<usize>,
    /// When memory runs out, halve the micro-batch; steps stay the same [default: false]
    auto_find_batch_size: Option<bool>,
    /// End after this many steps in a row that are not finite; 0: at the first [default: 3]
    max_bad_steps: Option<u64>,
    /// Seed of the row order and of all else that is random [default: 42]
    seed: Option<u64>,
    /// Seed of the row order alone [default: seed]
    data_seed: Option<u64>,
}

#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Logging, evaluation, checkpoints", rename_all = "snake_case")]
pub struct Logging {
    /// When to log: steps, epoch or no [default: steps]
    logging_strategy: Option<String>,
    /// Steps between logs; below 1 a part of the run [default: 85]
    logging_steps: Option<f64>,
    /// Log the first step too [default: false]
    logging_first_step: Option<bool>,
    /// Say in each log how many tokens were trained on: all or no [default: no]
    #[arg(num_args = 0..=1, default_missing_value = "true", value_parser = word, value_name = "NAME")]
    include_num_input_tokens_seen: Option<Value>,
    /// tensorboard, csv, html, several of them, all or none [default: none]
    #[arg(num_args = 1.., value_name = "NAME", overrides_with = "report_to")]
    report_to: Option<Vec<String>>,
    /// Where event files for TensorBoard go [default: output_dir/runs/<run_name>]
    logging_dir: Option<PathBuf>,
    /// Name of the run in reports [default: the time and the host]
    run_name: Option<String>,
    /// No progress bar [default: false]
    disable_tqdm: Option<bool>,
    /// When to evaluate: epoch, steps or no [default: epoch]
    #[arg(alias = "evaluation_strategy")]
    eval_strategy: Option<String>,
    /// Whether to evaluate at all [default: true]
    do_eval: Option<bool>,
    /// Steps between evaluations; below 1 a part of the run [default: logging_steps]
    eval_steps: Option<f64>,
    /// Epochs or steps before the first evaluation [default: 0]
    eval_delay: Option<f64>,
    /// Evaluate before the first step [default: false]
    eval_on_start: Option<bool>,
    /// When to save a checkpoint: epoch, steps, best or no [default: epoch]
    save_strategy: Option<String>,
    /// Steps between checkpoints; below 1 a part of the run [default: 500]
    save_steps: Option<f64>,
    /// Leave the optimizer out of checkpoints, so that none can be resumed [default: false]
    save_only_model: Option<bool>,
    /// Newest checkpoints to keep, the best one besides; 0 keeps all [default: 1]
    save_total_limit: Option<usize>,
    /// Save before a signal ends the run, and on SIGUSR1 [default: true]
    save_on_signal: Option<bool>,
    /// Accepted: the best model is in output_dir at the end either way [default: false]
    load_best_model_at_end: Option<bool>,
    /// Evaluation metric that decides which checkpoint is best [default: eval_loss]
    metric_for_best_model: Option<String>,
    /// Whether more of that metric is better [default: unless its name ends in loss]
    greater_is_better: Option<bool>,
    /// Stop after this many evaluations in a row without improvement [default: never]
    early_stopping_patience: Option<u64>,
    /// Warn when a loss is so many times the median of the 16 before it [default: never]
    loss_spike_factor: Option<f64>,
    /// What counts as improvement [default: 0]
    early_stopping_threshold: Option<f64>,
    /// How lines on stderr look: text, or json, one object a line [default: text]
    log_format: Option<String>,
    /// debug, info, warning or error and what is worse [default: passive, which is info]
    log_level: Option<String>,
}

impl Flags {
    /// The command with options of TRL and transformers that are none here as hidden flags.
    pub fn command_for_parsing() -> Command {
        let foreign = foreign::names().map(|name| {
            Arg::new(name).long(name).hide(true).num_args(0..).default_missing_value("true").action(ArgAction::Set)
        });
        Self::command_for_help().args(foreign).after_help(verbs::listed())
    }

    /// The names of all options, as keys of a file: flags and their older spellings.
    pub fn option_names() -> OptionNames {
        let command = Self::command();
        let arguments = command.get_arguments().filter(|argument| argument.get_id() != "config");
        let spellings = arguments.flat_map(|argument| {
            let name = argument.get_id().to_string();
            let aliases = argument.get_all_aliases().unwrap_or_default();
            let spellings = std::iter::once(name.clone()).chain(aliases.into_iter().map(str::to_owned));
            spellings.map(move |spelling| (spelling, name.clone())).collect::<Vec<_>>()
        });
        OptionNames { spellings: spellings.collect() }
    }

    /// The command: every field is a flag of its name. A boolean's value may be left out.
    pub fn command_for_help() -> Command {
        let mut order = 0;
        Self::command().mut_args(|argument| {
            order += 1;
            let (name, of) = (argument.get_id().to_string(), argument.get_value_parser().type_id());
            let derived_name = name.to_ascii_uppercase();
            let is_named = argument.get_value_names().is_some_and(|names| names[0].as_str() != derived_name);
            let argument = argument.long(name).display_order(order);
            if of == TypeId::of::<bool>() {
                return argument.num_args(0..=1).default_missing_value("true").value_parser(boolean).value_name("BOOL");
            }
            if of == TypeId::of::<f64>() {
                return argument.value_parser(finite).value_name("X");
            }
            let names = [(TypeId::of::<String>(), "NAME"), (TypeId::of::<PathBuf>(), "PATH")];
            let value_name = names.iter().find(|(kind, _)| of == *kind).map_or("N", |(_, name)| name);
            if is_named { argument } else { argument.value_name(value_name) }
        })
    }
}
