//! Options of TRL and transformers that there are none of here.
//!
//! Some have no effect on what is trained here, whatever they say, and some have none only with the
//! values in the table. Those are accepted, and one warning names them and says why. Any other
//! value would change the training, or what it leaves behind, and is refused.

use serde_json::Value;

/// What may be accepted.
enum Accepted {
    /// Every value.
    Any,
    /// These values as JSON, and null, which says the same.
    Only(&'static [&'static str]),
    /// Null alone. What to do in place of it.
    Instead(&'static str),
}
use Accepted::{Any, Instead, Only};

const OFF: Accepted = Only(&["false"]);
const UNSET: Accepted = Only(&["\"\"", "[]", "{}", "false"]);
const ZERO: Accepted = Only(&["0", "0.0"]);

/// Options that one reason holds for: why what is accepted has no effect.
struct Group {
    why: &'static str,
    options: &'static [(&'static str, Accepted)],
}

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    Group { why: "an output folder that is in use is refused, never overwritten", options: &[
        ("overwrite_output_dir", Any),
    ] },
    Group { why: "what is told and logged does not depend on it", options: &[
        ("log_level_replica", Any), ("debug", UNSET),
        ("skip_memory_metrics", Any), ("include_tokens_per_second", Any), ("logging_nan_inf_filter", Any),
    ] },
    Group { why: "nothing is sent to the services that it is for", options: &[
        ("project", Any), ("trackio_space_id", Any), ("trackio_bucket_id", Any), ("trackio_static_space_id", Any),
        ("wandb_entity", Any), ("wandb_project", Any), ("wandb_run_group", Any), ("benchmarks", UNSET),
        ("callbacks", UNSET),
    ] },
    Group { why: "weights are always saved as safetensors", options: &[("save_safetensors", Only(&["true"]))] },
    Group { why: "a signal always saves, and a resume always continues exactly", options: &[
        ("enable_jit_checkpoint", Any), ("restore_callback_states_from_checkpoint", Any), ("ignore_data_skip", OFF),
    ] },
    Group { why: "a run trains and evaluates, and makes no predictions", options: &[
        ("do_train", Any), ("do_predict", OFF),
    ] },
    Group { why: "an evaluation keeps its sums alone", options: &[
        ("prediction_loss_only", Any), ("eval_accumulation_steps", Any), ("eval_do_concat_batches", Any),
        ("batch_eval_metrics", Any), ("include_for_metrics", UNSET), ("include_inputs_for_metrics", Any),
    ] },
    Group { why: "rows are tokenized on all cores, and batches are made ahead on a thread", options: &[
        ("dataset_num_proc", Any), ("preprocessing_num_workers", Any), ("dataset_batch_size", Any),
        ("dataloader_num_workers", Any), ("dataloader_pin_memory", Any), ("dataloader_persistent_workers", Any),
        ("dataloader_prefetch_factor", Any), ("dataloader_multiprocessing_context", Any),
        ("dataloader_in_order", Any),
    ] },
    Group { why: "the last batch of an epoch is trained on", options: &[("dataloader_drop_last", OFF)] },
    Group { why: "there is one process", options: &[
        ("ddp_timeout", Any), ("ddp_backend", Any), ("ddp_find_unused_parameters", Any), ("ddp_bucket_cap_mb", Any),
        ("ddp_broadcast_buffers", Any), ("ddp_static_graph", Any), ("ignore_bias_buffers", Any),
        ("average_tokens_across_devices", Any), ("local_rank", Any), ("log_on_each_node", Any),
        ("save_on_each_node", Any), ("eval_use_gather_object", Any), ("accelerator_config", UNSET),
        ("parallelism_config", UNSET), ("fsdp", UNSET), ("fsdp_config", UNSET), ("deepspeed", UNSET),
        ("fsdp_min_num_params", Only(&["0"])), ("fsdp_transformer_layer_cls_to_wrap", UNSET),
        ("tpu_num_cores", Instead("leave it out")), ("tpu_metrics_debug", OFF), ("mp_parameters", UNSET),
        ("dispatch_batches", Any), ("split_batches", OFF), ("ray_scope", Any),
    ] },
    Group { why: "speed and memory are decided when a run starts", options: &[
        ("tf32", Any), ("gradient_checkpointing_kwargs", Any), ("torch_compile", Any),
        ("torch_compile_backend", Any), ("torch_compile_mode", Any), ("torchdynamo", Any), ("use_liger_kernel", Any),
        ("use_liger", Any), ("liger_kernel_config", Any), ("use_cache", Any), ("torch_empty_cache_steps", Any),
        ("activation_offloading", Any), ("use_flash_attention_2", Any), ("use_ipex", Any), ("jit_mode_eval", Any),
    ] },
    Group { why: "arithmetic is bfloat16 or float32, the same for training and evaluation", options: &[
        ("fp16", OFF), ("bf16_full_eval", OFF), ("fp16_full_eval", OFF), ("half_precision_backend", Any),
        ("fp16_backend", Any), ("fp16_opt_level", Any), ("full_determinism", OFF), ("use_mps_device", OFF),
    ] },
    Group { why: "columns that are not trained on are not kept", options: &[
        ("remove_unused_columns", Any), ("length_column_name", Any), ("label_names", UNSET),
    ] },
    Group { why: "rows are those of the dataset, in the order of transformers", options: &[
        ("shuffle_dataset", OFF),
        ("dataset_kwargs", UNSET), ("dataset_streaming", OFF), ("streaming", OFF),
        ("eval_packing", UNSET), ("num_of_sequences", Any), ("chars_per_token", Any),
        ("dataset_mixer", Instead("list the datasets in datasets")),
        ("dataset_mixture", Instead("list the datasets in datasets")),
        ("dataset_splits", Instead("use dataset_train_split and dataset_test_split")),
        ("dataset_configs", Instead("use dataset_config")),
        ("auto_insert_empty_system_msg", Instead("put the system message into the rows or the chat template")),
        ("system_prompt", Instead("put the system message into the rows or the chat template")),
        ("chat_template", Instead("write the template to a file, and name the file in chat_template_path")),
        ("tokenizer_name_or_path", Instead("the tokenizer is read from the model's folder")),
        ("pad_token", UNSET),
    ] },
    Group { why: "the loss is the cross entropy of TRL's default", options: &[
        ("loss_type", Only(&["\"nll\""])), ("label_smoothing_factor", ZERO), ("neftune_noise_alpha", ZERO),
        ("router_aux_loss_coef", ZERO),
    ] },
    Group { why: "no code of a model is run, and all its weights are trained as they are", options: &[
        ("trust_remote_code", OFF), ("model_init_kwargs", UNSET), ("load_in_8bit", OFF), ("load_in_4bit", OFF),
        ("use_peft", OFF), ("model_code_revision", Instead("leave it out")),
    ] },
    Group { why: "it counts only with use_peft, load_in_4bit or load_in_8bit, which are off", options: &[
        ("bnb_4bit_quant_type", Any), ("use_bnb_nested_quant", Any), ("bnb_4bit_quant_storage", Any),
        ("lora_r", Any), ("lora_alpha", Any), ("lora_dropout", Any), ("lora_target_modules", Any),
        ("lora_target_parameters", Any), ("lora_modules_to_save", Any), ("lora_task_type", Any), ("use_rslora", Any),
        ("use_dora", Any),
    ] },
    Group { why: "only the newer spelling counts", options: &[
        ("past_index", Only(&["-1"])), ("adafactor", OFF),
        ("push_to_hub_token", Instead("use hub_token")), ("push_to_hub_model_id", Instead("use hub_model_id")),
        ("push_to_hub_organization", Instead("use hub_model_id with the organization before the name")),
        ("push_to_hub_revision", OFF), ("overwrite_hub_revision", OFF),
    ] },
];

