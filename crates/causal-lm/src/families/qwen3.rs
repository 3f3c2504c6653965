//! Qwen3, dense (arXiv 2505.09388), `Qwen3ForCausalLM`: each head of queries and keys is
//! normalised, and the head size does not follow from the width.

use super::{ActivationField, Biases, Defaults, Definition, Recipe, Ropes, Source, qwen2};
use crate::Error;
use crate::config::rope::RopeClass;
use crate::ops::qk_norm::Over;

pub(super) const DEFINITION: Definition = Definition {
    defaults: Defaults { head_dim: Some(128), ..qwen2::DEFAULTS },
    activation: ActivationField::SILU,
    rope: Ropes::One(RopeClass::PLAIN),
    fields: &["attention_bias", "sliding_window", "use_sliding_window", "max_window_layers"],
    recipe,
};

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    let attention = source.fields.flag("attention_bias", false)?;
    let biases = Biases { qkv: attention, output: attention, mlp: false };
    Ok(Recipe { biases, qk_norm: Some(Over::Head), ..qwen2::windowed(source)? })
}
