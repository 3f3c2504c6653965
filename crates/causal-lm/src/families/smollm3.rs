//! SmolLM3, `SmolLM3ForCausalLM`: layers without positions (arXiv 2501.18795), every fourth by
//! default.

use super::{ActivationField, Biases, Defaults, Definition, KeyHeads, Recipe, Ropes, Rotation, Source, llama};
use crate::Error;
use crate::config::fields::shortened;
use crate::config::rope::RopeClass;
use serde_json::Value;

pub(super) const DEFINITION: Definition = Definition {
    defaults: Defaults {
        vocab_size: 128_256,
        hidden_size: 2048,
        num_hidden_layers: 36,
        num_attention_heads: 16,
        num_key_value_heads: KeyHeads::CountUnlessNull(4),
        max_position_embeddings: 32_768,
        tie_word_embeddings: true,
        ..llama::DEFAULTS
    },
    activation: ActivationField::SILU,
    rope: Ropes::One(RopeClass { default_theta: 2e6, ..RopeClass::PLAIN }),
    fields: &[
        "attention_bias",
        "mlp_bias",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "no_rope_layers",
        "no_rope_layer_interval",
    ],
    recipe,
};

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    let fields = source.fields;
    let attention = fields.flag("attention_bias", false)?;
    let biases = Biases { qkv: attention, output: attention, mlp: fields.flag("mlp_bias", false)? };
    let rotates = rotated_layers(source)?;
    let use_window = fields.flag("use_sliding_window", false)?;
    let window = fields.optional_count("sliding_window")?.filter(|_| use_window);
    let slides = |layer: usize| window.is_some() && !rotates[layer];
    let mut recipe = Recipe { biases, ..source.plain().with_windows(&source.windows(window, slides)?) };
    for (layer, rotates) in recipe.layers.iter_mut().zip(&rotates) {
        layer.rotation = if *rotates { Rotation::Main } else { Rotation::None };
    }
    Ok(recipe)
}

/// Which layers have positions: in the file's list those with a 1.
fn rotated_layers(source: &Source<'_, '_>) -> Result<Vec<bool>, Error> {
    let (fields, num_layers) = (source.fields, source.num_layers);
    let interval = fields.count("no_rope_layer_interval", Some(4))?;
    let Some(list) = fields.get("no_rope_layers") else {
        return Ok((1..=num_layers).map(|number| number as i64 % interval != 0).collect());
    };
    let entries = list.as_array().map(|entries| entries.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>());
    match entries.flatten() {
        Some(entries) if entries.len() == num_layers => Ok(entries.iter().map(|entry| *entry != 0).collect()),
        _ => {
            let problem = format!("is {}, must be a list of {num_layers} numbers", shortened(list));
            Err(fields.error("no_rope_layers", problem))
        }
    }
}
