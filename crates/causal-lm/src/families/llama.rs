//! Llama 2 and 3 (arXiv 2307.09288, 2407.21783), `LlamaForCausalLM`, and models of the same layout:
//! SmolLM2, TinyLlama, Yi, DeepSeek-R1-Distill-Llama, Hermes, Falcon 3.

use super::{ActivationField, Biases, Defaults, Definition, KeyHeads, Recipe, Ropes, Source};
use crate::Error;
use crate::config::rope::RopeClass;

pub(super) const DEFINITION: Definition = Definition {
    defaults: DEFAULTS,
    activation: ActivationField::SILU,
    rope: Ropes::One(RopeClass::PLAIN),
    fields: &["attention_bias", "mlp_bias"],
    recipe,
};

pub(super) const DEFAULTS: Defaults = Defaults {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: KeyHeads::AsQuery,
    head_dim: None,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: false,
};

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    source.windows(None, |_| false)?;
    let attention = source.fields.flag("attention_bias", false)?;
    let biases = Biases { qkv: attention, output: attention, mlp: source.fields.flag("mlp_bias", false)? };
    Ok(Recipe { biases, ..source.plain() })
}
