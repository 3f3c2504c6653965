//! Flash attention over rows that are packed one after the other, without padding (Dao, 2023, arXiv
//! 2307.08691), for CUDA in bfloat16 and float16. tch's generated bindings leave its forward out.
//!
//! Shapes: `n` tokens of all rows, `h` query heads, `g` key and value heads (`h` a multiple of
//! `g`), `k` head size, `r` rows.

use crate::{AttentionInputs, Error, shim};
use std::num::NonZeroUsize;
use tch::Tensor;

/// The result of [`forward`], which [`backward`] needs.
#[derive(Debug)]
pub struct Forward {
    /// The output `[n, h, k]`.
    pub output: Tensor,
    /// The logarithm of the softmax denominators, float32 `[h, n]`.
    pub logsumexp: Tensor,
    rng_state: Tensor,
    unused: Tensor,
    scores: Scores,
}

/// How scores are computed, and which of them count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// What the products of queries and keys are multiplied with.
    pub scale: f64,
    /// How many tokens a token attends to, itself included. `None`: all up to itself.
    pub window: Option<NonZeroUsize>,
}

impl Scores {
    /// The kernel's `window_size_left`, which leaves out the token itself. `None` if no row is
    /// longer than the window.
    fn window_left(self, rows: PackedRows<'_>) -> Option<i64> {
        let window = i64::try_from(self.window?.get()).ok()?;
        (window < rows.longest).then_some(window - 1)
    }
}

/// The rows of a batch, packed one after the other.
#[derive(Debug, Clone, Copy)]
pub struct PackedRows<'a> {
    /// int32 `[r + 1]` on the device: where each row begins, and where the last one ends.
    pub cumulative_lengths: &'a Tensor,
    /// The number of tokens in the longest row.
    pub longest: i64,
}

/// Causal attention within each row, of query `[n, h, k]`, key and value `[n, g, k]`.
///
/// # Errors
/// [`Error::Torch`] with libtorch's message, for example on the CPU or in float32.
pub fn forward(inputs: AttentionInputs<'_>, rows: PackedRows<'_>, scores: Scores) -> Result<Forward, Error> {
    let AttentionInputs { query, key, value } = inputs;
    let [query, key, value, lengths] =
        [query, key, value, rows.cumulative_lengths].map(|tensor| tensor.as_ptr().cast());
    // SAFETY: the pointers are live `at::Tensor`s for the length of the call, which makes five
    // tensors.
    let [output, logsumexp, rng_state, unused, _debug_mask] = unsafe {
        shim::new_tensors("flash_attention_forward", |outputs| {
            let (longest, window) = (rows.longest, scores.window_left(rows).unwrap_or(-1));
            shim::torch_ext_flash_attention_forward(outputs, query, key, value, lengths, longest, window, scores.scale)
        })?
    };
    Ok(Forward { output, logsumexp, rng_state, unused, scores })
}

/// Gradients of query, key and value from the gradient of the output `[n, h, k]`. Inputs and rows
/// are those of the forward.
///
/// # Errors
/// [`Error::Torch`] with libtorch's message.
pub fn backward(
    gradient: &Tensor,
    inputs: AttentionInputs<'_>,
    rows: PackedRows<'_>,
    saved: &Forward,
) -> Result<(Tensor, Tensor, Tensor), Error> {
    let AttentionInputs { query, key, value } = inputs;
    let window = saved.scores.window_left(rows);
    Tensor::f_internal_flash_attention_backward(
        gradient,
        query,
        key,
        value,
        &saved.output,
        &saved.logsumexp,
        rows.cumulative_lengths,
        rows.cumulative_lengths,
        rows.longest,
        rows.longest,
        0.0,
        true,
        &saved.rng_state,
        &saved.unused,
        saved.scores.scale,
        window,
        window.map(|_| 0),
    )
    .map_err(|error| Error::Torch { operation: "flash_attention_backward", message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_device_without_the_kernel_is_an_error_not_a_crash() {
        let tensor = Tensor::zeros([4, 2, 8], (Kind::BFloat16, Device::Cpu));
        let cumulative_lengths = Tensor::from_slice(&[0i32, 4]);
        let rows = PackedRows { cumulative_lengths: &cumulative_lengths, longest: 4 };
        let inputs = AttentionInputs { query: &tensor, key: &tensor, value: &tensor };
        let message = forward(inputs, rows, Scores { scale: 1.0, window: None }).unwrap_err().to_string();
        assert!(message.starts_with("flash_attention_forward: ") && !message.contains('\n'), "{message}");
    }
}
