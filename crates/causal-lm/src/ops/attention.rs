//! Causal attention within each row: softmax(q kᵀ · scale) v, where `h / g` query heads share one
//! key and value head (arXiv 2305.13245).
//!
//! A token may see only a window of the latest tokens ([`Scores::window`], arXiv 2004.05150), and
//! scores may be capped ([`Scores::soft_cap`], arXiv 2408.00118).
//!
//! Shapes: `n` tokens of all rows, `h` query heads, `g` key and value heads, `k` head size; `b`
//! rows of one group, `t` tokens of each of them.

pub(crate) mod cudnn;
mod eager;
mod flash_cpu;
mod spans;

use super::three_dimensions;
use crate::{Error, RowLayout};
use serde::{Deserialize, Serialize};
use serde_plain::{derive_display_from_serialize, derive_fromstr_from_deserialize};
use std::num::NonZeroUsize;
use tch::{Device, Kind, Tensor};
use torch_ext::AttentionInputs;

/// How attention is computed, by the names of transformers' `attn_implementation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionKind {
    /// `flash_attention_2`: flash attention (arXiv 2205.14135), whose memory is linear in the
    /// length, by the fastest kernel available.
    ///
    /// That is cuDNN's kernel on CUDA in 16 bits, if all rows of a batch have the same length of
    /// 512 or more that does not pass the layer's window, heads have size 64 or 128, and batches
    /// with the same number and length of rows have come twice before. Otherwise it is the kernel
    /// of [`AttentionKind::Sdpa`].
    #[default]
    #[serde(rename = "flash_attention_2")]
    Flash,
    /// `sdpa`: flash attention by libtorch's own kernels, on CUDA in 16 bits the variable-length
    /// one, on the CPU the blocked one. There is no such kernel for capped scores, and on CUDA for
    /// float32 and for head sizes that are not a multiple of 8: those run as
    /// [`AttentionKind::Eager`].
    Sdpa,
    /// `eager`: the formula as written, with the whole `[t, t]` matrix of a group of rows in
    /// memory. With a window or capped scores it is computed for a few hundred queries at a time.
    Eager,
}

derive_display_from_serialize!(AttentionKind);
derive_fromstr_from_deserialize!(AttentionKind);

impl AttentionKind {
    pub(crate) fn without_cudnn(self) -> Self {
        match self {
            AttentionKind::Flash => AttentionKind::Sdpa,
            other => other,
        }
    }
}

/// What attention is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `[n, h, k]`.
    pub query: &'a Tensor,
    /// `[n, g, k]`.
    pub key: &'a Tensor,
    /// `[n, g, k]`.
    pub value: &'a Tensor,
    /// Each token sees itself and the earlier tokens of its row.
    pub rows: &'a RowLayout,
    /// How scores are computed, and which of them count.
    pub scores: Scores,
}

/// How scores are computed from products of queries and keys, and which of them count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// What products are multiplied with, usually 1 / √k.
    pub scale: f64,
    /// How many tokens a token sees, itself included. `None`: all up to itself.
    pub window: Option<NonZeroUsize>,
    /// c: a scaled product s becomes c · tanh(s / c). `None`: it stays as it is.
    pub soft_cap: Option<f64>,
}

impl Scores {
    /// All earlier tokens count, and scores are only scaled.
    pub fn scaled(scale: f64) -> Self {
        Self { scale, window: None, soft_cap: None }
    }

    /// The window, if rows of this length are longer.
    fn window_within(&self, length: i64) -> Option<i64> {
        let window = i64::try_from(self.window?.get()).ok()?;
        (window < length).then_some(window)
    }
}

/// The gradients of query, key and value, in their shapes.
#[derive(Debug)]
pub struct Gradients {
    /// `[n, h, k]`.
    pub query: Tensor,
    /// `[n, g, k]`.
    pub key: Tensor,
    /// `[n, g, k]`.
    pub value: Tensor,
}

/// What the backward needs in addition to its inputs.
#[derive(Debug)]
pub enum Saved {
    /// Output and log-sum-exp of each call.
    FlashCpu(Vec<flash_cpu::Call>),
    /// What the variable-length kernel saved.
    FlashCuda(torch_ext::flash::Forward),
    /// What cuDNN's kernel saved.
    Cudnn(cudnn::Saved),
    /// Nothing: the probabilities are computed again.
    Eager,
}

/// The output, `[n, h, k]`, and what the backward needs.
///
/// This function does not count how often rows of a length have come. With
/// [`AttentionKind::Flash`], rows that cuDNN's kernel takes go to it.
///
/// # Errors
/// [`Error::Shape`] when the tensors do not fit each other or `rows`; [`Error::Torch`] and
/// [`Error::TorchExt`] from libtorch.
pub fn forward(kind: AttentionKind, inputs: Inputs<'_>) -> Result<(Tensor, Saved), Error> {
    let Inputs { query, key, value, rows, scores } = inputs;
    check_shapes(query, key, rows)?;
    let (_, _, k) = three_dimensions("attention", query)?;
    if kind == AttentionKind::Flash
        && let Some((output, saved)) = cudnn::forward(inputs)?
    {
        return Ok((output, Saved::Cudnn(saved)));
    }
    match implementation(kind, scores, (query.device(), query.f_kind()?, k)) {
        Implementation::FlashCpu => {
            let (output, calls) = flash_cpu::forward(inputs)?;
            Ok((output, Saved::FlashCpu(calls)))
        }
        Implementation::FlashCuda => {
            let scores = torch_ext::flash::Scores { scale: scores.scale, window: scores.window };
            let saved = torch_ext::flash::forward(AttentionInputs { query, key, value }, flash_rows(rows), scores)?;
            Ok((saved.output.shallow_clone(), Saved::FlashCuda(saved)))
        }
        Implementation::Eager => Ok((eager::forward(inputs)?, Saved::Eager)),
    }
}

