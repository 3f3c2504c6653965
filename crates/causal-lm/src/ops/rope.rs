//! Rotary position embedding (Su et al., arXiv 2104.09864), in the layout of transformers'
//! `rotate_half`: of the `r` values of a head that are rotated, element i is paired with element
//! i + r / 2. The other values of a head stay as they are.
//!
//! Shapes: `n` tokens, `h` query heads, `g` key and value heads, `k` head size, `r` its values that
//! are rotated, from the first.

use super::three_dimensions;
use crate::Error;
use tch::{Kind, Tensor};
use torch_ext::kernels;

/// Cosine and sine of every token's angles, or none for layers that rotate nothing.
#[derive(Debug)]
pub struct Rotations(Option<Turns>);

/// All are `[n, 1, r / 2]`.
#[derive(Debug)]
struct Turns {
    cos: Tensor,
    sin: Tensor,
    minus_sin: Tensor,
}

/// What angles are computed from.
#[derive(Debug, Clone, Copy)]
pub struct Angles<'a> {
    /// Each token's place in its row, float32 `[n]`.
    pub positions: &'a Tensor,
    /// float32 `[r / 2]`.
    pub inverse_frequencies: &'a Tensor,
    /// What cosine and sine are multiplied with; 1 for most models.
    pub factor: f64,
}

impl Rotations {
    /// Angles are positions times inverse frequencies. As in transformers they, their cosine and
    /// sine are computed in float32, and the last two are then rounded to `kind`.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn new(angles: Angles<'_>, kind: Kind) -> Result<Self, Error> {
        let Angles { positions, inverse_frequencies, factor } = angles;
        let angles = positions.f_outer(inverse_frequencies)?.f_unsqueeze(1)?; // [n, 1, r / 2]
        let (mut cos, mut sin) = (angles.f_cos()?, angles.f_sin()?);
        if factor != 1.0 {
            (cos, sin) = (cos.f_mul_scalar_(factor)?, sin.f_mul_scalar_(factor)?);
        }
        let sin = sin.f_to_kind(kind)?;
        Ok(Self(Some(Turns { cos: cos.f_to_kind(kind)?, minus_sin: sin.f_neg()?, sin })))
    }

    /// For a layer without positions: nothing is rotated.
    pub fn none() -> Self {
        Self(None)
    }
}

/// Rotates the first `rotated` heads of x `[n, heads, k]` in place. With (a, b) the two halves of
/// the first `r` values of a head: (a, b) → (a cos − b sin, b cos + a sin).
///
/// # Errors
/// [`Error::Shape`] unless x has three dimensions, [`Error::Torch`] when it does not fit the
/// rotations.
pub fn forward(x: &mut Tensor, rotated: i64, rotations: &Rotations) -> Result<(), Error> {
    three_dimensions("rope", x)?;
    let Some(Turns { cos, sin, minus_sin }) = &rotations.0 else { return Ok(()) };
    let half = half(cos)?;
    if kernels::available(&[x, cos, sin]) {
        return Ok(kernels::rope::rotate(x, rotated, cos, sin)?);
    }
    let x = x.f_narrow(1, 0, rotated)?;
    let (mut first, mut second) = (x.f_narrow(2, 0, half)?, x.f_narrow(2, half, half)?);
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
    let ((n, h, k), (_, g, _)) = (three_dimensions("rope backward", query)?, three_dimensions("rope backward", key)?);
    let Some(Turns { cos, sin, minus_sin }) = &rotations.0 else {
        return Ok(Tensor::f_cat(&[query, key, value], 1)?);
    };
    let half = half(cos)?;
    if kernels::available(&[query, key, value, cos, sin]) {
        return Ok(kernels::rope::rotate_back([query, key, value], cos, sin)?);
    }
    let output = Tensor::f_empty([n, h + 2 * g, k], (query.f_kind()?, query.device()))?;
    let part = |x: &Tensor, start: i64| x.f_narrow(2, start, half);
    for (x, output) in [(query, output.f_narrow(1, 0, h)?), (key, output.f_narrow(1, h, g)?)] {
        let (first, second) = (part(x, 0)?, part(x, half)?);
        let _ = first.f_mul_out(&part(&output, 0)?, cos)?.f_addcmul_(&second, sin)?;
        let _ = second.f_mul_out(&part(&output, half)?, cos)?.f_addcmul_(&first, minus_sin)?;
        let kept = k - 2 * half;
        output.f_narrow(2, 2 * half, kept)?.f_copy_(&x.f_narrow(2, 2 * half, kept)?)?;
    }
    output.f_narrow(1, h + g, g)?.f_copy_(value)?;
    Ok(output)
}

/// r / 2.
fn half(cos: &Tensor) -> Result<i64, Error> {
    Ok(three_dimensions("rope", cos)?.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, device, each_precision, random};

    #[test]
    fn equals_autograd() {
        let positions = Tensor::from_slice(&[0.0f32, 1.0, 2.0, 0.0, 70.0]).to_device(device());
        for (h, g, k, r, factor) in [
            (1, 1, 2, 2, 1.0),
            (4, 2, 8, 8, 1.0),
            (4, 2, 8, 8, 1.3),
            (3, 1, 8, 6, 1.0),
            (2, 2, 6, 2, 0.7),
            (2, 1, 4, 0, 1.0),
        ] {
            each_precision(|kind| {
                let inverse_frequencies =
                    Tensor::from_slice(&(0..r / 2).map(|i| 1.0 / f32::powi(7.0, i)).collect::<Vec<_>>())
                        .to_device(device());
                let (x, dy) = (random(&[5, h + 2 * g, k], kind), random(&[5, h + 2 * g, k], kind));
                let angles = Angles { positions: &positions, inverse_frequencies: &inverse_frequencies, factor };
                let rotations = if r == 0 { Rotations::none() } else { Rotations::new(angles, kind).unwrap() };
                let reference = |t: &[Tensor]| {
                    let angles = positions.outer(&inverse_frequencies).unsqueeze(1);
                    let angles = Tensor::cat(&[&angles, &angles], 2);
                    let (turning, value) = (t[0].narrow(1, 0, h + g), t[0].narrow(1, h + g, g));
                    let kept = turning.narrow(2, r.into(), k - i64::from(r));
                    let turning = turning.narrow(2, 0, r.into());
                    let halves = turning.chunk(2, 2);
                    let swapped = Tensor::cat(&[&-&halves[1], &halves[0]], 2);
                    let (cos, sin) = (angles.cos() * factor, angles.sin() * factor);
                    let turned = turning * cos.to_kind(Kind::Double) + swapped * sin.to_kind(Kind::Double);
                    Tensor::cat(&[&Tensor::cat(&[&turned, &kept], 2), &value], 1)
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
