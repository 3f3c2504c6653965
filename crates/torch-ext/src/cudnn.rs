//! cuDNN's causal attention over rows of one length, for CUDA in bfloat16 and float16. It is faster
//! than [`crate::flash`], but makes a plan for each shape, which takes the host tens of
//! milliseconds.
//!
//! Shapes: `b` rows, `h` heads, `t` tokens a row, `k` head size. Strides are free, but for the last
//! dimension.

use crate::{Error, shim};
use tch::Tensor;

/// What [`forward`] gives, and [`backward`] needs again.
#[derive(Debug)]
pub struct Forward {
    /// `[b, h, t, k]`, in the order of the query's strides.
    pub output: Tensor,
    logsumexp: Tensor,
    seed: Tensor,
    offset: Tensor,
}

/// Causal attention within each row: query, key and value `[b, h, t, k]`.
///
/// # Errors
/// [`Error::Torch`] with libtorch's message, for example on the CPU, in float32, or where cuDNN has
/// no plan for the shape.
pub fn forward(query: &Tensor, key: &Tensor, value: &Tensor, scale: f64) -> Result<Forward, Error> {
    let [query, key, value] = [query, key, value].map(|tensor| tensor.as_ptr().cast());
    // SAFETY: the pointers are live `at::Tensor`s for the length of the call, which makes four.
    let [output, logsumexp, seed, offset] = unsafe {
        shim::new_tensors("cudnn_attention_forward", |outputs| {
            shim::torch_ext_cudnn_attention_forward(outputs, query, key, value, scale)
        })?
    };
    Ok(Forward { output, logsumexp, seed, offset })
}

/// Gradients of query, key and value from the gradient of the output `[b, h, t, k]`.
///
/// # Errors
/// [`Error::Torch`] with libtorch's message.
pub fn backward(
    gradient: &Tensor,
    (query, key, value): (&Tensor, &Tensor, &Tensor),
    saved: &Forward,
    scale: f64,
) -> Result<(Tensor, Tensor, Tensor), Error> {
    let torch = |error: tch::TchError| Error::Torch {
        operation: "cudnn_attention_backward",
        message: error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    let (_, _, length, _) = query.size4().map_err(torch)?;
    let none = Tensor::new();
    Tensor::f_internal_scaled_dot_product_cudnn_attention_backward(
        gradient,
        query,
        key,
        value,
        &saved.output,
        &saved.logsumexp,
        &saved.seed,
        &saved.offset,
        &none, // bias
        &none, // rows' ends
        &none,
        length,
        length,
        0.0,
        true,
        scale,
    )
    .map_err(torch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_device_without_the_kernel_is_an_error_not_a_crash() {
        let tensor = Tensor::zeros([1, 2, 4, 64], (Kind::BFloat16, Device::Cpu));
        let message = forward(&tensor, &tensor, &tensor, 1.0).unwrap_err().to_string();
        assert!(message.starts_with("cudnn_attention_forward: ") && !message.contains('\n'), "{message}");
        let saved = Forward {
            output: tensor.copy(),
            logsumexp: tensor.copy(),
            seed: Tensor::from(0i64),
            offset: Tensor::from(0i64),
        };
        let message = backward(&tensor, (&tensor, &tensor, &tensor), &saved, 1.0).unwrap_err().to_string();
        assert!(message.starts_with("cudnn_attention_backward: ") && !message.contains('\n'), "{message}");
    }
}
