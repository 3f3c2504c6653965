//! Softmax cross-entropy that writes its gradient over the logits.

use super::{Argument, Grid, Source, Width, check, driver, element_kind, empty, launch, optional, pointer, torch};
use crate::Error;
use tch::{Device, Kind, Tensor};

const NAME: &str = "cross_entropy";
/// As many as a block can have: where a row fills the shared memory, a multiprocessor runs one
/// block at a time.
const THREADS: u32 = 1024;
/// What the kernel has in shared memory besides logits.
const OTHER_SHARED_BYTES: i64 = 1024;

/// The result for each row.
#[derive(Debug)]
pub struct RowLosses {
    /// −log softmax of the target, float32 `[m]`. 0 without a target, NaN for a target outside the
    /// vocabulary.
    pub losses: Tensor,
    /// Whether the target has the highest logit: 1 or 0, int32 `[m]`.
    pub correct: Tensor,
}

/// What happens to the logits.
#[derive(Debug, Clone, Copy)]
pub enum Logits<'a> {
    /// They stay as they are.
    Keep,
    /// They are overwritten by the gradient of `scale` times the sum of the losses.
    Gradient {
        /// Factor on the loss: one float64 on the logits' device.
        scale: &'a Tensor,
    },
}

/// Computes the losses of logits `[m, v]` with targets int64 `[m]`. A negative target means that
/// the row has none.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn forward_backward(logits: &mut Tensor, targets: &Tensor, what: Logits<'_>) -> Result<RowLosses, Error> {
    let kind = element_kind(NAME, logits)?;
    let (m, v) = torch(NAME, logits.size2())?;
    check(NAME, "logits", logits, logits, kind, m * v)?;
    check(NAME, "targets", targets, logits, Kind::Int64, m)?;
    let losses = empty(NAME, &[m], Kind::Float, logits)?;
    let correct = empty(NAME, &[m], Kind::Int, logits)?;
    let width = Width::of(&[logits], kind, v, 8);
    let source = Source { name: NAME, text: include_str!("cross_entropy/kernel.cu"), kind, width, definitions: &[] };
    let scale = match what {
        Logits::Keep => None,
        Logits::Gradient { scale } => {
            check(NAME, "scale", scale, logits, Kind::Double, 1)?;
            Some(scale)
        }
    };
    let kept = if scale.is_some() { kept_logits(logits, kind, v, width)? } else { 0 };
    let arguments = [
        pointer(logits),
        pointer(targets),
        pointer(&losses),
        pointer(&correct),
        Argument::Long(v),
        Argument::Long(kept),
        optional(scale),
    ];
    let blocks = if v == 0 { 0 } else { m };
    let bytes = kept * kind.elt_size_in_bytes() as i64;
    let shared_bytes =
        u32::try_from(bytes).map_err(|_| Error::Kernel { kernel: NAME, message: "row too long".into() })?;
    launch(&source, NAME, Grid { blocks, threads: THREADS, shared_bytes }, logits, &arguments)?;
    Ok(RowLosses { losses, correct })
}

/// How many of a row's logits fit in shared memory, in whole accesses. The others are read again
/// from the L2 cache, which holds them if they are few.
fn kept_logits(logits: &Tensor, kind: Kind, v: i64, width: Width) -> Result<i64, Error> {
    let Device::Cuda(device) = logits.device() else { return Ok(0) };
    let bytes = i64::from(driver::shared_memory_bytes(device)?) - OTHER_SHARED_BYTES;
    let fit = bytes.max(0) / kind.elt_size_in_bytes() as i64;
    Ok(v.min(fit) / width.0 * width.0)
}
