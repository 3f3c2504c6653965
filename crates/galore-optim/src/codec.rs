//! State codecs: how a moment is kept in fewer bits. A codec works on blocks of neighbours, each
//! with a scale of its own, so that one large number costs only its neighbours precision. Each
//! codec is a file. [`codec`] is the one place that lists them.
//!
//! A step decodes a range to float32, updates it, computes the weights' step from the float32
//! numbers, and encodes them.

mod blockwise;
mod compact;

use self::blockwise::Blockwise;
use self::compact::Compact;
use crate::MomentDtype;
use std::fmt::Debug;
use tch::{Device, Kind, TchError, Tensor};

/// Which moment: the second is never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    First,
    Second,
}

/// A way to keep blocks of numbers as codes of one byte, and a float32 scale for each block.
pub(crate) trait Codec: Debug {
    /// Numbers that share a scale.
    fn block(&self) -> i64;

    /// Type of the codes.
    fn kind(&self, moment: Moment) -> Kind;

    /// Codes `[n, block]` and scales `[n, 1]` of float32 blocks `[n, block]`.
    fn encode(&self, moment: Moment, blocks: &Tensor) -> Result<(Tensor, Tensor), TchError>;

    /// The numbers that these codes `[n, block]` with scales `[n, 1]` stand for, in float32.
    fn decode(&self, moment: Moment, codes: &Tensor, scales: &Tensor) -> Result<Tensor, TchError>;
}

/// The codec for a moment of this many elements, or `None` where it is kept as a tensor of
/// [`MomentDtype::kind`].
pub(crate) fn codec(dtype: MomentDtype, numel: i64, device: Device) -> Result<Option<Box<dyn Codec>>, TchError> {
    Ok(match dtype {
        MomentDtype::Float32 | MomentDtype::Bfloat16 => None,
        MomentDtype::Blockwise8bit if numel < blockwise::MIN_ELEMENTS => None,
        MomentDtype::Blockwise8bit => Some(Box::new(Blockwise::new(device)?)),
        MomentDtype::Compact => Some(Box::new(Compact)),
    })
}

/// A moment in a codec's form, flat. The last block may be shorter.
#[derive(Debug)]
pub(crate) struct Coded {
    moment: Moment,
    pub(crate) codes: Tensor,
    pub(crate) scales: Tensor,
}

impl Coded {
    pub(crate) fn zeros(codec: &dyn Codec, moment: Moment, numel: i64, device: Device) -> Result<Self, TchError> {
        let zeros = Tensor::f_zeros([1, codec.block()], (Kind::Float, device))?;
        let (codes, scales) = codec.encode(moment, &zeros)?;
        let blocks = blocks_of(codec, numel);
        Ok(Coded {
            moment,
            codes: codes.f_repeat([blocks, 1])?.f_view([-1])?.f_narrow(0, 0, numel)?.f_contiguous()?,
            scales: scales.f_view([-1])?.f_repeat([blocks])?,
        })
    }

    /// Writes a range to `out`, float32. It starts at a block.
    pub(crate) fn read(
        &self,
        codec: &dyn Codec,
        (start, length): (i64, i64),
        out: &mut Tensor,
    ) -> Result<(), TchError> {
        let codes = in_blocks(&self.codes.f_narrow(0, start, length)?, codec.block())?;
        let numbers = codec.decode(self.moment, &codes, &self.scales_of(codec, (start, length))?.f_unsqueeze(1)?)?;
        out.f_copy_(&numbers.f_view([-1])?.f_narrow(0, 0, length)?)
    }

    /// Stores a range. It starts at a block, and ends at one or at the end of the moment.
    pub(crate) fn write(
        &self,
        codec: &dyn Codec,
        (start, length): (i64, i64),
        numbers: &Tensor,
    ) -> Result<(), TchError> {
        let (codes, scales) = codec.encode(self.moment, &in_blocks(numbers, codec.block())?)?;
        self.codes.f_narrow(0, start, length)?.f_copy_(&codes.f_view([-1])?.f_narrow(0, 0, length)?)?;
        self.scales_of(codec, (start, length))?.f_copy_(&scales.f_view([-1])?)
    }

    fn scales_of(&self, codec: &dyn Codec, (start, length): (i64, i64)) -> Result<Tensor, TchError> {
        self.scales.f_narrow(0, start / codec.block(), blocks_of(codec, length))
    }
}

/// Blocks of this many numbers, the last one perhaps shorter.
fn blocks_of(codec: &dyn Codec, numel: i64) -> i64 {
    (numel + codec.block() - 1) / codec.block()
}

/// `[n, block]`, the last block filled up with zeros.
fn in_blocks(flat: &Tensor, block: i64) -> Result<Tensor, TchError> {
    let missing = (block - flat.numel() as i64 % block) % block;
    let whole = if missing == 0 { flat.shallow_clone() } else { flat.f_constant_pad_nd([0, missing])? };
    whole.f_view([-1, block])
}

/// Blocks divided by their scales. A block of zeros stays one.
fn normalised(blocks: &Tensor, scales: &Tensor) -> Result<Tensor, TchError> {
    blocks.f_div(&scales.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)
}

#[cfg(test)]
mod tests;
