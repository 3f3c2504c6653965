//! Rotary position embedding (Su et al., arXiv 2104.09864), in the layout of transformers'
//! `rotate_half`: element i of a head is paired with element i + k / 2.
//!
//! Shapes: `n` tokens, `h` query heads, `g` key and value heads, `k` head size.

use super::three_dimensions;
use crate::Error;
use tch::{Kind, Tensor};
use torch_ext::kernels;

/// Cosine and sine of every token's angles, `[n, 1, k / 2]`.
#[derive(Debug)]
pub struct Rotations {
    cos: Tensor,
    sin: Tensor,
    minus_sin: Tensor,
}

impl Rotations {
    /// Angles are positions, float32 `[n]`, times inverse frequencies, float32 `[k / 2]`. As in
    /// transformers they are computed in float32; cosine and sine are then rounded to `kind`.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn new(positions: &Tensor, inverse_frequencies: &Tensor, kind: Kind) -> Result<Self, Error> {
        let angles = positions.f_outer(inverse_frequencies)?.f_unsqueeze(1)?; // [n, 1, k / 2]
        let sin = angles.f_sin()?.f_to_kind(kind)?;
        Ok(Self { cos: angles.f_cos()?.f_to_kind(kind)?, minus_sin: sin.f_neg()?, sin })
    }
}

/// Rotates the first `rotated` heads of x `[n, heads, k]` in place. With (a, b) the two halves of a
/// head: (a, b) → (a cos − b sin, b cos + a sin).
///
/// # Errors
/// [`Error::Shape`] unless x has three dimensions, [`Error::Torch`] when it does not fit the
/// rotations.
pub fn forward(x: &mut Tensor, rotated: i64, rotations: &Rotations) -> Result<(), Error> {
    let (_, _, k) = three_dimensions("rope", x)?;
    let Rotations { cos, sin, minus_sin } = rotations;
    if kernels::available(&[x, cos, sin]) {
        return Ok(kernels::rope::rotate(x, rotated, cos, sin)?);
    }
    let x = x.f_narrow(1, 0, rotated)?;
    let (mut first, mut second) = (x.f_narrow(2, 0, k / 2)?, x.f_narrow(2, k / 2, k / 2)?);
    let turned = first.f_mul(cos)?.f_addcmul_(&second, minus_sin)?;
    let _ = second.f_mul_(cos)?.f_addcmul_(&first, sin)?;
    first.f_copy_(&turned)?;
    Ok(())
}

/// From the gradients of the rotated query `[n, h, k]`, the rotated key and the value, both
/// `[n, g, k]`, the gradient of the tensor that held all three before [`forward`],
/// `[n, h + 2 g, k]`.
///
/// The transpose of a rotation is the rotation by the opposite angle, so query and key are rotated
/// back.
///
/// # Errors
/// As [`forward`].
pub fn backward([query, key, value]: [&Tensor; 3], rotations: &Rotations) -> Result<Tensor, Error> {
    let Rotations { cos, sin, minus_sin } = rotations;
    if kernels::available(&[query, key, value, cos, sin]) {
        return Ok(kernels::rope::rotate_back([query, key, value], cos, sin)?);
    }
    let ((n, h, k), (_, g, _)) = (three_dimensions("rope backward", query)?, three_dimensions("rope backward", key)?);
    let output = Tensor::f_empty([n, h + 2 * g, k], (query.f_kind()?, query.device()))?;
    let half = |x: &Tensor, start: i64| x.f_narrow(2, start, k / 2);
    for (x, output) in [(query, output.f_narrow(1, 0, h)?), (key, output.f_narrow(1, h, g)?)] {
        let (first, second) = (half(x, 0)?, half(x, k / 2)?);
        let _ = first.f_mul_out(&half(&output, 0)?, cos)?.f_addcmul_(&second, sin)?;
        let _ = second.f_mul_out(&half(&output, k / 2)?, cos)?.f_addcmul_(&first, minus_sin)?;
    }
    output.f_narrow(1, h + g, g)?.f_copy_(value)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, device, each_precision, random};

    #[test]
    fn equals_autograd() {
        let positions = Tensor::from_slice(&[0.0f32, 1.0, 2.0, 0.0, 70.0]).to_device(device());
        for (h, g, k) in [(1, 1, 2), (4, 2, 8)] {
            each_precision(|kind| {
                let inverse_frequencies =
                    Tensor::from_slice(&(0..k / 2).map(|i| 1.0 / f32::powi(7.0, i)).collect::<Vec<_>>())
                        .to_device(device());
                let (x, dy) = (random(&[5, h + 2 * g, k.into()], kind), random(&[5, h + 2 * g, k.into()], kind));
                let rotations = Rotations::new(&positions, &inverse_frequencies, kind).unwrap();
                let reference = |t: &[Tensor]| {
                    let angles = positions.outer(&inverse_frequencies).unsqueeze(1);
                    let angles = Tensor::cat(&[&angles, &angles], 2);
                    let (turning, value) = (t[0].narrow(1, 0, h + g), t[0].narrow(1, h + g, g));
                    let halves = turning.chunk(2, 2);
                    let swapped = Tensor::cat(&[&-&halves[1], &halves[0]], 2);
                    let turned =
                        turning * angles.cos().to_kind(Kind::Double) + swapped * angles.sin().to_kind(Kind::Double);
                    Tensor::cat(&[&turned, &value], 1)
                };
                let mut check = Check::of(&[&x], &dy, reference);
                let mut turned = x.copy();
                forward(&mut turned, h + g, &rotations).unwrap();
                check.forward(&turned);
                let parts: Vec<Tensor> = dy.split_with_sizes([h, g, g], 1).iter().map(Tensor::contiguous).collect();
                check.gradient(0, &backward([&parts[0], &parts[1], &parts[2]], &rotations).unwrap());
            });
        }
    }
}
