//! The head and its cross-entropy together, for a chunk of tokens at a time, so that the `[m, v]`
//! logits never exist as a whole.
//!
//! With p = softmax(x Wᵀ): loss = −log p(target), and d loss / d logits = p − onehot(target). The
//! gradient overwrites the probabilities, so a chunk takes the memory of its logits only once. The
//! idea is that of Liger's fused linear cross-entropy (arXiv 2410.10989).
//!
//! Shapes: `m` tokens, `d` hidden, `v` vocabulary.

use super::{accumulate_product, matrix_shape, wide_kind};
use crate::Error;
use tch::{Kind, Tensor};
use torch_ext::kernels;
use torch_ext::kernels::cross_entropy::Logits;

/// What losses are computed from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `[m, d]`.
    pub x: &'a Tensor,
    /// `[v, d]`.
    pub weight: &'a Tensor,
    /// int64 `[m]`. A token with a negative target has none.
    pub targets: &'a Tensor,
    /// How many tokens are computed at a time; at least 1.
    pub chunk_tokens: i64,
}

/// Sums over all targets, on the device.
#[derive(Debug)]
pub struct Sums {
    /// Sum of the losses, a scalar in float64.
    pub loss: Tensor,
    /// Number of targets whose logit is the highest, an int64 scalar.
    pub correct: Tensor,
}

/// The sums, without gradients.
///
/// # Errors
/// [`Error::Shape`] for matrices that do not fit, [`Error::Torch`] from libtorch.
pub fn forward(inputs: Inputs<'_>) -> Result<Sums, Error> {
    let mut sums = None;
    for chunk in chunks(inputs)? {
        let mut logits = chunk.x.f_linear(inputs.weight, None::<&Tensor>)?;
        let chunk_sums = match fused(&mut logits, &chunk.targets, Logits::Keep)? {
            Some(sums) => sums,
            None => log_probabilities(logits, &chunk.targets)?.1,
        };
        add(&mut sums, chunk_sums)?;
    }
    sums_or_zero(sums, inputs.x)
}

/// As [`forward`]. Also returns the gradient of `scale` · (sum of losses) with respect to x,
/// `[m, d]`, and adds that with respect to the weight to `weight_gradient`, `[v, d]`. `scale` is a
/// float64 scalar on the device of x.
///
/// # Errors
/// As [`forward`].
pub fn forward_backward(
    inputs: Inputs<'_>,
    scale: &Tensor,
    weight_gradient: &mut Tensor,
) -> Result<(Sums, Tensor), Error> {
    let Inputs { x, weight, .. } = inputs;
    let dx = x.f_empty_like()?;
    let mut sums = None;
    for chunk in chunks(inputs)? {
        let mut logits = chunk.x.f_linear(weight, None::<&Tensor>)?;
        let (chunk_sums, d_logits) = match fused(&mut logits, &chunk.targets, Logits::Gradient { scale })? {
            Some(sums) => (sums, logits),
            None => plain(logits, &chunk.targets, scale)?,
        };
        add(&mut sums, chunk_sums)?;
        let _ = d_logits.f_mm_out(&dx.f_narrow(0, chunk.start, chunk.length)?, weight)?;
        accumulate_product(weight_gradient, &d_logits.f_tr()?, &chunk.x)?;
    }
    Ok((sums_or_zero(sums, x)?, dx))
}

struct Chunk {
    start: i64,
    length: i64,
    x: Tensor,
    targets: Tensor,
}

fn chunks(Inputs { x, targets, chunk_tokens, .. }: Inputs<'_>) -> Result<Vec<Chunk>, Error> {
    let (m, _) = matrix_shape("cross_entropy", x)?;
    if targets.size() != [m] || chunk_tokens < 1 {
        let expected = format!("{m} targets and a chunk of 1 token or more");
        return Err(Error::Shape {
            operation: "cross_entropy",
            expected,
            found: format!("targets {:?}, chunk {chunk_tokens}", targets.size()),
        });
    }
    let chunk_tokens = even_chunk(m, chunk_tokens);
    let step = usize::try_from(chunk_tokens).unwrap_or(usize::MAX);
    (0..m)
        .step_by(step)
        .map(|start| {
            let length = chunk_tokens.min(m - start);
            Ok(Chunk { start, length, x: x.f_narrow(0, start, length)?, targets: targets.f_narrow(0, start, length)? })
        })
        .collect()
}

/// The tokens of a chunk, at most `at_most`, so that no chunk is much smaller than the others:
/// matrix products are slower for odd sizes and for small ones.
fn even_chunk(m: i64, at_most: i64) -> i64 {
    const MULTIPLE: i64 = 128;
    let at_most = if at_most < MULTIPLE { at_most } else { at_most / MULTIPLE * MULTIPLE };
    let chunks = ceiling_division(m, at_most).max(1);
    let even = ceiling_division(ceiling_division(m, chunks), MULTIPLE) * MULTIPLE;
    even.clamp(1, at_most)
}

fn ceiling_division(a: i64, b: i64) -> i64 {
    a / b + i64::from(a % b != 0)
}

/// Runs one kernel over the logits `[chunk, v]`, if there is one for them.
fn fused(logits: &mut Tensor, targets: &Tensor, what: Logits<'_>) -> Result<Option<Sums>, Error> {
    if !kernels::available(&[logits]) {
        return Ok(None);
    }
    let rows = kernels::cross_entropy::forward_backward(logits, targets, what)?;
    Ok(Some(Sums { loss: rows.losses.f_sum(Kind::Double)?, correct: rows.correct.f_sum(Kind::Int64)? }))
}

