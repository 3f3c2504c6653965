//! Flash attention over rows laid end to end (Dao, 2023, arXiv 2307.08691), for CUDA in bfloat16
//! and float16.
//!
//! Shapes: `n` tokens of all rows, `h` query heads, `g` key and value heads (`h` a multiple of
//! `g`), `k` head size, `r` rows.

use crate::{Error, shim};
use tch::Tensor;

/// What [`forward`] gives, and [`backward`] needs again.
#[derive(Debug)]
pub struct Forward {
    /// `[n, h, k]`.
    pub output: Tensor,
    /// `[h, n]` float32: log of the softmax denominators.
    pub logsumexp: Tensor,
    rng_state: Tensor,
    unused: Tensor,
}

/// The rows of a batch laid end to end.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// int32 `[r + 1]` on the device: where each row begins, and the end.
    pub cumulative_lengths: &'a Tensor,
    /// Tokens of the longest row.
    pub longest: i64,
}

/// Causal attention within each row: query `[n, h, k]`, key and value `[n, g, k]`.
///
/// # Errors
/// [`Error::Torch`] with libtorch's message, for example on the CPU or in float32.
pub fn forward(query: &Tensor, key: &Tensor, value: &Tensor, rows: Rows<'_>, scale: f64) -> Result<Forward, Error> {
    let [query, key, value, lengths] =
        [query, key, value, rows.cumulative_lengths].map(|tensor| tensor.as_ptr().cast());
    // SAFETY: the pointers are live `at::Tensor`s for the length of the call, which makes five.
    let [output, logsumexp, rng_state, unused, _debug_mask] = unsafe {
        shim::new_tensors("flash_attention_forward", |outputs| {
            shim::torch_ext_flash_attention_forward(outputs, query, key, value, lengths, rows.longest, scale)
        })?
    };
    Ok(Forward { output, logsumexp, rng_state, unused })
}

/// Gradients of query, key and value from the gradient of the output `[n, h, k]`.
///
/// # Errors
/// [`Error::Torch`] with libtorch's message.
pub fn backward(
    gradient: &Tensor,
    (query, key, value): (&Tensor, &Tensor, &Tensor),
    saved: &Forward,
    rows: Rows<'_>,
    scale: f64,
) -> Result<(Tensor, Tensor, Tensor), Error> {
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
        scale,
        None,
        None,
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
        let rows = Rows { cumulative_lengths: &cumulative_lengths, longest: 4 };
        let message = forward(&tensor, &tensor, &tensor, rows, 1.0).unwrap_err().to_string();
        assert!(message.starts_with("flash_attention_forward: ") && !message.contains('\n'), "{message}");
    }
}
