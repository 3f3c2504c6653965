//! A basis in memory: floating-point numbers, or codes of 8 or 4 bits with the range of each group
//! of 256 elements (Q-GaLore, [2407.08296](https://arxiv.org/abs/2407.08296)).
//!
//! ```text
//! code = round((x − lowest) / step)        x ≈ lowest + step · code,  step = (highest − lowest) / (2ᵇ − 1)
//! ```

use crate::scratch::{Scratch, Slot};
use tch::{Device, Kind, TchError, Tensor};

/// Elements with a common range.
const GROUP: i64 = 256;
const BITS_PER_BYTE: i64 = 8;

/// How the elements of a basis are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Float(Kind),
    /// Codes of this many bits, 8 or 4.
    Codes(i64),
}

impl Format {
    /// Types and shapes of what a basis `[rows, cols]` consists of.
    pub(crate) fn parts(self, [rows, cols]: [i64; 2]) -> Vec<(Kind, Vec<i64>)> {
        match self {
            Format::Float(kind) => vec![(kind, vec![rows, cols])],
            Format::Codes(bits) => {
                let groups = groups(rows * cols);
                vec![(Kind::Uint8, vec![groups, GROUP * bits / BITS_PER_BYTE]), (Kind::Float, vec![groups, 2])]
            }
        }
    }
}

fn groups(numel: i64) -> i64 {
    (numel + GROUP - 1) / GROUP
}

/// A basis `[rows, cols]`.
#[derive(Debug)]
pub(crate) struct StoredBasis {
    shape: [i64; 2],
    format: Format,
    /// As [`Format::parts`].
    parts: Vec<Tensor>,
}

impl StoredBasis {
    /// A basis whose elements are zero.
    pub(crate) fn zeros(shape: [i64; 2], format: Format, device: Device) -> Result<Self, TchError> {
        let parts = format.parts(shape).into_iter().map(|(kind, shape)| Tensor::f_zeros(shape, (kind, device)));
        Ok(StoredBasis { shape, format, parts: parts.collect::<Result<_, _>>()? })
    }

    /// A copy of a basis.
    pub(crate) fn new(basis: &Tensor, format: Format) -> Result<Self, TchError> {
        let (rows, cols) = basis.size2()?;
        let shape = [rows, cols];
        let parts = match format {
            Format::Float(kind) => {
                // Even of a contiguous tensor: a narrowed view would keep the whole alive.
                let mut copy = Tensor::f_empty(shape, (kind, basis.device()))?;
                copy.f_copy_(basis)?;
                vec![copy]
            }
            Format::Codes(bits) => codes(basis, bits)?,
        };
        Ok(StoredBasis { shape, format, parts })
    }

    /// A basis that is this tensor.
    pub(crate) fn sharing(basis: Tensor) -> Result<Self, TchError> {
        let (rows, cols) = basis.size2()?;
        Ok(StoredBasis { shape: [rows, cols], format: Format::Float(basis.f_kind()?), parts: vec![basis] })
    }

    pub(crate) fn parts(&self) -> &[Tensor] {
        &self.parts
    }

    /// The basis in float32: itself if it is that, else in memory of its own, or in a slot.
    pub(crate) fn wide(&self, slot: Option<(&mut Scratch, Slot)>) -> Result<Tensor, TchError> {
        match (self.format, &self.parts[..]) {
            (Format::Codes(bits), [codes, ranges]) => decoded(codes, ranges, bits, self.shape),
            (_, [basis, ..]) => match slot {
                Some((scratch, slot)) => scratch.widened(slot, basis),
                None => basis.f_to_kind(Kind::Float),
            },
            (_, []) => Err(TchError::Torch("a basis without elements".to_owned())),
        }
    }
}

