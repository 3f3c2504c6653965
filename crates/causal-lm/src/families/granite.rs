//! Granite 3, `GraniteForCausalLM`: Llama with four multipliers.

use super::{ActivationField, Biases, Definition, EmbeddingScale, Recipe, Ropes, ScaleRounding, Source, llama};
use crate::Error;
use crate::config::rope::RopeClass;

pub(super) const DEFINITION: Definition = Definition {
    defaults: llama::DEFAULTS,
    activation: ActivationField::SILU,
    rope: Ropes::One(RopeClass::PLAIN),
    fields: &[
        "attention_bias",
        "mlp_bias",
        "embedding_multiplier",
        "attention_multiplier",
        "residual_multiplier",
        "logits_scaling",
    ],
    recipe,
};

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    source.windows(None, |_| false)?;
    let fields = source.fields;
    let attention = fields.flag("attention_bias", false)?;
    let multiplier = |name| fields.number(name, Some(1.0));
    Ok(Recipe {
        biases: Biases { qkv: attention, output: attention, mlp: fields.flag("mlp_bias", false)? },
        embedding: EmbeddingScale { factor: multiplier("embedding_multiplier")?, rounding: ScaleRounding::Exact },
        attention_scale: multiplier("attention_multiplier")?,
        residual_multiplier: multiplier("residual_multiplier")?,
        logits_divisor: fields.positive("logits_scaling", Some(1.0))?,
        ..source.plain()
    })
}