/// Sums, and the gradient of `scale` · loss with respect to the logits, in the logits' type.
fn plain(logits: Tensor, targets: &Tensor, scale: &Tensor) -> Result<(Sums, Tensor), Error> {
    let kind = logits.f_kind()?;
    let (mut log_probabilities, sums) = log_probabilities(logits, targets)?;
    let wide = log_probabilities.f_kind()?;
    let index = targets.f_clamp_min(0)?.f_unsqueeze(1)?;
    let minus_one = Tensor::f_full_like(&index, -1.0)?.f_to_kind(wide)?;
    let scales = targets.f_ge(0)?.f_to_kind(wide)?.f_mul(scale)?.f_unsqueeze(1)?; // 0 for tokens without a target
    let d_logits = log_probabilities.f_exp_()?.f_scatter_add_(1, &index, &minus_one)?.f_mul_(&scales)?;
    Ok((sums, d_logits.f_to_kind(kind)?))
}

/// log softmax of the logits `[chunk, v]`, in float32 or wider, and the sums that follow from it.
fn log_probabilities(logits: Tensor, targets: &Tensor) -> Result<(Tensor, Sums), Error> {
    let wide = wide_kind(logits.f_kind()?);
    let log_probabilities = logits.f_log_softmax(1, wide)?;
    drop(logits);
    let none = targets.f_lt(0)?.f_unsqueeze(1)?;
    let of_target = log_probabilities.f_gather(1, &targets.f_clamp_min(0)?.f_unsqueeze(1)?, false)?; // [chunk, 1]
    let of_target = of_target.f_masked_fill(&none, 0.0)?;
    let highest = log_probabilities.f_amax(1, true)?.f_masked_fill(&none, 1.0)?; // log probabilities are below 1
    let sums = Sums {
        loss: of_target.f_sum(Kind::Double)?.f_neg()?,
        correct: of_target.f_ge_tensor(&highest)?.f_sum(Kind::Int64)?,
    };
    Ok((log_probabilities, sums))
}

fn add(total: &mut Option<Sums>, chunk: Sums) -> Result<(), Error> {
    match total {
        None => *total = Some(chunk),
        Some(total) => {
            let _ = total.loss.f_add_(&chunk.loss)?;
            let _ = total.correct.f_add_(&chunk.correct)?;
        }
    }
    Ok(())
}

fn sums_or_zero(sums: Option<Sums>, x: &Tensor) -> Result<Sums, Error> {
    match sums {
        Some(sums) => Ok(sums),
        None => Ok(Sums {
            loss: Tensor::f_zeros([0i64; 0], (Kind::Double, x.device()))?,
            correct: Tensor::f_zeros([0i64; 0], (Kind::Int64, x.device()))?,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, assert_close, device, each_precision, random};
    use tch::Device;

    #[test]
    fn equals_autograd_in_chunks_of_any_size() {
        for (m, d, v, chunk) in [(1, 2, 3, 1), (7, 5, 11, 3), (8, 4, 30, 100)] {
            each_precision(|kind| {
                let (x, weight) = (random(&[m, d], kind), random(&[v, d], kind));
                // Every third token has no target.
                let target = |i| if i % 3 == 2 { -100 } else { (i * 5) % v };
                let targets = Tensor::from_slice(&(0..m).map(target).collect::<Vec<i64>>()).to_device(device());
                let scale = Tensor::from(0.25f64).to_device(device());
                let reference = |t: &[Tensor]| {
                    t[0].matmul(&t[1].tr()).cross_entropy_loss(&targets, None::<Tensor>, tch::Reduction::Sum, -100, 0.0)
                };
                let mut check = Check::of(&[&x, &weight], &scale, reference);
                let mut gradient = weight.zeros_like();
                let inputs = Inputs { x: &x, weight: &weight, targets: &targets, chunk_tokens: chunk };
                let (sums, dx) = forward_backward(inputs, &scale, &mut gradient).unwrap();
                check.forward(&sums.loss);
                check.gradient(0, &dx);
                check.gradient(1, &gradient);
                let alone = forward(inputs).unwrap();
                assert_close(&alone.loss, &sums.loss, Kind::Double, "loss without gradient");
                let highest = x.to_kind(Kind::Double).matmul(&weight.to_kind(Kind::Double).tr()).argmax(1, false);
                let correct = highest.eq_tensor(&targets).sum(Kind::Int64).int64_value(&[]);
                if kind != Kind::BFloat16 {
                    assert_eq!(alone.correct.int64_value(&[]), correct);
                }
            });
        }
    }

    #[test]
    fn no_targets_give_zero_and_shapes_that_do_not_fit_are_refused() {
        let empty = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
        let weight = Tensor::zeros([3, 4], (Kind::Float, Device::Cpu));
        let targets = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
        let inputs = Inputs { x: &empty, weight: &weight, targets: &targets, chunk_tokens: 8 };
        assert_eq!(forward(inputs).unwrap().loss.double_value(&[]), 0.0);
        assert!(forward(Inputs { x: &weight, ..inputs }).unwrap_err().to_string().contains("3 targets"));
        assert!(forward(Inputs { chunk_tokens: 0, ..inputs }).is_err());
    }
}
