use crate::Config;
use crate::ops::attention;
use crate::ops::norm::Statistics;
use crate::ops::qk_norm::{self, Over};
use tch::{Kind, Tensor};

/// What the forward of a block computes between its input and its last matrix product. The backward
/// needs all of it.
///
/// Shapes: `n` tokens, `d` hidden, `f` intermediate, `h` query heads, `g` key and value heads, `k`
/// head size.
pub(crate) struct Activations {
    pub(super) input_statistics: Option<Statistics>, // None without a norm
    pub(super) input_normed: Option<Tensor>,         // [n, d]; None after `without_norms`
    /// Queries, keys and values before norms of queries and keys, if there are such norms.
    pub(super) qk_norm: Option<(Tensor, qk_norm::Saved)>, // [n, h + 2 g, k]
    pub(super) query: Tensor,                        // [n, h, k], rotated; q, k and v are views of one [n, h + 2 g, k]
    pub(super) key: Tensor,                          // [n, g, k], rotated
    pub(super) value: Tensor,                        // [n, g, k]
    pub(super) attended: Tensor,                     // [n, h k], attention's output
    pub(super) attention: attention::Saved,
    pub(super) middle: Tensor, // [n, d], the residual stream after attention
    pub(super) middle_statistics: Option<Statistics>, // None without a norm
    pub(super) middle_normed: Option<Tensor>, // [n, d]; None after `without_norms`
    pub(super) gate_up: Tensor, // [n, 2 f]
}

impl Activations {
    /// Drops the outputs of both norms, which the backward then computes again.
    pub(crate) fn without_norms(self) -> Self {
        Self { input_normed: None, middle_normed: None, ..self }
    }

    /// Bytes per token: first of what [`Self::without_norms`] keeps, then of what it drops.
    pub(crate) fn bytes_per_token(config: &Config, compute: Kind) -> [u64; 2] {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (query, key) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let element = compute.elt_size_in_bytes() as u64;
        let bytes = |elements: i64| u64::try_from(elements).unwrap_or(0) * element;
        let (before_qk_norm, qk_statistics) = match config.recipe.qk_norm {
            None => (0, 0),
            Some(Over::Head) => (query + 2 * key, config.num_attention_heads + config.num_key_value_heads),
            Some(Over::Width) => (query + 2 * key, 2),
        };
        // In float32: attention's logsumexp of each head, and the reciprocal RMS of the norms.
        let statistics = 4 * u64::try_from(config.num_attention_heads + 2 + qk_statistics).unwrap_or(0);
        [bytes(2 * query + 2 * key + d + 2 * f + before_qk_norm) + statistics, bytes(2 * d)]
    }
}
