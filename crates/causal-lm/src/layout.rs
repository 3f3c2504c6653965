//! Which parameters a configuration calls for, and which of them form a block.

use crate::block::{Block, FusedLinear, Linear, Norms};
use crate::families::Projections;
use crate::ops::qk_norm::Over;
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
    let recipe = &config.recipe;
    let find_part = |part: &str| find(parameters, &format!("model.layers.{layer}.{part}"));
    let norm = |name: Option<&str>| name.map(|name| find_part(&format!("{name}.weight"))).transpose();
    let linear = |part: &str, has_bias: bool| -> Result<Linear, Error> {
        let bias = has_bias.then(|| find_part(&format!("{part}.bias"))).transpose()?;
        Ok(Linear { weight: find_part(&format!("{part}.weight"))?, bias })
    };
    let all = |parts: &[&str], has_bias| parts.iter().map(|part| linear(part, has_bias)).collect::<Result<Vec<_>, _>>();
    let (qkv, gate_up) = shared_inputs(recipe.projections);
    let (qkv, gate_up) = (all(qkv, config.qkv_bias)?, all(gate_up, config.mlp_bias)?);
    let (o_proj, down_proj) = (linear("self_attn.o_proj", config.o_bias)?, linear("mlp.down_proj", config.mlp_bias)?);
    let norms = Norms {
        input: norm(recipe.input_norm)?,
        attention_output: norm(recipe.attention_output_norm)?,
        mlp: norm(recipe.mlp_norm)?,
        mlp_output: norm(recipe.mlp_output_norm)?,
    };
    let qk_norm = match recipe.qk_norm {
        Some(over) => Some((over, [find_part("self_attn.q_norm.weight")?, find_part("self_attn.k_norm.weight")?])),
        None => None,
    };
    let (qkv_proj, gate_up_proj) = (FusedLinear::new(parameters, &qkv)?, FusedLinear::new(parameters, &gate_up)?);
    Ok(Block { layer: recipe.layers[layer], norms, qk_norm, qkv_proj, o_proj, gate_up_proj, down_proj })
}

/// The matrices that attention's input and the MLP's input are multiplied with.
fn shared_inputs(projections: Projections) -> (&'static [&'static str], &'static [&'static str]) {
    match projections {
        Projections::Separate => {
            (&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], &["mlp.gate_proj", "mlp.up_proj"])
        }
        Projections::Joined => (&["self_attn.qkv_proj"], &["mlp.gate_up_proj"]),
    }
}

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const NORM: &str = "model.norm.weight";
pub(crate) const HEAD: &str = "lm_head.weight";

/// Every parameter that `config` calls for, by Hugging Face's names.
pub(crate) fn specs(config: &Config) -> Vec<ParameterSpec> {
    let recipe = &config.recipe;
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
        match recipe.projections {
            Projections::Separate => {
                linear("self_attn.q_proj", query_width, d, config.qkv_bias);
                linear("self_attn.k_proj", key_width, d, config.qkv_bias);
                linear("self_attn.v_proj", key_width, d, config.qkv_bias);
                linear("mlp.gate_proj", f, d, config.mlp_bias);
                linear("mlp.up_proj", f, d, config.mlp_bias);
            }
            Projections::Joined => {
                linear("self_attn.qkv_proj", query_width + 2 * key_width, d, config.qkv_bias);
                linear("mlp.gate_up_proj", 2 * f, d, config.mlp_bias);
            }
        }
        linear("self_attn.o_proj", d, query_width, config.o_bias);
        linear("mlp.down_proj", d, f, config.mlp_bias);
        for norm in recipe.norms() {
            add(format!("model.layers.{layer}.{norm}.weight"), &[d], ParameterKind::Norm);
        }
        let qk_widths = match recipe.qk_norm {
            None => None,
            Some(Over::Head) => Some([config.head_dim; 2]),
            Some(Over::Width) => Some([query_width, key_width]),
        };
        for (norm, width) in ["q_norm", "k_norm"].into_iter().zip(qk_widths.into_iter().flatten()) {
            add(format!("model.layers.{layer}.self_attn.{norm}.weight"), &[width], ParameterKind::Norm);
        }
    }
    add(NORM.to_owned(), &[d], ParameterKind::Norm);
    if !config.tie_word_embeddings {
        add(HEAD.to_owned(), &[config.vocab_size, d], ParameterKind::Head);
    }
    specs
}
