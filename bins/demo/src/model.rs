//! A small model of the Qwen2 architecture with random weights.

use crate::tokenizer::TokenIds;
use anyhow::Result;
use causal_lm::{CausalLm, Config, ModelOptions};
use serde_json::json;
use std::path::Path;

pub const MAX_POSITIONS: usize = 1024;

/// Writes config.json, generation_config.json and model.safetensors into `folder`, and returns
/// the number of parameters.
pub fn write(ids: &TokenIds, seed: i64, folder: &Path) -> Result<u64> {
    let layers = 4;
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": null,
        "dtype": "bfloat16",
        "eos_token_id": ids.turn_end,
        "hidden_act": "silu",
        "hidden_size": 192,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "layer_types": vec!["full_attention"; layers],
        "max_position_embeddings": MAX_POSITIONS,
        "max_window_layers": layers,
        "model_type": "qwen2",
        "num_attention_heads": 6,
        "num_hidden_layers": layers,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "sliding_window": null,
        "tie_word_embeddings": true,
        "use_cache": true,
        "use_sliding_window": false,
        // Rounded up, as usual, so that matrix products consist of whole tiles.
        "vocab_size": ids.vocab_size.next_multiple_of(64),
    });
    let config = Config::from_json(config, Path::new("config.json"))?;
    let options = ModelOptions { dtype: Some(tch::Kind::BFloat16), ..ModelOptions::default() };
    let mut model = CausalLm::zeros(config, options)?;
    model.initialise(seed)?;
    model.save(folder)?;
    Ok(model.parameters().num_parameters().try_into()?)
}
