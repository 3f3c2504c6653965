//! Generates text with a saved model.

use anyhow::{Context, Result, anyhow};
use causal_lm::{CausalLm, ModelOptions, SamplingOptions};
use std::path::Path;
use tokenizers::Tokenizer;

/// Returns the prompt followed by the text that the model in `folder` generates.
pub fn run(folder: &Path, prompt: &str, temperature: f64, max_new_tokens: usize) -> Result<String> {
    let path = folder.join("tokenizer.json");
    let tokenizer = Tokenizer::from_file(&path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let (model, _) = CausalLm::load(folder, ModelOptions::default())?;
    let encoding = tokenizer.encode(prompt, false).map_err(|error| anyhow!("the prompt: {error}"))?;
    let ids: Vec<i64> = encoding.get_ids().iter().map(|id| i64::from(*id)).collect();
    let end = model.config().raw.get("eos_token_id").and_then(serde_json::Value::as_i64);
    let options = SamplingOptions {
        max_new_tokens,
        temperature,
        top_p: 0.9,
        eos_token_ids: end.into_iter().collect(),
        ..SamplingOptions::default()
    };
    let added = model.generate(&ids, &options)?;
    let all =
        ids.iter().chain(&added).map(|id| u32::try_from(*id)).collect::<Result<Vec<_>, _>>().context("a token id")?;
    tokenizer.decode(&all, true).map_err(|error| anyhow!("the sample: {error}"))
}
