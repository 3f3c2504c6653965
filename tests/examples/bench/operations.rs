//! Measures the operations of the model, forward and backward, next to the same written with
//! libtorch's operations and autograd.
//!
//! The shapes are those of SmolLM2-135M with 4 rows of 256 tokens. The vocabulary is a sixth of
//! that of SmolLM2-135M.

use crate::table::{TIME, Work, check_close, head, line};
use anyhow::{Context, Result};
use causal_lm::ops::{attention, cross_entropy, embedding, linear, rms_norm, rope, swiglu};
use causal_lm::{AttentionKind, RowLayout};
use std::path::Path;
use tch::{Device, Kind, Reduction, Tensor};
use whole_program_tests::measure::Variant;

const ROWS: usize = 4;
const LENGTH: usize = 256;
/// Tokens.
const N: i64 = (ROWS * LENGTH) as i64;
/// Hidden size.
const D: i64 = 576;
/// Intermediate size of the MLP.
const F: i64 = 1536;
/// Query heads, heads of keys and values, head size.
const H: i64 = 9;
const G: i64 = 3;
const K: i64 = 64;
/// Vocabulary size.
const V: i64 = 8192;
const EPSILON: f64 = 1e-5;
/// Both sides compute in float32, with sums of up to 8192 terms in different orders.
const TOLERANCE: f64 = 2e-5;

/// The output, and the gradients of the inputs.
type Outcome = Vec<Tensor>;

/// Computes the output from the inputs.
type Plain<'a> = dyn Fn(&[Tensor]) -> Result<Tensor> + 'a;

/// An operation in two implementations: ours, and a plain one with autograd.
struct Operation<'a> {
    name: &'static str,
    work: Work,
    ours: Box<dyn FnMut() -> Result<Outcome> + 'a>,
    inputs: Vec<&'a Tensor>,
    dy: &'a Tensor,
    plain: Box<Plain<'a>>,
}

