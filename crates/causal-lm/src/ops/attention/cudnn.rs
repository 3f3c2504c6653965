//! cuDNN's attention: all rows of a batch in one call, where they are of one length.

use super::group_view;
use crate::rows::RowGroup;
use crate::{Error, Rows};
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Device, Kind, Tensor};

/// Shorter rows are left to the variable-length kernel: what was measured is 1024 and 4096.
const SHORTEST: i64 = 512;

/// Set when a call has failed: there will be no more.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// What the backward needs.
#[derive(Debug)]
pub struct Saved {
    rows: RowGroup,
    forward: torch_ext::cudnn::Forward,
}

/// Whether cuDNN is to be asked for heads of this type and size, with rows of this length.
pub(crate) fn takes(device: Device, compute: Kind, head_dim: i64, [heads, key_heads]: [i64; 2], length: i64) -> bool {
    device.is_cuda()
        && matches!(compute, Kind::BFloat16 | Kind::Half)
        && matches!(head_dim, 64 | 128)
        && heads == key_heads
        && length >= SHORTEST
        && !REFUSED.load(Ordering::Relaxed)
}

/// Output `[n, h, k]`. None where rows differ in length, and where cuDNN turns out not to take
/// them.
pub(super) fn forward(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    rows: &Rows,
    scale: f64,
) -> Result<Option<(Tensor, Saved)>, Error> {
    let ((_, h, k), (_, g, _)) = (query.size3()?, key.size3()?);
    let (device, kind) = (query.device(), query.f_kind()?);
    let Some(rows) = rows.of_one_length().filter(|rows| takes(device, kind, k, [h, g], rows.length)) else {
        return Ok(None);
    };
    let view = |tensor| group_view(tensor, &rows);
    match torch_ext::cudnn::forward(&view(query)?, &view(key)?, &view(value)?, scale) {
        Ok(forward) => Ok(Some((flat(&forward.output)?, Saved { rows, forward }))),
        // What cannot be had now may be had for fewer rows.
        Err(error) if torch_ext::OutOfMemory::recognise(&error.to_string()).is_some() => Err(error.into()),
        Err(error) => {
            REFUSED.store(true, Ordering::Relaxed);
            eprintln!("warning: cuDNN's attention cannot be used, and libtorch's is slower: {error}");
            Ok(None)
        }
    }
}

pub(super) fn backward(
    d_output: &Tensor,
    (query, key, value): (&Tensor, &Tensor, &Tensor),
    Saved { rows, forward }: &Saved,
    scale: f64,
) -> Result<(Tensor, Tensor, Tensor), Error> {
    let view = |tensor| group_view(tensor, rows);
    let inputs = (&view(query)?, &view(key)?, &view(value)?);
    let (d_query, d_key, d_value) = torch_ext::cudnn::backward(&view(d_output)?, inputs, forward, scale)?;
    Ok((flat(&d_query)?, flat(&d_key)?, flat(&d_value)?))
}

/// `[b, h, t, k]` → `[n, h, k]`; a view where heads lie inside tokens, as they do in what was
/// given.
fn flat(tensor: &Tensor) -> Result<Tensor, Error> {
    let (b, h, t, k) = tensor.size4()?;
    Ok(tensor.f_transpose(1, 2)?.f_reshape([b * t, h, k])?)
}
