//! OLMo 2 (arXiv 2501.00656), `Olmo2ForCausalLM`: norms of the outputs of attention and MLP instead
//! of their inputs, and norms of all queries and of all keys of a token.

use super::{ActivationField, Biases, Defaults, Definition, KeyHeads, Recipe, Ropes, Source, llama};
use crate::Error;
use crate::config::rope::RopeClass;
use crate::ops::norm::Gain;
use crate::ops::qk_norm::Over;

pub(super) const DEFINITION: Definition = Definition {
    defaults: Defaults {
        vocab_size: 50_304,
        num_key_value_heads: KeyHeads::AsQuery,
        rms_norm_eps: 1e-5,
        ..llama::DEFAULTS
    },
    activation: ActivationField::SILU,
    rope: Ropes::One(RopeClass::PLAIN),
    fields: &["attention_bias"],
    recipe,
};

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    source.windows(None, |_| false)?;
    let attention = source.fields.flag("attention_bias", false)?;
    Ok(Recipe {
        biases: Biases { qkv: attention, output: attention, mlp: false },
        gain: Gain::Wide,
        input_norm: None,
        attention_output_norm: Some("post_attention_layernorm"),
        mlp_norm: None,
        mlp_output_norm: Some("post_feedforward_layernorm"),
        qk_norm: Some(Over::Width),
        ..source.plain()
    })
}
