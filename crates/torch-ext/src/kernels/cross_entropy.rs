//! Softmax cross-entropy that writes its gradient over the logits.

use super::{Argument, Grid, Source, Width, check, element_kind, empty, launch, optional, pointer, torch};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "cross_entropy";
const THREADS: u32 = 512;

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
    let arguments =
        [pointer(logits), pointer(targets), pointer(&losses), pointer(&correct), Argument::Long(v), optional(scale)];
    let blocks = if v == 0 { 0 } else { m };
    launch(&source, NAME, Grid { blocks, threads: THREADS }, logits, &arguments)?;
    Ok(RowLosses { losses, correct })
}