/// The codes `[groups, bytes]` and ranges `[groups, 2]` (lowest, step) of a basis.
fn codes(basis: &Tensor, bits: i64) -> Result<Vec<Tensor>, TchError> {
    let flat = basis.f_to_kind(Kind::Float)?.f_reshape([-1])?;
    let numel = flat.numel() as i64;
    // Zero is within the range of any group of a basis, so the padding costs no accuracy.
    let padded = flat.f_constant_pad_nd([0, groups(numel) * GROUP - numel])?.f_view([-1, GROUP])?;
    let lowest = padded.f_amin([1i64].as_slice(), true)?;
    let highest = padded.f_amax([1i64].as_slice(), true)?;
    let levels = ((1i64 << bits) - 1) as f64;
    let step = highest.f_sub(&lowest)?.f_div_scalar(levels)?;
    let codes = padded.f_sub(&lowest)?.f_div(&step.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
    let codes = codes.f_round()?.f_clamp(0.0, levels)?.f_to_kind(Kind::Uint8)?;
    let packed = if bits == BITS_PER_BYTE { codes } else { packed(&codes)? };
    Ok(vec![packed, Tensor::f_cat(&[lowest, step], 1)?])
}

/// Two codes of 4 bits in a byte, the first one low.
fn packed(codes: &Tensor) -> Result<Tensor, TchError> {
    let pairs = codes.f_view([-1, GROUP / 2, 2])?;
    let high = pairs.f_select(2, 1)?.f_mul_scalar(16)?;
    pairs.f_select(2, 0)?.f_bitwise_or_tensor(&high)
}

fn decoded(codes: &Tensor, ranges: &Tensor, bits: i64, [rows, cols]: [i64; 2]) -> Result<Tensor, TchError> {
    let codes = if bits == BITS_PER_BYTE {
        codes.shallow_clone()
    } else {
        let halves = [codes.f_bitwise_and(15)?, codes.f_bitwise_right_shift_tensor_scalar(4)?];
        Tensor::f_stack(&halves, 2)?.f_view([-1, GROUP])?
    };
    let (lowest, step) = (ranges.f_narrow(1, 0, 1)?, ranges.f_narrow(1, 1, 1)?);
    let all = codes.f_to_kind(Kind::Float)?.f_mul_(&step)?.f_add_(&lowest)?;
    all.f_view([-1])?.f_narrow(0, 0, rows * cols)?.f_view([rows, cols])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn codes_are_off_by_half_a_step_at_most() {
        tch::manual_seed(2);
        for (shape, bits) in [([30, 17], 8), ([30, 17], 4), ([16, 16], 4), ([1, 1], 8), ([3, 300], 4)] {
            let basis = Tensor::randn(shape, FLOAT) * 0.1;
            let stored = StoredBasis::new(&basis, Format::Codes(bits)).unwrap();
            let found = stored.wide(None).unwrap();
            let step = stored.parts()[1].narrow(1, 1, 1).max().double_value(&[]);
            let off = (&found - &basis).abs().max().double_value(&[]);
            assert!(found.size() == basis.size() && off <= 0.5001 * step, "{shape:?}, {bits} bits: {off} {step}");
            assert!(off > 0.4 * step || basis.numel() < 10, "the test would not see a wrong step");
            let described = Format::Codes(bits).parts(shape);
            let parts: Vec<_> = stored.parts().iter().map(|part| (part.kind(), part.size())).collect();
            assert_eq!(parts, described);
            // Codes of codes are the same.
            let again = StoredBasis::new(&found, Format::Codes(bits)).unwrap();
            assert!((again.wide(None).unwrap() - found).abs().max().double_value(&[]) < 1e-6);
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for format in [Format::Codes(8), Format::Codes(4), Format::Float(Kind::Half)] {
            for stored in [
                StoredBasis::zeros([5, 3], format, Device::Cpu),
                StoredBasis::new(&Tensor::zeros([5, 3], FLOAT), format),
            ] {
                assert_eq!(stored.unwrap().wide(None).unwrap(), Tensor::zeros([5, 3], FLOAT));
            }
        }
    }
}
