//! Which fields of a config.json have an effect here, which are refused, and which are known to
//! have none.

use super::fields::{Fields, shortened};
use crate::Error;
use crate::families::{ActivationField, Definition};
use crate::ops::glu::Activation;
use serde_json::{Map, Value};

/// Fields that are read.
const READ: [&str; 28] = [
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "tie_word_embeddings",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "attention_dropout",
    "layer_types",
    "dtype",
    "torch_dtype",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "is_causal",
    "per_layer_config",
    "transformers_weights",
];

/// Fields that do not change what training computes, in transformers 5 or in any version of 4:
/// descriptions of the file, outputs of other heads, caches, and how a kernel is chosen.
const WITHOUT_EFFECT: [&str; 45] = [
    "architectures",
    "auto_map",
    "transformers_version",
    "_name_or_path",
    "name_or_path",
    "_commit_hash",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "finetuning_task",
    "task_specific_params",
    "classifier_dropout",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
    "is_decoder",
    "add_cross_attention",
    "cross_attention_hidden_size",
    "tie_encoder_decoder",
    "decoder_start_token_id",
    "sep_token_id",
    "tokenizer_class",
    "prefix",
    "pruned_heads",
    "torchscript",
    "use_bfloat16",
    "tf_legacy_loss",
    "use_cache",
    "pretraining_tp",
    "gradient_checkpointing",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_experts_implementation_internal",
    "_flash_attn_2_enabled",
    "experts_implementation",
    "model_max_length",
    "transformers.js_config",
    "unsloth_fixed",
    "unsloth_version",
    "is_llama_config",
];

/// Settings of text generation, which old files have. transformers drops them.
const GENERATION: [&str; 33] = [
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "target_lookbehind",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Switches that ask for nothing as long as they are off.
const SWITCHED_OFF: [&str; 5] = ["attention_bias", "mlp_bias", "use_sliding_window", "use_mrope", "rope_interleaved"];

/// Fields that say that weights are quantised: those of transformers, of its older versions, and of
/// MLX.
const QUANTISED: [&str; 3] = ["quantization_config", "compression_config", "quantization"];

/// The fields that nothing here understands. They have no effect in transformers either, because
/// its classes keep them without using them.
pub(super) fn unknown(fields: &Fields<'_>, family: &Definition) -> Vec<String> {
    let is_known = |name: &str| {
        let is_off = SWITCHED_OFF.contains(&name) && fields.get(name) == Some(&Value::Bool(false));
        [&READ[..], &WITHOUT_EFFECT, &GENERATION, family.fields].iter().any(|names| names.contains(&name)) || is_off
    };
    fields.names().filter(|name| fields.get(name).is_some() && !is_known(name)).map(str::to_owned).collect()
}

/// Refuses quantised weights, whatever the family.
pub(super) fn reject_quantised(fields: &Fields<'_>) -> Result<(), Error> {
    for name in QUANTISED {
        let Some(value) = fields.get(name) else { continue };
        let how = value.as_object().map(quantisation).unwrap_or_default();
        let problem = format!(
            "says that the weights are quantised{how}, which cannot be trained: use the model's unquantised checkpoint"
        );
        return Err(fields.error(name, problem));
    }
    Ok(())
}

/// Method and width, as far as they are stated: ` (gptq, 4 bits)`.
fn quantisation(object: &Map<String, Value>) -> String {
    let is_on = |name: &str| object.get(name) == Some(&Value::Bool(true));
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let widths = [(is_on("load_in_4bit"), 4), (is_on("load_in_8bit"), 8)];
    let width = widths.into_iter().find_map(|(is_on, bits)| is_on.then_some(bits));
    let method = text("quant_method").or(width.map(|_| "bitsandbytes")).map(str::to_owned);
    let format = text("format").or(text("fmt")).map(str::to_owned);
    let bits = ["bits", "w_bit", "nbits"].into_iter().find_map(|name| object.get(name).and_then(Value::as_u64));
    let bits = bits.or(width).map(|bits| format!("{bits} bits"));
    let parts: Vec<String> = [method, format, bits].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// The MLP's activation.
pub(super) fn activation(fields: &Fields<'_>, field: &ActivationField) -> Result<Activation, Error> {
    let ActivationField { name, default, supported } = field;
    // The first name is the one of the family's models.
    let wanted = supported.first().map_or("", |(name, _)| name);
    if fields.is_null(name) {
        return Err(fields.error(name, format!("is null; {wanted} is supported")));
    }
    let found = fields.text(name)?.unwrap_or(default);
    let activation = supported.iter().find(|(name, _)| *name == found).map(|(_, activation)| *activation);
    activation.ok_or_else(|| fields.error(name, format!("\"{found}\" is not supported; {wanted} is")))
}

/// Refuses fields that ask for arithmetic this crate does not have. To ignore them would give wrong
/// results.
pub(super) fn reject_unsupported(fields: &Fields<'_>) -> Result<(), Error> {
    let dropout = fields.number("attention_dropout", Some(0.0))?;
    if dropout != 0.0 {
        return Err(fields.error("attention_dropout", format!("{dropout} is not supported; 0 is")));
    }
    if fields.get("is_causal").is_some_and(|value| value != &Value::Bool(true)) {
        let problem = "other than true asks for attention to later tokens, which is not supported".to_owned();
        return Err(fields.error("is_causal", problem));
    }
    if fields.get("per_layer_config").is_some() {
        let problem = "makes layers differ from each other, which is not supported".to_owned();
        return Err(fields.error("per_layer_config", problem));
    }
    if let Some(name) = fields.get("transformers_weights") {
        let problem = format!("names {} for the weights; only model.safetensors is supported", shortened(name));
        return Err(fields.error("transformers_weights", problem));
    }
    for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        let is_id = |value: &Value| value.is_i64();
        let is_fine = match fields.get(name) {
            None => true,
            Some(Value::Array(ids)) => name == "eos_token_id" && ids.iter().all(is_id),
            Some(value) => is_id(value),
        };
        if let Some(value) = fields.get(name).filter(|_| !is_fine) {
            return Err(fields.error(name, format!("is {}, must be a token id", shortened(value))));
        }
    }
    Ok(())
}