/// What an option of TRL or transformers means here.
pub enum Meaning {
    /// Nothing: it has no effect. Why.
    NoEffect(&'static str),
    /// It would change the training. The problem, for a message.
    Refused(String),
}

/// `None` for a name that is none of these options.
pub fn meaning(name: &str, value: &Value) -> Option<Meaning> {
    let (group, accepted) = find(name)?;
    let values = match accepted {
        Any => return Some(Meaning::NoEffect(group.why)),
        Only(values) => *values,
        Instead(_) => &[],
    };
    // A flag's value is a text, and a file may quote one.
    let as_json = value.to_string();
    let unquoted = value.as_str().map(str::to_ascii_lowercase);
    let is_accepted = |accepted: &&str| as_json == **accepted || unquoted.as_deref() == Some(*accepted);
    if value.is_null() || values.iter().any(is_accepted) {
        return Some(Meaning::NoEffect(group.why));
    }
    Some(Meaning::Refused(format!("{name} is {}: not supported; {}", shortened(&as_json), remedy(accepted))))
}

/// Their names.
pub fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.options).map(|(name, _)| *name)
}

/// For a table of all options: the values that have no effect (`None`: every value), and why.
/// `None` for a name that is none of these options.
pub fn description(name: &str) -> Option<(Option<String>, &'static str)> {
    let (group, accepted) = find(name)?;
    let values = match accepted {
        Any => None,
        Only(["\"\"", ..]) => Some("nothing".to_owned()),
        Only(values) => Some(format!("`{}`", values[0].trim_matches('"'))),
        Instead(_) => Some("nothing".to_owned()),
    };
    Some((values, group.why))
}

