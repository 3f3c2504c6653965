//! Frequencies of the rotary embedding. The operations and their order are those of transformers'
//! `ROPE_INIT_FUNCTIONS`, so both agree to the bit.
//!
//! Shapes: `k` head size, `r` of its values that are rotated.

use super::{RopeParameters, RopeScaling};
use crate::Error;
use tch::{Device, Kind, Tensor};

impl RopeParameters {
    /// `r`, the values of a head of size `head_dim` that are rotated: the first ones.
    pub fn rotated(&self, head_dim: i64) -> i64 {
        (head_dim as f64 * self.partial_rotary_factor) as i64
    }

    /// Whether angles depend on the length of the longest sequence.
    pub fn depends_on_length(&self) -> bool {
        match &self.scaling {
            RopeScaling::Dynamic { .. } => true,
            RopeScaling::LongRope { short_factor, long_factor, .. } => short_factor != long_factor,
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Yarn { .. } | RopeScaling::Llama3 { .. } => {
                false
            }
        }
    }

    /// What cosine and sine are multiplied with.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            RopeScaling::None
            | RopeScaling::Linear { .. }
            | RopeScaling::Dynamic { .. }
            | RopeScaling::Llama3 { .. } => 1.0,
        }
    }

    /// Inverse frequencies `[r / 2]`, float32 on `device`, for sequences of up to `longest` tokens.
    ///
    /// For `dynamic`, transformers remembers the longest sequence it has seen; here only `longest`
    /// counts.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn inverse_frequencies(&self, head_dim: i64, longest: i64, device: Device) -> Result<Tensor, Error> {
        let rotated = self.rotated(head_dim);
        let base = match self.scaling {
            RopeScaling::Dynamic { factor, original_length } => {
                let stretch = factor * longest.max(original_length) as f64 / original_length as f64 - (factor - 1.0);
                self.theta * stretch.powf(rotated as f64 / (rotated - 2) as f64)
            }
            _ => self.theta,
        };
        let exponents =
            Tensor::f_arange_start_step(0, rotated, 2, (Kind::Float, device))?.f_div_scalar(rotated as f64)?;
        let wavelengths = Tensor::f_pow_scalar(base, &exponents)?; // divided by 2 π
        match &self.scaling {
            RopeScaling::None | RopeScaling::Dynamic { .. } => Ok(wavelengths.f_reciprocal()?),
            RopeScaling::Linear { factor } => Ok(wavelengths.f_reciprocal()?.f_div_scalar(*factor)?),
            RopeScaling::Yarn { factor, .. } => {
                let kept = self.yarn_kept(rotated, device)?;
                let divided = wavelengths.f_mul_scalar(*factor)?.f_reciprocal()?;
                let divided = divided.f_mul(&kept.f_neg()?.f_add_scalar(1.0)?)?;
                Ok(divided.f_add(&wavelengths.f_reciprocal()?.f_mul(&kept)?)?)
            }
            RopeScaling::LongRope { short_factor, long_factor, original_length, .. } => {
                let factors = if longest > *original_length { long_factor } else { short_factor };
                let factors = Tensor::f_from_slice(factors)?.f_to_device(device)?;
                Ok(factors.f_mul(&wavelengths)?.f_reciprocal()?)
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => {
                let (factor, original_length) = (*factor, *original_length as f64);
                let frequencies = wavelengths.f_reciprocal()?;
                let wavelengths = frequencies.f_reciprocal()?.f_mul_scalar(2.0 * std::f64::consts::PI)?;
                let divided = frequencies.f_div_scalar(factor)?;
                let is_low = wavelengths.f_gt(original_length / low_freq_factor)?;
                let is_high = wavelengths.f_lt(original_length / high_freq_factor)?;
                let kept_or_divided = divided.f_where_self(&is_low, &frequencies)?;
                // 0 at the low end of the ramp, 1 at the high end.
                let smooth = wavelengths
                    .f_reciprocal()?
                    .f_mul_scalar(original_length)?
                    .f_sub_scalar(*low_freq_factor)?
                    .f_div_scalar(high_freq_factor - low_freq_factor)?;
                let blended = frequencies.f_mul(&smooth)?.f_sub(&divided.f_mul(&smooth.f_sub_scalar(1.0)?)?)?;
                let is_between = is_low.f_logical_or(&is_high)?.f_logical_not()?;
                Ok(blended.f_where_self(&is_between, &kept_or_divided)?)
            }
        }
    }
    /// Of YaRN, for each pair: 1 where the frequency is kept, 0 where it is divided, between them
    /// on the ramp; `[r / 2]`.
    fn yarn_kept(&self, rotated: i64, device: Device) -> Result<Tensor, Error> {
        let RopeScaling::Yarn { beta_fast, beta_slow, truncate, original_length, .. } = self.scaling else {
            return Ok(Tensor::f_ones([rotated / 2], (Kind::Float, device))?);
        };
        // The pair that turns this often in the original length.
        let pair = |turns: f64| {
            let ratio = original_length as f64 / (turns * 2.0 * std::f64::consts::PI);
            rotated as f64 * ratio.ln() / (2.0 * self.theta.ln())
        };
        let (low, high) = match truncate {
            true => (pair(beta_fast).floor(), pair(beta_slow).ceil()),
            false => (pair(beta_fast), pair(beta_slow)),
        };
        let (low, mut high) = (low.max(0.0), high.min((rotated - 1) as f64));
        if low == high {
            high += 0.001;
        }
        let ramp = Tensor::f_arange(rotated / 2, (Kind::Float, device))?.f_sub_scalar(low)?.f_div_scalar(high - low)?;
        Ok(ramp.f_clamp(0.0, 1.0)?.f_neg()?.f_add_scalar(1.0)?)
    }
}
