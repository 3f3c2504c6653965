//! Causal attention within each row: softmax(q kᵀ · scale) v, for grouped key and value heads
//! (arXiv 2305.13245).

pub(crate) mod cudnn;
mod eager;
mod flash_cpu;

use super::three;
use crate::{Error, Rows};
use tch::{Device, Kind, Tensor};

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttentionKind {
    /// Flash attention (arXiv 2205.14135), memory linear in the length, by the fastest kernel at
    /// hand: as [`AttentionKind::Sdpa`], but cuDNN's on CUDA in 16 bits where all rows of a batch
    /// have one length and as many of them, as long, have come twice before, for heads of 64 or
    /// 128, one key head a query head, and 512 tokens or more a row.
    #[default]
    Flash,
    /// Flash attention by libtorch's own kernels alone: on CUDA in 16 bits the variable-length one,
    /// on the CPU the blocked one. Float32 on CUDA, and head sizes that are no multiple of 8, have
    /// no such kernel and run as [`AttentionKind::Eager`].
    Sdpa,
    /// The formula as it stands, with the whole `[t, t]` matrix of one row group in memory.
    Eager,
}

impl AttentionKind {
    pub(crate) fn without_cudnn(self) -> Self {
        match self {
            AttentionKind::Flash => AttentionKind::Sdpa,
            other => other,
        }
    }
}

/// What the backward needs besides its inputs.
#[derive(Debug)]
pub enum Saved {
    /// Output and log-sum-exp of each row group.
    FlashCpu(Vec<flash_cpu::Group>),
    /// Of the variable-length kernel.
    FlashCuda(torch_ext::flash::Forward),
    /// Of cuDNN's kernel.
    Cudnn(cudnn::Saved),
    /// Nothing: probabilities are computed again.
    Eager,
}

/// query `[n, h, k]`, key and value `[n, g, k]` → `[n, h, k]`. Whether rows repeat is not known
/// here: with [`AttentionKind::Flash`] rows of one length go to cuDNN.
///
/// # Errors
/// [`Error::Shape`] when the tensors do not fit each other or `rows`; [`Error::Torch`] and
/// [`Error::TorchExt`] from libtorch.
pub fn forward(
    kind: AttentionKind,
    (query, key, value): (&Tensor, &Tensor, &Tensor),
    rows: &Rows,
    scale: f64,
) -> Result<(Tensor, Saved), Error> {
    check_shapes(query, key, rows)?;
    let (_, _, k) = three("attention", query)?;
    if kind == AttentionKind::Flash
        && let Some((output, saved)) = cudnn::forward(query, key, value, rows, scale)?
    {
        return Ok((output, Saved::Cudnn(saved)));
    }
    match implementation(kind, query.device(), query.f_kind()?, k) {
        Implementation::FlashCpu => {
            let (output, groups) = flash_cpu::forward(query, key, value, rows, scale)?;
            Ok((output, Saved::FlashCpu(groups)))
        }
        Implementation::FlashCuda => {
            let saved = torch_ext::flash::forward(query, key, value, flash_rows(rows), scale)?;
            Ok((saved.output.shallow_clone(), Saved::FlashCuda(saved)))
        }
        Implementation::Eager => Ok((eager::forward(query, key, value, rows, scale)?, Saved::Eager)),
    }
}

/// Gradients of query, key and value from that of the output, `[n, h, k]`.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    d_output: &Tensor,
    (query, key, value): (&Tensor, &Tensor, &Tensor),
    saved: &Saved,
    rows: &Rows,
    scale: f64,
) -> Result<(Tensor, Tensor, Tensor), Error> {
    match saved {
        Saved::FlashCpu(groups) => flash_cpu::backward(d_output, (query, key, value), groups, scale),
        Saved::FlashCuda(saved) => {
            Ok(torch_ext::flash::backward(d_output, (query, key, value), saved, flash_rows(rows), scale)?)
        }
        Saved::Cudnn(saved) => cudnn::backward(d_output, (query, key, value), saved, scale),
        Saved::Eager => eager::backward(d_output, (query, key, value), rows, scale),
    }
}

enum Implementation {
    FlashCpu,
    FlashCuda,
    Eager,
}

fn implementation(kind: AttentionKind, device: Device, compute: Kind, head_dim: i64) -> Implementation {
    let takes_kernel = matches!(compute, Kind::BFloat16 | Kind::Half) && head_dim % 8 == 0;
    match kind {
        AttentionKind::Eager => Implementation::Eager,
        AttentionKind::Flash | AttentionKind::Sdpa if !device.is_cuda() => Implementation::FlashCpu,
        AttentionKind::Flash | AttentionKind::Sdpa if takes_kernel => Implementation::FlashCuda,
        AttentionKind::Flash | AttentionKind::Sdpa => Implementation::Eager,
    }
}

/// Whether the rows' lengths are read on the device alone, so that a recorded call serves other
/// rows as well; with cuDNN, rows of the same length.
pub(crate) fn reads_rows_on_device(kind: AttentionKind, device: Device, compute: Kind, head_dim: i64) -> bool {
    matches!(implementation(kind, device, compute, head_dim), Implementation::FlashCuda)
}

fn flash_rows(rows: &Rows) -> torch_ext::flash::Rows<'_> {
    torch_ext::flash::Rows { cumulative_lengths: &rows.cumulative_lengths, longest: rows.longest_bound }
}

fn check_shapes(query: &Tensor, key: &Tensor, rows: &Rows) -> Result<(), Error> {
    let (n, h, k) = three("attention", query)?;
    let (key_n, g, key_k) = three("attention", key)?;
    if n != rows.num_tokens() || (key_n, key_k) != (n, k) || g == 0 || h % g != 0 {
        return Err(Error::Shape {
            operation: "attention",
            expected: format!("{} tokens, and query heads a multiple of key heads", rows.num_tokens()),
            found: format!("query [{n}, {h}, {k}], key [{key_n}, {g}, {key_k}]"),
        });
    }
    Ok(())
}

/// The rows of one group as a batch: `[n, heads, k]` → `[b, heads, t, k]`, a view.
fn group_view(tensor: &Tensor, group: &crate::rows::RowGroup) -> Result<Tensor, Error> {
    let (_, heads, k) = three("attention", tensor)?;
    let rows = tensor.f_narrow(0, group.start, group.num_rows * group.length)?;
    Ok(rows.f_view([group.num_rows, group.length, heads, k])?.f_transpose(1, 2)?)
}

/// Repeats each key or value head for the query heads that share it: `[b, g, t, k]` →
/// `[b, h, t, k]`.
fn repeat_heads(tensor: &Tensor, h: i64) -> Result<Tensor, Error> {
    let (b, g, t, k) = tensor.size4()?;
    if g == h {
        return Ok(tensor.shallow_clone());
    }
    Ok(tensor.f_unsqueeze(2)?.f_expand([b, g, h / g, t, k], false)?.f_reshape([b, h, t, k])?)
}

/// The transpose of [`repeat_heads`]: sums over the query heads that share a key or value head.
fn sum_heads(gradient: &Tensor, g: i64) -> Result<Tensor, Error> {
    let (b, h, t, k) = gradient.size4()?;
    if g == h {
        return Ok(gradient.shallow_clone());
    }
    Ok(gradient.f_reshape([b, g, h / g, t, k])?.f_sum_dim_intlist(2, false, None)?)
}

#[cfg(test)]
mod tests;
