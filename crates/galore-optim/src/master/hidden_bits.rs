//! A float32 master in two halves: the bfloat16 weight and 16 hidden bits.
//!
//! Let `b` be the bit pattern of the master as int32. Then `hi = (b + 0x8000) >> 16` is the pattern
//! of the nearest bfloat16, `lo = b − (hi << 16)` is the signed rest, and `b = (hi << 16) + lo`
//! without loss.
//!
//! Ties round away from zero, not to even. `lo` is then in −0x8000 ..= 0x7fff and is exactly the
//! low half of `b`, read as int16. Rounding a tie down would leave +0x8000, one more than an int16
//! holds. The weight differs from the one rounded to even only at ties, one pattern in 65,536. The
//! sign needs no special case: the topmost bit does not change, and the magnitude below it rounds
//! as an integer. Denormals, infinities and the usual NaNs survive unchanged.

use tch::{Kind, TchError, Tensor};

/// `out` (float32) ← the master of `weight` (bfloat16) and `hidden` (int16).
pub(super) fn join(weight: &Tensor, hidden: &Tensor, out: &mut Tensor) -> Result<(), TchError> {
    let mut bits = out.f_view_dtype(Kind::Int)?;
    bits.f_copy_(&weight.f_view_dtype(Kind::Int16)?)?;
    bits.f_bitwise_left_shift_tensor_scalar_(16).map(drop)?;
    bits.f_add_(hidden).map(drop)?;
    Ok(())
}

/// `weight` (bfloat16) and `hidden` (int16) ← `master` (float32). `work` is int32 of the same
/// length.
pub(super) fn split(
    master: &Tensor,
    weight: &mut Tensor,
    hidden: &mut Tensor,
    work: &mut Tensor,
) -> Result<(), TchError> {
    let bits = master.f_view_dtype(Kind::Int)?;
    bits.f_add_scalar_out(work, 0x8000).map(drop)?;
    work.f_bitwise_right_shift_tensor_scalar_(16).map(drop)?;
    weight.f_view_dtype(Kind::Int16)?.f_copy_(work)?;
    // Narrowing keeps the low half.
    hidden.f_copy_(&bits)
}

#[cfg(test)]
mod tests;
