//! cuDNN's causal attention over rows of one length, for CUDA in bfloat16 and float16. It is faster
//! than [`crate::flash`], but makes a plan for each shape, which takes the host tens of
//! milliseconds. tch's generated bindings leave its forward out.
//!
//! Shapes: `b` rows, `h` heads, `t` tokens in a row, `k` head size. The last dimension must be
//! contiguous; the other strides are free.

use crate::{AttentionInputs, Error, shim};
use tch::Tensor;

/// The result of [`forward`], which [`backward`] needs.
#[derive(Debug)]
pub struct Forward {
    /// The output `[b, h, t, k]`, with strides in the order of the query's.
    pub output: Tensor,
    logsumexp: Tensor,
    seed: Tensor,
    offset: Tensor,
    scale: f64,
}

/// Causal attention within each row, of query, key and value `[b, h, t, k]`. `scale` is the factor
/// on the scores.
///
/// # Errors
/// [`Error::Torch`] with libtorch's message, for example on the CPU, in float32, or where cuDNN has
/// no plan for the shape.
pub fn forward(inputs: AttentionInputs<'_>, scale: f64) -> Result<Forward, Error> {
    let [query, key, value] = [inputs.query, inputs.key, inputs.value].map(|tensor| tensor.as_ptr().cast());
    // SAFETY: the pointers are live `at::Tensor`s for the length of the call, which makes four
    // tensors.
    let [output, logsumexp, seed, offset] = unsafe {
        shim::new_tensors("cudnn_attention_forward", |outputs| {
            shim::torch_ext_cudnn_attention_forward(outputs, query, key, value, scale)
        })?
    };
    Ok(Forward { output, logsumexp, seed, offset, scale })
}

/// Gradients of query, key and value from the gradient of the output `[b, h, t, k]`. The inputs are
/// those of the forward.
///
/// # Errors
/// [`Error::Torch`] with libtorch's message.
pub fn backward(
    gradient: &Tensor,
    inputs: AttentionInputs<'_>,
    saved: &Forward,
) -> Result<(Tensor, Tensor, Tensor), Error> {
    let AttentionInputs { query, key, value } = inputs;
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
        &none, // cumulative lengths of queries and keys
        &none,
        length,
        length,
        0.0,
        true,
        saved.scale,
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
        let inputs = AttentionInputs { query: &tensor, key: &tensor, value: &tensor };
        let message = forward(inputs, 1.0).unwrap_err().to_string();
        assert!(message.starts_with("cudnn_attention_forward: ") && !message.contains('\n'), "{message}");
        let saved = Forward {
            output: tensor.copy(),
            logsumexp: tensor.copy(),
            seed: Tensor::from(0i64),
            offset: Tensor::from(0i64),
            scale: 1.0,
        };
        let message = backward(&tensor, inputs, &saved).unwrap_err().to_string();
        assert!(message.starts_with("cudnn_attention_backward: ") && !message.contains('\n'), "{message}");
    }
}
