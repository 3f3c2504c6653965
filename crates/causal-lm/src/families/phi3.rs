//! Phi-3 and Phi-4 (arXiv 2404.14219), `Phi3ForCausalLM`: q, k and v are one matrix in the file,
//! gate and up another; a part of each head may be rotated, by LongRoPE in the models for long
//! rows.

use super::{ActivationField, Defaults, Definition, KeyHeads, Projections, Recipe, Ropes, Source, llama};
use crate::Error;
use crate::config::rope::RopeClass;

pub(super) const DEFINITION: Definition = Definition {
    defaults: Defaults {
        vocab_size: 32_064,
        hidden_size: 3072,
        intermediate_size: 8192,
        num_key_value_heads: KeyHeads::AsQuery,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-5,
        ..llama::DEFAULTS
    },
    activation: ActivationField::SILU,
    rope: Ropes::One(RopeClass {
        partial_rotary_factor: Some(1.0),
        original_length: Some(4096),
        longrope_names: &["su", "yarn"],
        ..RopeClass::PLAIN
    }),
    fields: &["sliding_window", "resid_pdrop", "embd_pdrop"],
    recipe,
};

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    source.must_be("resid_pdrop", 0.0)?;
    source.must_be("embd_pdrop", 0.0)?;
    let window = source.fields.optional_count("sliding_window")?;
    let recipe = source.plain().with_windows(&source.windows(window, |_| true)?);
    Ok(Recipe { projections: Projections::Joined, ..recipe })
}