/// The gradients of the inputs, from `d_output`, that of the output, `[n, h, k]`.
///
/// # Errors
/// As [`forward`].
pub fn backward(d_output: &Tensor, inputs: Inputs<'_>, saved: &Saved) -> Result<Gradients, Error> {
    match saved {
        Saved::FlashCpu(calls) => flash_cpu::backward(d_output, inputs, calls),
        Saved::FlashCuda(saved) => {
            let Inputs { query, key, value, rows, .. } = inputs;
            let (query, key, value) =
                torch_ext::flash::backward(d_output, AttentionInputs { query, key, value }, flash_rows(rows), saved)?;
            Ok(Gradients { query, key, value })
        }
        Saved::Cudnn(saved) => cudnn::backward(d_output, inputs, saved),
        Saved::Eager => eager::backward(d_output, inputs),
    }
}

enum Implementation {
    FlashCpu,
    FlashCuda,
    Eager,
}

fn implementation(
    kind: AttentionKind,
    scores: Scores,
    (device, compute, head_dim): (Device, Kind, i64),
) -> Implementation {
    let takes_kernel = matches!(compute, Kind::BFloat16 | Kind::Half) && head_dim % 8 == 0;
    match kind {
        AttentionKind::Eager => Implementation::Eager,
        AttentionKind::Flash | AttentionKind::Sdpa if scores.soft_cap.is_some() => Implementation::Eager,
        AttentionKind::Flash | AttentionKind::Sdpa if !device.is_cuda() => Implementation::FlashCpu,
        AttentionKind::Flash | AttentionKind::Sdpa if takes_kernel => Implementation::FlashCuda,
        AttentionKind::Flash | AttentionKind::Sdpa => Implementation::Eager,
    }
}

/// Whether the rows' lengths are only read on the device, so that a recorded call can be used for
/// other rows. With cuDNN these must have the same number and length.
pub(crate) fn reads_rows_on_device(kind: AttentionKind, scores: Scores, of: (Device, Kind, i64)) -> bool {
    matches!(implementation(kind, scores, of), Implementation::FlashCuda)
}

fn flash_rows(rows: &RowLayout) -> torch_ext::flash::PackedRows<'_> {
    torch_ext::flash::PackedRows { cumulative_lengths: &rows.cumulative_lengths, longest: rows.longest_bound }
}

fn check_shapes(query: &Tensor, key: &Tensor, rows: &RowLayout) -> Result<(), Error> {
    let (n, h, k) = three_dimensions("attention", query)?;
    let (key_n, g, key_k) = three_dimensions("attention", key)?;
    if n != rows.num_tokens() || (key_n, key_k) != (n, k) || g == 0 || h % g != 0 {
        return Err(Error::Shape {
            operation: "attention",
            expected: format!("{} tokens, and query heads a multiple of key heads", rows.num_tokens()),
            found: format!("query [{n}, {h}, {k}], key [{key_n}, {g}, {key_k}]"),
        });
    }
    Ok(())
}

/// The rows of a group as one batch: `[n, heads, k]` → `[b, heads, t, k]`, a view.
fn group_view(tensor: &Tensor, group: &crate::row_layout::RowGroup) -> Result<Tensor, Error> {
    let (_, heads, k) = three_dimensions("attention", tensor)?;
    let rows = tensor.f_narrow(0, group.start, group.num_rows * group.length)?;
    Ok(rows.f_view([group.num_rows, group.length, heads, k])?.f_transpose(1, 2)?)
}

/// Repeats each key or value head for the query heads that share it:
/// `[b, g, t, k]` → `[b, h, t, k]`.
fn repeat_heads(tensor: &Tensor, h: i64) -> Result<Tensor, Error> {
    let (b, g, t, k) = tensor.size4()?;
    if g == h {
        return Ok(tensor.shallow_clone());
    }
    Ok(tensor.f_unsqueeze(2)?.f_expand([b, g, h / g, t, k], false)?.f_reshape([b, h, t, k])?)
}

/// The transpose of [`repeat_heads`]: sums over the query heads that share a key or value head,
/// `[b, h, t, k]` → `[b, g, t, k]`.
fn sum_heads(gradient: &Tensor, g: i64) -> Result<Tensor, Error> {
    let (b, h, t, k) = gradient.size4()?;
    if g == h {
        return Ok(gradient.shallow_clone());
    }
    Ok(gradient.f_reshape([b, g, h / g, t, k])?.f_sum_dim_intlist(2, false, None)?)
}

#[cfg(test)]
mod tests;
