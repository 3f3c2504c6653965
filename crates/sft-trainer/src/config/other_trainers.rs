//! Configuration files of other trainers. They are recognised, so that one line can say how the
//! same is written here.

use serde_json::{Map, Value};

/// A trainer and the names of its keys.
struct Trainer {
    name: &'static str,
    /// Keys that no other trainer has. Two of them make a file one of its.
    marks: &'static [&'static str],
    /// Its key, and what says the same here.
    keys: &'static [(&'static str, &'static str)],
}

#[rustfmt::skip]
const TRAINERS: &[Trainer] = &[
    Trainer {
        name: "LLaMA-Factory",
        marks: &["stage", "finetuning_type", "template", "cutoff_len", "dataset_dir", "plot_loss", "val_size"],
        keys: &[
            ("model_name_or_path", "model_name"), ("dataset", "dataset_name"), ("cutoff_len", "max_length"),
            ("val_size", "test_size"), ("flash_attn", "attn_implementation"), ("packing", "packing"),
            ("neat_packing", "packing"), ("train_on_prompt", "completion_only_loss"),
            ("use_galore", "optim galore_adamw"), ("galore_target", "optim_target_modules"),
            ("galore_rank", "rank in optim_args"), ("galore_update_interval", "update_proj_gap in optim_args"),
            ("galore_scale", "scale in optim_args"), ("pure_bf16", "dtype bfloat16"),
        ],
    },
    Trainer {
        name: "Axolotl",
        marks: &["base_model", "sequence_len", "micro_batch_size", "num_epochs", "val_set_size", "sample_packing"],
        keys: &[
            ("base_model", "model_name"), ("datasets", "dataset_name"), ("sequence_len", "max_length"),
            ("micro_batch_size", "per_device_train_batch_size"), ("eval_batch_size", "per_device_eval_batch_size"),
            ("num_epochs", "num_train_epochs"), ("optimizer", "optim"), ("lr_scheduler", "lr_scheduler_type"),
            ("val_set_size", "test_size"), ("sample_packing", "packing"), ("flash_attention", "attn_implementation"),
            ("train_on_inputs", "completion_only_loss"), ("evals_per_epoch", "eval_strategy and eval_steps"),
            ("saves_per_epoch", "save_strategy and save_steps"),
        ],
    },
];

/// What to say about a file of another trainer; `None` for any other file. `is_known` tells whether
/// a key means the same here.
pub(super) fn problem(options: &Map<String, Value>, is_known: &dyn Fn(&str) -> bool) -> Option<String> {
    let has = |key: &&str| options.contains_key(*key);
    let trainer = TRAINERS.iter().find(|trainer| trainer.marks.iter().filter(|mark| has(mark)).count() >= 2)?;
    let is_set = |key: &str| options.get(key).is_some_and(|value| !value.is_null());
    let converted: Vec<(&str, &str)> =
        trainer.keys.iter().filter(|(theirs, ours)| is_set(theirs) && theirs != ours).copied().collect();
    let written: Vec<String> = converted.iter().map(|(theirs, ours)| format!("{theirs} as {ours}")).collect();
    let is_converted = |key: &str| converted.iter().any(|(theirs, _)| *theirs == key);
    let left: Vec<&str> =
        options.keys().map(String::as_str).filter(|key| is_set(key) && !is_converted(key) && !is_known(key)).collect();
    let left = if left.is_empty() { String::new() } else { format!("; leave out {}", left.join(", ")) };
    Some(format!("is a file of {}; write {}{left}", trainer.name, written.join(", ")))
}
