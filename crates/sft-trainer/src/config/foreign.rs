//! Options of TRL and transformers that there are none of here.
//!
//! Some have no effect on what is trained here, whatever they say, and some have none only with the
//! values in the table. Those are accepted, and one warning names them. Any other value would
//! change the training, and is refused.

use serde_json::Value;

/// What may be accepted.
enum Accepted {
    /// Every value: it concerns speed, memory, logs, the hub, or processes that there are not.
    Any,
    /// These values as JSON, and null, which says the same.
    Only(&'static [&'static str]),
}
use Accepted::{Any, Only};

const OFF: Accepted = Only(&["false"]);
const UNSET: Accepted = Only(&["\"\"", "[]", "{}", "false"]);
const ZERO: Accepted = Only(&["0", "0.0"]);

#[rustfmt::skip]
const OPTIONS: &[(&str, Accepted)] = &[
    // Where the output goes, logs and the hub.
    ("overwrite_output_dir", Any), ("logging_dir", Any), ("log_level", Any), ("log_level_replica", Any),
    ("log_on_each_node", Any), ("logging_nan_inf_filter", Any), ("include_num_input_tokens_seen", Any),
    ("run_name", Any), ("project", Any), ("trackio_space_id", Any), ("trackio_bucket_id", Any),
    ("trackio_static_space_id", Any), ("skip_memory_metrics", Any), ("debug", UNSET),
    ("push_to_hub", OFF), ("hub_model_id", Any), ("hub_strategy", Any), ("hub_token", Any),
    ("hub_private_repo", Any), ("hub_always_push", Any), ("hub_revision", Any),
    ("save_safetensors", Only(&["true"])), ("save_on_each_node", Any), ("save_only_model", OFF),
    ("enable_jit_checkpoint", Any), ("restore_callback_states_from_checkpoint", Any), ("ignore_data_skip", OFF),
    ("do_train", Any), ("do_predict", OFF), ("prediction_loss_only", Any),
    ("eval_accumulation_steps", Any), ("eval_do_concat_batches", Any), ("eval_use_gather_object", Any),
    ("batch_eval_metrics", Any), ("include_for_metrics", UNSET),
    // Processes.
    ("dataset_num_proc", Any), ("dataloader_num_workers", Any), ("dataloader_pin_memory", Any),
    ("dataloader_persistent_workers", Any), ("dataloader_prefetch_factor", Any),
    ("dataloader_multiprocessing_context", Any), ("dataloader_in_order", Any), ("dataloader_drop_last", OFF),
    ("ddp_timeout", Any), ("ddp_backend", Any), ("ddp_find_unused_parameters", Any), ("ddp_bucket_cap_mb", Any),
    ("ddp_broadcast_buffers", Any), ("ddp_static_graph", Any), ("ignore_bias_buffers", Any),
    ("average_tokens_across_devices", Any), ("local_rank", Any), ("no_cuda", OFF),
    ("accelerator_config", UNSET), ("parallelism_config", UNSET), ("fsdp", UNSET), ("fsdp_config", UNSET),
    ("deepspeed", UNSET),
    // Speed and memory.
    ("tf32", Any), ("gradient_checkpointing_kwargs", Any), ("torch_compile", Any), ("torch_compile_backend", Any),
    ("torch_compile_mode", Any), ("use_liger_kernel", Any), ("liger_kernel_config", Any), ("use_cache", Any),
    ("torch_empty_cache_steps", Any), ("activation_offloading", Any), ("fp16", OFF), ("bf16_full_eval", OFF),
    ("fp16_full_eval", OFF), ("full_determinism", OFF),
    // Rows and loss.
    ("remove_unused_columns", Any), ("length_column_name", Any), ("data_seed", UNSET), ("label_names", UNSET),
    ("group_by_length", OFF), ("train_sampling_strategy", Only(&["\"random\""])), ("shuffle_dataset", OFF),
    ("dataset_kwargs", UNSET), ("dataset_streaming", OFF), ("streaming", OFF),
    ("truncation_mode", Only(&["\"keep_start\""])),
    ("eval_packing", UNSET), ("pad_token", UNSET), ("loss_type", Only(&["\"nll\""])),
    ("label_smoothing_factor", ZERO), ("neftune_noise_alpha", ZERO), ("router_aux_loss_coef", ZERO),
    // Model.
    ("trust_remote_code", OFF), ("model_init_kwargs", UNSET), ("load_in_8bit", OFF), ("load_in_4bit", OFF),
    ("bnb_4bit_quant_type", Any), ("use_bnb_nested_quant", Any), ("bnb_4bit_quant_storage", Any),
    ("use_peft", OFF), ("lora_r", Any), ("lora_alpha", Any), ("lora_dropout", Any), ("lora_target_modules", Any),
    ("lora_target_parameters", Any), ("lora_modules_to_save", Any), ("lora_task_type", Any), ("use_rslora", Any),
    ("use_dora", Any),
];

/// What an option of TRL or transformers means here.
pub enum Meaning {
    /// Nothing: it has no effect.
    NoEffect,
    /// It would change the training. The problem, for a message.
    Refused(String),
}

/// `None` for a name that is none of these options.
pub fn meaning(name: &str, value: &Value) -> Option<Meaning> {
    let (_, accepted) = OPTIONS.iter().find(|(option, _)| *option == name)?;
    let values = match accepted {
        Any => return Some(Meaning::NoEffect),
        Only(values) => *values,
    };
    // A flag's value is a text, and a file may quote one.
    let as_json = value.to_string();
    let unquoted = value.as_str().map(str::to_ascii_lowercase);
    let is_accepted = |accepted: &&str| as_json == **accepted || unquoted.as_deref() == Some(*accepted);
    if value.is_null() || values.iter().any(is_accepted) {
        return Some(Meaning::NoEffect);
    }
    let remedy = match values {
        ["\"\"", ..] => "leave it out".to_owned(),
        values => format!("leave it out, or use {}", values[0].trim_matches('"')),
    };
    Some(Meaning::Refused(format!("{name} is {value}: not supported; {remedy}")))
}

/// Their names.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn what_changes_nothing_is_accepted_and_what_would_is_not() {
        for (name, value) in [
            ("overwrite_output_dir", json!(true)),
            ("push_to_hub", json!(false)),
            ("push_to_hub", json!("False")),
            ("push_to_hub", json!(null)),
            ("gradient_checkpointing_kwargs", json!({"use_reentrant": false})),
            ("deepspeed", json!("")),
            ("fsdp", json!([])),
            ("neftune_noise_alpha", json!(null)),
            ("label_smoothing_factor", json!(0.0)),
        ] {
            assert!(matches!(meaning(name, &value), Some(Meaning::NoEffect)), "{name}: {value}");
        }
        for (name, value, expected) in [
            ("push_to_hub", json!(true), "push_to_hub is true: not supported; leave it out, or use false"),
            ("loss_type", json!("dft"), "loss_type is \"dft\": not supported; leave it out, or use nll"),
            ("neftune_noise_alpha", json!(5), "neftune_noise_alpha is 5: not supported; leave it out, or use 0"),
            ("deepspeed", json!("z.json"), "deepspeed is \"z.json\": not supported; leave it out"),
        ] {
            let Some(Meaning::Refused(problem)) = meaning(name, &value) else { panic!("{name}: {value}") };
            assert_eq!(problem, expected);
        }
        assert!(meaning("learning_rte", &json!(1)).is_none());
    }

    #[test]
    fn no_option_is_listed_twice() {
        let mut seen = BTreeSet::new();
        assert!(names().all(|name| seen.insert(name)));
    }
}