fn find(name: &str) -> Option<(&'static Group, &'static Accepted)> {
    let options = GROUPS.iter().flat_map(|group| group.options.iter().map(move |option| (group, option)));
    let mut named = options.filter(|(_, (option, _))| *option == name);
    named.next().map(|(group, (_, accepted))| (group, accepted))
}

fn remedy(accepted: &Accepted) -> String {
    match accepted {
        Instead(remedy) => (*remedy).to_owned(),
        Any | Only([] | ["\"\"", ..]) => "leave it out".to_owned(),
        Only(values) => format!("leave it out, or use {}", values[0].trim_matches('"')),
    }
}

/// A value for a message of one line.
fn shortened(value: &str) -> String {
    const MOST: usize = 60;
    match value.char_indices().nth(MOST) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}…", &value[..end]),
    }
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
            ("use_peft", json!(false)),
            ("use_peft", json!("False")),
            ("use_peft", json!(null)),
            ("gradient_checkpointing_kwargs", json!({"use_reentrant": false})),
            ("deepspeed", json!("")),
            ("fsdp", json!([])),
            ("neftune_noise_alpha", json!(null)),
            ("label_smoothing_factor", json!(0.0)),
            ("chat_template", json!(null)),
        ] {
            assert!(matches!(meaning(name, &value), Some(Meaning::NoEffect(_))), "{name}: {value}");
        }
        for (name, value, expected) in [
            ("use_peft", json!(true), "use_peft is true: not supported; leave it out, or use false"),
            ("loss_type", json!("dft"), "loss_type is \"dft\": not supported; leave it out, or use nll"),
            ("neftune_noise_alpha", json!(5), "neftune_noise_alpha is 5: not supported; leave it out, or use 0"),
            ("deepspeed", json!("z.json"), "deepspeed is \"z.json\": not supported; leave it out"),
            (
                "chat_template",
                json!("{% for message in messages %}{{ message['role'] + message['content'] }}{% endfor %}"),
                "chat_template is \"{% for message in messages %}{{ message['role'] + message['…: not supported; \
                 write the template to a file, and name the file in chat_template_path",
            ),
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
