//! Rotary position embedding (Su et al., arXiv 2104.09864), in the halves-swapped layout of transformers' `rotate_half`.

use super::three;
use crate::Error;
use tch::{Kind, Tensor};
use torch_ext::kernels;
use torch_ext::kernels::rope::Direction;

/// cos and sin of every token's angles, `[n, 1, k / 2]`.
#[derive(Debug)]
pub struct Rotations {
    cos: Tensor,
    sin: Tensor,
    minus_sin: Tensor,
}

impl Rotations {
    /// Angles are positions (float32 `[n]`, one a token) times inverse frequencies `[k / 2]`, in float32 as in transformers; then rounded to `kind`.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn new(positions: &Tensor, inverse_frequencies: &Tensor, kind: Kind) -> Result<Self, Error> {
        let angles = positions.f_outer(inverse_frequencies)?.f_unsqueeze(1)?; // [n, 1, k / 2]
        let sin = angles.f_sin()?.f_to_kind(kind)?;
        Ok(Self { cos: angles.f_cos()?.f_to_kind(kind)?, minus_sin: sin.f_neg()?, sin })
    }
}

/// Rotates x `[n, heads, k]`: (a, b) → (a cos − b sin, b cos + a sin) for its two halves. On a GPU the result may take x's memory.
///
/// # Errors
/// [`Error::Shape`] unless x has three dimensions, [`Error::Torch`] when it does not fit the rotations.
pub fn forward(x: Tensor, rotations: &Rotations) -> Result<Tensor, Error> {
    rotate(x, rotations, Direction::Forward)
}

/// Rotates back: a rotation's transpose is the rotation by the opposite angle.
///
/// # Errors
/// As [`forward`].
pub fn backward(dy: Tensor, rotations: &Rotations) -> Result<Tensor, Error> {
    rotate(dy, rotations, Direction::Backward)
}

fn rotate(mut x: Tensor, rotations: &Rotations, direction: Direction) -> Result<Tensor, Error> {
    let (_, _, k) = three("rope", &x)?;
    let Rotations { cos, sin, minus_sin } = rotations;
    if kernels::available(&[&x, cos, sin]) {
        kernels::rope::rotate(&mut x, cos, sin, direction)?;
        return Ok(x);
    }
    let (sin, minus_sin) = if direction == Direction::Forward { (sin, minus_sin) } else { (minus_sin, sin) };
    let half = k / 2;
    let output = Tensor::f_empty(x.size().as_slice(), (x.f_kind()?, x.device()))?;
    let (first, second) = (x.f_narrow(2, 0, half)?, x.f_narrow(2, half, half)?);
    let _ = first.f_mul_out(&output.f_narrow(2, 0, half)?, cos)?.f_addcmul_(&second, minus_sin)?;
    let _ = second.f_mul_out(&output.f_narrow(2, half, half)?, cos)?.f_addcmul_(&first, sin)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, device, each_precision, random};

    #[test]
    fn equals_autograd() {
        let positions = Tensor::from_slice(&[0.0f32, 1.0, 2.0, 0.0, 70.0]).to_device(device());
        for (heads, k) in [(1, 2), (3, 8)] {
            each_precision(|kind| {
                let inverse_frequencies =
                    Tensor::from_slice(&(0..k / 2).map(|i| 1.0 / f32::powi(7.0, i)).collect::<Vec<_>>())
                        .to_device(device());
                let (x, dy) = (random(&[5, heads, k.into()], kind), random(&[5, heads, k.into()], kind));
                let rotations = Rotations::new(&positions, &inverse_frequencies, kind).unwrap();
                let reference = |t: &[Tensor]| {
                    let angles = positions.outer(&inverse_frequencies).unsqueeze(1);
                    let angles = Tensor::cat(&[&angles, &angles], 2);
                    let halves = t[0].chunk(2, 2);
                    let swapped = Tensor::cat(&[&-&halves[1], &halves[0]], 2);
                    &t[0] * angles.cos().to_kind(Kind::Double) + swapped * angles.sin().to_kind(Kind::Double)
                };
                let mut check = Check::of(&[&x], &dy, reference);
                check.forward(&forward(x.copy(), &rotations).unwrap());
                check.gradient(0, &backward(dy.copy(), &rotations).unwrap());
            });
        }
    }
}
