//! cuDNN's attention, for batches whose rows have the same length: all rows in one call.

use super::{Gradients, Inputs, group_view};
use crate::Error;
use crate::row_layout::RowGroup;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Device, Kind, Tensor};
use torch_ext::AttentionInputs;

/// Shorter rows are left to the variable-length kernel. cuDNN's was measured for 1024 and 4096
/// tokens.
const SHORTEST: i64 = 512;

/// Set when a call has failed. cuDNN is not called again then.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// What the backward needs in addition to its inputs.
#[derive(Debug)]
pub struct Saved {
    rows: RowGroup,
    forward: torch_ext::cudnn::Forward,
}

/// Whether cuDNN is used for heads of this type, size and number, and rows of this length. Query
/// heads may share key heads: libtorch hands such tensors to cuDNN as they are.
pub(crate) fn takes(device: Device, compute: Kind, head_dim: i64, [heads, key_heads]: [i64; 2], length: i64) -> bool {
    device.is_cuda()
        && matches!(compute, Kind::BFloat16 | Kind::Half)
        && matches!(head_dim, 64 | 96 | 128 | 256)
        && heads % key_heads == 0
        && length >= SHORTEST
        && !REFUSED.load(Ordering::Relaxed)
}

/// The output, `[n, h, k]`. `None` if rows differ in length or are longer than the window, and if
/// cuDNN cannot compute this. libtorch's call of cuDNN knows no window and no cap.
pub(super) fn forward(inputs: Inputs<'_>) -> Result<Option<(Tensor, Saved)>, Error> {
    let Inputs { query, key, value, rows, scores } = inputs;
    let ((_, h, k), (_, g, _)) = (query.size3()?, key.size3()?);
    let (device, kind) = (query.device(), query.f_kind()?);
    let fits = |rows: &RowGroup| {
        takes(device, kind, k, [h, g], rows.length)
            && scores.window_within(rows.length).is_none()
            && scores.soft_cap.is_none()
    };
    let Some(rows) = rows.as_one_group().filter(fits) else {
        return Ok(None);
    };
    let view = |tensor| group_view(tensor, &rows);
    let inputs = AttentionInputs { query: &view(query)?, key: &view(key)?, value: &view(value)? };
    match torch_ext::cudnn::forward(inputs, scores.scale) {
        Ok(forward) => Ok(Some((flat(&forward.output)?, Saved { rows, forward }))),
        // Fewer rows may fit, so this does not rule out cuDNN.
        Err(error) if torch_ext::AllocationFailure::recognise(&error.to_string()).is_some() => Err(error.into()),
        Err(error) => {
            REFUSED.store(true, Ordering::Relaxed);
            tracing::warn!(%error, "cuDNN's attention cannot be used, so libtorch's slower one is: {error}");
            Ok(None)
        }
    }
}

pub(super) fn backward(
    d_output: &Tensor,
    Inputs { query, key, value, .. }: Inputs<'_>,
    Saved { rows, forward }: &Saved,
) -> Result<Gradients, Error> {
    let view = |tensor| group_view(tensor, rows);
    let inputs = AttentionInputs { query: &view(query)?, key: &view(key)?, value: &view(value)? };
    let (query, key, value) = torch_ext::cudnn::backward(&view(d_output)?, inputs, forward)?;
    Ok(Gradients { query: flat(&query)?, key: flat(&key)?, value: flat(&value)? })
}

/// `[b, h, t, k]` → `[n, h, k]`. This is a view if the heads of a token lie side by side in memory.
fn flat(tensor: &Tensor) -> Result<Tensor, Error> {
    let (b, h, t, k) = tensor.size4()?;
    Ok(tensor.f_transpose(1, 2)?.f_reshape([b * t, h, k])?)
}
