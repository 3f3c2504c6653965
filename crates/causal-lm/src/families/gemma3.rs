//! Gemma 3, text (arXiv 2503.19786), `Gemma3ForCausalLM`: norms before and after attention and MLP,
//! which multiply with 1 + w; norms of queries and keys; embeddings times √d; of six layers five
//! have a window, with a rotary base of their own.

use super::{
    ActivationField, Biases, Defaults, Definition, EmbeddingScale, KeyHeads, Recipe, Ropes, Rotation, ScaleRounding,
    Source,
};
use crate::Error;
use crate::config::rope::{LayerTypeRope, RopeClass};
use crate::ops::glu::Activation;
use crate::ops::norm::Gain;
use crate::ops::qk_norm::Over;

pub(super) const DEFINITION: Definition = Definition {
    defaults: Defaults {
        vocab_size: 262_208,
        hidden_size: 2304,
        intermediate_size: 9216,
        num_hidden_layers: 26,
        num_attention_heads: 8,
        num_key_value_heads: KeyHeads::Count(4),
        head_dim: Some(256),
        max_position_embeddings: 131_072,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
    },
    activation: ActivationField {
        name: "hidden_activation",
        default: "gelu_pytorch_tanh",
        supported: &[("gelu_pytorch_tanh", Activation::GeluTanh)],
    },
    rope: Ropes::ByWindow([
        LayerTypeRope {
            name: "full_attention",
            prefix: "rope_parameters.full_attention.",
            class: RopeClass { default_theta: 1e6, ..RopeClass::PLAIN },
            takes_rope_scaling: true,
        },
        LayerTypeRope {
            name: "sliding_attention",
            prefix: "rope_parameters.sliding_attention.",
            class: RopeClass { theta_field: "rope_local_base_freq", ..RopeClass::PLAIN },
            takes_rope_scaling: false,
        },
    ]),
    fields: &[
        "hidden_activation",
        "attention_bias",
        "query_pre_attn_scalar",
        "sliding_window",
        "sliding_window_pattern",
        "_sliding_window_pattern",
        "rope_local_base_freq",
        "final_logit_softcapping",
        "attn_logit_softcapping",
        "use_bidirectional_attention",
        "cache_implementation",
    ],
    recipe,
};

const DEFAULT_WINDOW: i64 = 4096;
const DEFAULT_PATTERN: i64 = 6;

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    let fields = source.fields;
    for name in ["final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention"] {
        source.must_be_off(name)?;
    }
    let attention = fields.flag("attention_bias", false)?;
    let window = fields.count("sliding_window", Some(DEFAULT_WINDOW))?;
    let pattern = fields.count("sliding_window_pattern", Some(DEFAULT_PATTERN))?;
    let slides = |layer: usize| i64::try_from(layer + 1).is_ok_and(|number| number % pattern != 0);
    let mut recipe = source.plain().with_windows(&source.windows(Some(window), slides)?);
    for layer in &mut recipe.layers {
        layer.rotation = if layer.window.is_some() { Rotation::Local } else { Rotation::Main };
    }
    Ok(Recipe {
        biases: Biases { qkv: attention, output: attention, mlp: false },
        gain: Gain::WideOnePlus,
        attention_output_norm: Some("post_attention_layernorm"),
        mlp_norm: Some("pre_feedforward_layernorm"),
        mlp_output_norm: Some("post_feedforward_layernorm"),
        qk_norm: Some(Over::Head),
        // transformers holds it in the type of the weights: 34 and not 33.94 for 1152 in bfloat16.
        embedding: EmbeddingScale { factor: (source.hidden_size as f64).sqrt(), rounding: ScaleRounding::ToWeights },
        attention_scale: fields.positive("query_pre_attn_scalar", Some(256.0))?.sqrt().recip(),
        ..recipe
    })
}
