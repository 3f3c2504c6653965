//! Models with random weights, and batches for them.

use anyhow::Result;
use causal_lm::{CausalLm, Config, ModelOptions, TokenBatch};
use galore_optim::{Parameter, TargetModules, select_targets};
use serde_json::json;
use tch::{Device, Kind};

/// Qwen2 of width 256 with 6 layers and a vocabulary of 4096.
pub fn qwen2_small(dtype: Kind) -> Result<CausalLm> {
    let config = json!({
        "model_type": "qwen2", "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6,
        "num_attention_heads": 8, "num_key_value_heads": 2, "tie_word_embeddings": true,
    });
    of(Config::from_json(config, "config.json".as_ref())?, dtype)
}

pub fn of(config: Config, dtype: Kind) -> Result<CausalLm> {
    let mut model = CausalLm::zeros(config, ModelOptions { dtype: Some(dtype), ..ModelOptions::default() })?;
    model.initialise(0)?;
    Ok(model)
}

/// Rows of equal length, in which each token except the last predicts the next one. The tokens
/// follow a rule that can be learned.
pub fn batch(model: &CausalLm, rows: usize, length: usize) -> Result<TokenBatch> {
    let vocabulary = model.config().vocab_size as usize;
    let token = |row: usize, position: usize| ((row * 131 + position * 7) % vocabulary) as i64;
    let each = || (0..rows).flat_map(|row| (0..length).map(move |position| (row, position)));
    let ids: Vec<i64> = each().map(|(row, position)| token(row, position)).collect();
    let target = |(row, position)| if position + 1 == length { -1 } else { token(row, position + 1) };
    let targets: Vec<i64> = each().map(target).collect();
    Ok(TokenBatch::new(&ids, &targets, &vec![length; rows], Device::Cpu)?)
}

/// The GaLore targets by the program's defaults, and all other parameters.
pub fn parameters(model: &mut CausalLm) -> Result<(Vec<Parameter>, Vec<Parameter>)> {
    let specs = model.parameters().specs().to_vec();
    let modules: Vec<&str> = specs.iter().filter_map(|spec| spec.name.strip_suffix("_proj.weight")).collect();
    let targets = select_targets(&modules, &TargetModules::List(vec!["attn".to_owned(), "mlp".to_owned()]))?;
    let targets: Vec<String> = targets.iter().map(|module| format!("{module}_proj.weight")).collect();
    let gradients: Vec<_> = model.parameters_mut().gradients()?.iter().map(tch::Tensor::shallow_clone).collect();
    let all = specs.iter().zip(model.parameters().weights()).zip(gradients).map(|((spec, weight), gradient)| {
        Parameter { name: spec.name.clone(), weight: weight.shallow_clone(), gradient: Some(gradient) }
    });
    Ok(all.partition(|parameter| targets.contains(&parameter.name)))
}
