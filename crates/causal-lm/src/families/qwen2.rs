//! Qwen1.5, Qwen2 and Qwen2.5 (arXiv 2407.10671), `Qwen2ForCausalLM`: biases on q, k and v; with
//! `use_sliding_window` a window in the layers from `max_window_layers` on.

use super::{ActivationField, Biases, Defaults, Definition, KeyHeads, Recipe, Ropes, Source, llama};
use crate::Error;
use crate::config::rope::RopeClass;

pub(super) const DEFINITION: Definition = Definition {
    defaults: DEFAULTS,
    activation: ActivationField::SILU,
    rope: Ropes::One(RopeClass::PLAIN),
    fields: &["sliding_window", "use_sliding_window", "max_window_layers"],
    recipe,
};

pub(super) const DEFAULTS: Defaults = Defaults {
    vocab_size: 151_936,
    intermediate_size: 22_016,
    num_key_value_heads: KeyHeads::CountUnlessNull(32),
    max_position_embeddings: 32_768,
    ..llama::DEFAULTS
};

/// The window of a Qwen2 file that does not state one.
const DEFAULT_WINDOW: i64 = 4096;
/// The first layer with a window.
const DEFAULT_MAX_WINDOW_LAYERS: i64 = 28;

fn recipe(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    Ok(Recipe { biases: Biases { qkv: true, ..Biases::default() }, ..windowed(source)? })
}

/// The plain recipe with the windows of Qwen's fields.
pub(super) fn windowed(source: &Source<'_, '_>) -> Result<Recipe, Error> {
    let fields = source.fields;
    let stated = fields.count_or_null("sliding_window", DEFAULT_WINDOW)?;
    let first = fields.whole_number("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS)?;
    let use_window = fields.flag("use_sliding_window", false)?;
    let window = stated.filter(|_| use_window);
    let slides = |layer: usize| i64::try_from(layer).is_ok_and(|layer| layer >= first);
    Ok(source.plain().with_windows(&source.windows(window, slides)?))
}