pub fn run(_: &Path) -> Result<()> {
    tch::manual_seed(0);
    head(&format!("operations, forward and backward: {N} tokens, width {D}, {F} in the MLP, {H} and {G} heads of {K}"));
    let random = |shape: &[i64]| Tensor::f_randn(shape, (Kind::Float, Device::Cpu));
    let (x, dx, weight) = (random(&[N, D])?, random(&[N, D])?, random(&[D])?);
    let (matrix, wide) = ((random(&[F, D])? * 0.02), random(&[N, F])?);
    let gate_up = random(&[N, 2 * F])?;
    let (query, key, value) = (random(&[N, H, K])?, random(&[N, G, K])?, random(&[N, G, K])?);
    let (d_query, d_key, d_value) = (random(&[N, H, K])?, random(&[N, G, K])?, random(&[N, G, K])?);
    let packed = Tensor::f_cat(&[&query, &key, &value], 1)?;
    let d_packed = Tensor::f_cat(&[&d_query, &d_key, &d_value], 1)?;
    let rows = RowLayout::new(&[LENGTH; ROWS], Device::Cpu)?;
    let rotations = {
        let positions = Tensor::f_arange(LENGTH as i64, (Kind::Float, Device::Cpu))?.f_repeat([ROWS as i64])?;
        let exponents = Tensor::f_arange(K / 2, (Kind::Float, Device::Cpu))? * (-2.0 / K as f64);
        (
            rope::Rotations::new(
                rope::Angles { positions: &positions, inverse_frequencies: &exponents.exp2(), factor: 1.0 },
                Kind::Float,
            )?,
            positions.f_outer(&exponents.exp2())?,
        )
    };
    let (table, ids) = (random(&[V, D])? * 0.02, Tensor::f_randint(V, [N], (Kind::Int64, Device::Cpu))?);
    let one = Tensor::f_ones([0i64; 0], (Kind::Double, Device::Cpu))?;
    let (n, d, f, h, g, k, v) = (N as f64, D as f64, F as f64, H as f64, G as f64, K as f64, V as f64);

    compare(Operation {
        name: "RMSNorm",
        work: Work::bytes(4.0 * 5.0 * n * d),
        ours: Box::new(|| {
            let (y, reciprocal) = rms_norm::forward(&x, &weight, EPSILON)?;
            let mut gradient = weight.f_zeros_like()?;
            let saved = rms_norm::Saved { x: &x, weight: &weight, reciprocal_rms: &reciprocal };
            Ok(vec![y, rms_norm::backward(&dx, saved, None, &mut gradient)?, gradient])
        }),
        inputs: vec![&x, &weight],
        dy: &dx,
        plain: Box::new(|leaves| {
            let mean = leaves[0].f_square()?.f_mean_dim(1, true, Kind::Float)?;
            Ok(leaves[0].f_mul(&(mean + EPSILON).f_rsqrt()?)?.f_mul(&leaves[1])?)
        }),
    })?;
    compare(Operation {
        name: "RoPE of q and k",
        work: Work::bytes(4.0 * 4.0 * n * (h + 2.0 * g) * k),
        ours: Box::new(|| {
            // The operation works in place, so each run needs a copy.
            let mut y = packed.copy();
            rope::forward(&mut y, H + G, &rotations.0)?;
            Ok(vec![y, rope::backward([&d_query, &d_key, &d_value], &rotations.0)?])
        }),
        inputs: vec![&packed],
        dy: &d_packed,
        plain: Box::new(|leaves| {
            let both = |angles: Tensor| Tensor::f_cat(&[&angles, &angles], 1)?.f_unsqueeze(1);
            let (cos, sin) = (both(rotations.1.f_cos()?)?, both(rotations.1.f_sin()?)?);
            let (x, value) = (leaves[0].f_narrow(1, 0, H + G)?, leaves[0].f_narrow(1, H + G, G)?);
            let halves = x.f_chunk(2, 2)?;
            let turned = Tensor::f_cat(&[&halves[1].f_neg()?, &halves[0]], 2)?;
            Ok(Tensor::f_cat(&[x.f_mul(&cos)?.f_add(&turned.f_mul(&sin)?)?, value], 1)?)
        }),
    })?;
    compare(Operation {
        name: "attention, causal",
        // Half of the scores are masked. Products of the size of the scores: two forward, five
        // backward.
        work: Work::flop(7.0 * n * LENGTH as f64 * h * k),
        ours: Box::new(|| {
            let scale = (K as f64).powf(-0.5);
            let inputs = attention::Inputs {
                query: &query,
                key: &key,
                value: &value,
                rows: &rows,
                scores: attention::Scores::scaled(scale),
            };
            let (y, saved) = attention::forward(AttentionKind::Flash, inputs)?;
            let attention::Gradients { query, key, value } = attention::backward(&d_query, inputs, &saved)?;
            Ok(vec![y, query, key, value])
        }),
        inputs: vec![&query, &key, &value],
        dy: &d_query,
        plain: Box::new(|leaves| {
            let heads = |tensor: &Tensor| -> Result<Tensor> {
                let heads = tensor.size()[1];
                let batch = tensor.f_view([ROWS as i64, LENGTH as i64, heads, K])?.f_transpose(1, 2)?;
                Ok(batch.f_repeat_interleave_self_int(H / heads, Some(1), None)?)
            };
            let (query, key, value) = (heads(&leaves[0])?, heads(&leaves[1])?, heads(&leaves[2])?);
            let scores = query.f_matmul(&key.f_transpose(2, 3)?)?.f_mul_scalar((K as f64).powf(-0.5))?;
            let mask = scores.f_ones_like()?.f_tril(0)?.f_eq(0.0)?;
            let probabilities = scores.f_masked_fill(&mask, f64::NEG_INFINITY)?.f_softmax(-1, Kind::Float)?;
            Ok(probabilities.f_matmul(&value)?.f_transpose(1, 2)?.f_reshape([N, H, K])?)
        }),
    })?;
    compare(Operation {
        name: "linear",
        work: Work::flop(6.0 * n * d * f),
        ours: Box::new(|| {
            let y = linear::forward(&x, &matrix, None)?;
            let mut gradients = linear::Gradients { weight: matrix.f_zeros_like()?, bias: None };
            Ok(vec![
                y,
                linear::backward(&wide, linear::Saved { x: &x, weight: &matrix }, &mut gradients)?,
                gradients.weight,
            ])
        }),
        inputs: vec![&x, &matrix],
        dy: &wide,
        plain: Box::new(|leaves| Ok(leaves[0].f_linear(&leaves[1], None::<&Tensor>)?)),
    })?;
    compare(Operation {
        name: "SwiGLU",
        work: Work::bytes(4.0 * 8.0 * n * f),
        ours: Box::new(|| {
            let y = swiglu::forward(&gate_up)?;
            // The backward pass reuses the memory of the gradient, so it needs a copy.
            Ok(vec![y, swiglu::backward(wide.copy(), &gate_up)?.0])
        }),
        inputs: vec![&gate_up],
        dy: &wide,
        plain: Box::new(|leaves| Ok(leaves[0].f_narrow(1, 0, F)?.f_silu()?.f_mul(&leaves[0].f_narrow(1, F, F)?)?)),
    })?;
    compare(Operation {
        name: "embedding",
        work: Work::bytes(4.0 * (5.0 * n * d + v * d)),
        ours: Box::new(|| {
            let mut gradient = table.f_zeros_like()?;
            embedding::backward(&dx, &ids, None, &mut gradient)?;
            Ok(vec![embedding::forward(&table, &ids, Kind::Float)?, gradient])
        }),
        inputs: vec![&table],
        dy: &dx,
        plain: Box::new(|leaves| Ok(Tensor::f_embedding(&leaves[0], &ids, -1, false, false)?)),
    })?;
    compare(Operation {
        name: "head and cross-entropy",
        work: Work::flop(6.0 * n * d * v),
        ours: Box::new(|| {
            let mut gradient = table.f_zeros_like()?;
            let (sums, dx) = {
                let inputs = cross_entropy::Inputs { x: &x, weight: &table, targets: &ids, chunk_tokens: 256 };
                cross_entropy::forward_backward(inputs, &one, &mut gradient)?
            };
            Ok(vec![sums.loss, dx, gradient])
        }),
        inputs: vec![&x, &table],
        dy: &one,
        plain: Box::new(|leaves| {
            let logits = leaves[0].f_linear(&leaves[1], None::<&Tensor>)?;
            Ok(logits
                .f_cross_entropy_loss(&ids, None::<&Tensor>, Reduction::Sum, -100, 0.0)?
                .f_to_kind(Kind::Double)?)
        }),
    })
}

/// Checks that both give the same outcome, then times them.
fn compare(operation: Operation) -> Result<()> {
    let Operation { name, work, mut ours, inputs, dy, plain } = operation;
    let by_autograd = || -> Result<Outcome> {
        let leaf = |input: &&Tensor| Ok(input.f_detach()?.f_set_requires_grad(true)?);
        let leaves = inputs.iter().map(leaf).collect::<Result<Vec<Tensor>>>()?;
        let y = plain(&leaves)?;
        y.f_mul(dy)?.f_sum(Kind::Double)?.f_backward()?;
        let gradients = leaves.iter().map(Tensor::grad);
        Ok(std::iter::once(y.f_detach()?).chain(gradients).collect())
    };
    let (found, expected) = (ours().context(name)?, by_autograd().context(name)?);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let what = if index == 0 { format!("{name}: output") } else { format!("{name}: gradient {index}") };
        check_close(&what, found, expected, TOLERANCE)?;
    }
    line(name, work, vec![Variant::new("autograd", by_autograd), Variant::new("here", ours)], TIME)
}
