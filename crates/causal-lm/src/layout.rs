//! Which parameters a configuration calls for, and which of them form a block.

use crate::block::{Block, FusedLinear, Linear};
use crate::parameters::{ParameterId, ParameterKind, ParameterSpec, Parameters};
use crate::{Config, Error};

pub(crate) fn find(parameters: &Parameters, name: &str) -> Result<ParameterId, Error> {
    parameters.id(name).ok_or_else(|| Error::Shape {
        operation: "model",
        expected: format!("a parameter named {name}"),
        found: "none".to_owned(),
    })
}

/// The parameters of a block. Those that one product can use together are joined.
pub(crate) fn block(config: &Config, parameters: &mut Parameters, layer: usize) -> Result<Block, Error> {
    let find_part = |part: &str| find(parameters, &format!("model.layers.{layer}.{part}"));
    let linear = |part: &str, has_bias: bool| -> Result<Linear, Error> {
        let bias = has_bias.then(|| find_part(&format!("{part}.bias"))).transpose()?;
        Ok(Linear { weight: find_part(&format!("{part}.weight"))?, bias })
    };
    let attention = |part: &str| linear(&format!("self_attn.{part}"), config.qkv_bias);
    let qkv = [attention("q_proj")?, attention("k_proj")?, attention("v_proj")?];
    let gate_up = [linear("mlp.gate_proj", config.mlp_bias)?, linear("mlp.up_proj", config.mlp_bias)?];
    let (o_proj, down_proj) = (linear("self_attn.o_proj", config.o_bias)?, linear("mlp.down_proj", config.mlp_bias)?);
    let input_norm = find_part("input_layernorm.weight")?;
    let post_attention_norm = find_part("post_attention_layernorm.weight")?;
    let (qkv_proj, gate_up_proj) = (FusedLinear::new(parameters, &qkv)?, FusedLinear::new(parameters, &gate_up)?);
    Ok(Block { input_norm, qkv_proj, o_proj, post_attention_norm, gate_up_proj, down_proj })
}

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const NORM: &str = "model.norm.weight";
pub(crate) const HEAD: &str = "lm_head.weight";

/// Every parameter that `config` calls for, by Hugging Face's names.
pub(crate) fn specs(config: &Config) -> Vec<ParameterSpec> {
    let (d, f) = (config.hidden_size, config.intermediate_size);
    let query_width = config.num_attention_heads * config.head_dim;
    let key_width = config.num_key_value_heads * config.head_dim;
    let mut specs = Vec::new();
    let mut add = |name: String, shape: &[i64], kind| specs.push(ParameterSpec { name, shape: shape.to_vec(), kind });
    add(EMBEDDING.to_owned(), &[config.vocab_size, d], ParameterKind::Embedding);
    for layer in 0..config.num_hidden_layers {
        let mut linear = |part: &str, out: i64, input: i64, has_bias: bool| {
            let name = format!("model.layers.{layer}.{part}");
            add(format!("{name}.weight"), &[out, input], ParameterKind::Linear);
            if has_bias {
                add(format!("{name}.bias"), &[out], ParameterKind::Bias);
            }
        };
        linear("self_attn.q_proj", query_width, d, config.qkv_bias);
        linear("self_attn.k_proj", key_width, d, config.qkv_bias);
        linear("self_attn.v_proj", key_width, d, config.qkv_bias);
        linear("self_attn.o_proj", d, query_width, config.o_bias);
        linear("mlp.gate_proj", f, d, config.mlp_bias);
        linear("mlp.up_proj", f, d, config.mlp_bias);
        linear("mlp.down_proj", d, f, config.mlp_bias);
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(format!("model.layers.{layer}.{norm}.weight"), &[d], ParameterKind::Norm);
        }
    }
    add(NORM.to_owned(), &[d], ParameterKind::Norm);
    if !config.tie_word_embeddings {
        add(HEAD.to_owned(), &[config.vocab_size, d], ParameterKind::Head);
    }
    specs
}
