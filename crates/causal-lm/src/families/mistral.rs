//! Mistral 7B (arXiv 2310.06825), `MistralForCausalLM`: all layers have a sliding window, or with
//! `layer_types` those that it names, as Ministral has it.

use super::{ActivationField, Defaults, Definition, KeyHeads, Recipe, Ropes, Source, llama};
use crate::Error;
use crate::config::rope::RopeClass;

pub(super) const DEFINITION: Definition = Definition {
    defaults: Defaults {
        intermediate_size: 14_336,
        num_key_value_heads: KeyHeads::Count(8),
        max_position_embeddings: 131_072,
        ..llama::DEFAULTS
    },
    activation: ActivationField::SILU,
    rope: Ropes::One(RopeClass::PLAIN),
    fields: &["sliding_window"],
    recipe,
};

/// The window of a file that does not state one.
const DEFAULT_WINDOW: i64 = 4096;

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    let window = source.fields.count_or_null("sliding_window", DEFAULT_WINDOW)?;
    Ok(source.plain().with_windows(&source.windows(window, |_| true)?))
}
