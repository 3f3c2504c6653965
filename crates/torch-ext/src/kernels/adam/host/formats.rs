//! How numbers are stored, and how they are rounded to it, as in `kernel.cu`.

/// A type of stored numbers that a loop reads as float32. `bits` are random.
pub(super) trait Stored: Copy + Send + Sync {
    fn widen(self) -> f32;
    fn narrow(value: f32, bits: u32) -> Self;
}

impl Stored for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(value: f32, _: u32) -> Self {
        value
    }
}

/// The bits of a bfloat16.
impl Stored for u16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
    #[inline(always)]
    fn narrow(value: f32, bits: u32) -> Self {
        rounded_stochastically(value, bits)
    }
}

/// How a weight is joined to a float32 master and split again.
pub(super) trait Format: Sync {
    type Weight: Copy + Send + Sync;
    const HAS_HIDDEN: bool = false;
    fn join(weight: Self::Weight, hidden: i16) -> f32;
    fn split(master: f32, index: usize, key: u64) -> (Self::Weight, i16);
}

pub(super) struct Float;
pub(super) struct HiddenBits;
pub(super) struct Stochastic;
pub(super) struct Nearest;

impl Format for Float {
    type Weight = f32;
    #[inline(always)]
    fn join(weight: f32, _: i16) -> f32 {
        weight
    }
    #[inline(always)]
    fn split(master: f32, _: usize, _: u64) -> (f32, i16) {
        (master, 0)
    }
}

impl Format for HiddenBits {
    type Weight = u16;
    const HAS_HIDDEN: bool = true;
    #[inline(always)]
    fn join(weight: u16, hidden: i16) -> f32 {
        f32::from_bits((u32::from(weight) << 16).wrapping_add(i32::from(hidden) as u32))
    }
    #[inline(always)]
    fn split(master: f32, _: usize, _: u64) -> (u16, i16) {
        let bits = master.to_bits();
        ((bits.wrapping_add(0x8000) >> 16) as u16, bits as i16)
    }
}

impl Format for Stochastic {
    type Weight = u16;
    #[inline(always)]
    fn join(weight: u16, _: i16) -> f32 {
        weight.widen()
    }
    #[inline(always)]
    fn split(master: f32, index: usize, key: u64) -> (u16, i16) {
        (rounded_stochastically(master, noise(index, key)), 0)
    }
}

impl Format for Nearest {
    type Weight = u16;
    #[inline(always)]
    fn join(weight: u16, _: i16) -> f32 {
        weight.widen()
    }
    #[inline(always)]
    fn split(master: f32, _: usize, _: u64) -> (u16, i16) {
        (rounded_to_nearest(master), 0)
    }
}

/// Murmur3's finaliser of the element's index, with the two halves of the key mixed in.
#[inline(always)]
pub(super) fn noise(index: usize, key: u64) -> u32 {
    let mut hash = index as u32 ^ key as u32;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= (key >> 32) as u32;
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// Rounds up or down at random, by the lower 16 bits of `bits`. Values that are not finite are
/// rounded to nearest, because the carry would change their meaning.
#[inline(always)]
pub(super) fn rounded_stochastically(value: f32, bits: u32) -> u16 {
    let pattern = value.to_bits();
    let up = (pattern.wrapping_add(bits & 0xffff) >> 16) as u16;
    if pattern & 0x7f80_0000 == 0x7f80_0000 { rounded_to_nearest(value) } else { up }
}

/// Ties go to even. NaN stays NaN.
#[inline(always)]
pub(super) fn rounded_to_nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { (bits >> 16) as u16 | 0x40 } else { rounded }
}
