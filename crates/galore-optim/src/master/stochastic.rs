//! Stochastic rounding to bfloat16: add 16 random bits below the last place, then cut them off.
//!
//! A value that is a fraction `f` of the way to the next bfloat16 rounds up with probability `f`,
//! so the mean is right. The bits are a hash of seed, parameter, step and element. Only the seed
//! needs to be saved, and the bits are the same on all devices and for all divisions into ranges.

use tch::{Kind, TchError, Tensor};

/// The random bits of one parameter.
#[derive(Debug)]
pub(crate) struct Noise {
    pub(super) seed: u64,
    parameter: u64,
}

impl Noise {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a
        let parameter = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Noise { seed, parameter }
    }

    /// `weight` (bfloat16) ← `master` (float32), elements `start..` of the parameter. The two work
    /// buffers are int32.
    pub(crate) fn round(
        &self,
        master: &Tensor,
        weight: &mut Tensor,
        (step, start): (i64, i64),
        [hash, work]: [&mut Tensor; 2],
    ) -> Result<(), TchError> {
        self.fill(step, start, hash, work)?;
        hash.f_bitwise_and_(0xffff).map(drop)?;
        hash.f_add_(&master.f_view_dtype(Kind::Int)?).map(drop)?;
        hash.f_bitwise_right_shift_tensor_scalar_(16).map(drop)?;
        weight.f_view_dtype(Kind::Int16)?.f_copy_(hash)
    }

    /// The key of one step's bits.
    pub(crate) fn key(&self, step: i64) -> u64 {
        mix(self.seed ^ mix(self.parameter ^ Self::mixed(step)))
    }

    /// What the step adds to a [`Self::key`].
    pub(crate) fn mixed(step: i64) -> u64 {
        mix(step as u64)
    }

    /// What the parameter adds to a [`Self::key`].
    pub(crate) fn parameter(&self) -> u64 {
        self.parameter
    }

    /// Murmur3's 32-bit finaliser over the element's index, keyed at the start and in the middle.
    /// With a key at the start only, two parameters would draw the same numbers in another order.
    fn fill(&self, step: i64, start: i64, hash: &mut Tensor, work: &mut Tensor) -> Result<(), TchError> {
        let key = self.key(step);
        let length = hash.numel() as i64;
        hash.f_copy_(&Tensor::f_arange_start(start, start + length, (Kind::Int, hash.device()))?)?;
        hash.f_bitwise_xor_(i64::from(key as i32)).map(drop)?;
        xor_shifted(hash, work, 16)?;
        hash.f_mul_scalar_(i64::from(0x85eb_ca6b_u32 as i32)).map(drop)?;
        hash.f_bitwise_xor_(i64::from((key >> 32) as i32)).map(drop)?;
        xor_shifted(hash, work, 13)?;
        hash.f_mul_scalar_(i64::from(0xc2b2_ae35_u32 as i32)).map(drop)?;
        xor_shifted(hash, work, 16)
    }
}

/// `x ← x ^ (x >>> shift)`. The mask clears the copies of the sign bit that the arithmetic shift
/// brings in.
fn xor_shifted(x: &mut Tensor, work: &mut Tensor, shift: i64) -> Result<(), TchError> {
    x.f_bitwise_right_shift_tensor_scalar_out(work, shift).map(drop)?;
    work.f_bitwise_and_((1_i64 << (32 - shift)) - 1).map(drop)?;
    x.f_bitwise_xor_tensor_(work).map(drop)?;
    Ok(())
}

/// SplitMix64's finaliser.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
