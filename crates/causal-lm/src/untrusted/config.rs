//! Bounds on the numbers of a config.json. No real model comes near them.

use crate::Config;

/// The largest count of anything. Products of two counts fit an `i64`.
const MAX_COUNT: i64 = 1 << 31;
const MAX_LAYERS: usize = 10_000;
/// The most weights that one matrix may have.
const MAX_MATRIX_ELEMENTS: i64 = 1 << 36;

/// A count within its bounds.
pub(crate) fn count(value: i64) -> Option<i64> {
    (1..=MAX_COUNT).contains(&value).then_some(value)
}

/// A number of layers that does not take hours to refuse, or what is wrong with it.
pub(crate) fn num_hidden_layers(layers: i64) -> Result<usize, String> {
    let layers_in_bounds = usize::try_from(layers).ok().filter(|layers| *layers <= MAX_LAYERS);
    layers_in_bounds.ok_or_else(|| format!("is {layers}, must be {MAX_LAYERS} or less"))
}

/// The first field that makes a weight matrix too large, and what is wrong with it.
pub(crate) fn check_matrix_sizes(config: &Config) -> Result<(), (&'static str, String)> {
    let query_width = config.num_attention_heads.saturating_mul(config.head_dim);
    let widths =
        [("vocab_size", config.vocab_size), ("intermediate_size", config.intermediate_size), ("head_dim", query_width)];
    for (field, width) in widths {
        if width.saturating_mul(config.hidden_size) > MAX_MATRIX_ELEMENTS {
            let problem = format!("with hidden_size {} makes a matrix of more than 2^36 weights", config.hidden_size);
            return Err((field, problem));
        }
    }
    Ok(())
}
