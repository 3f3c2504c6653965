//! Parameters of the rotary position embedding (RoFormer, arXiv 2104.09864), and the supported ways
//! of stretching it to longer contexts.

use super::fields::Fields;
use crate::Error;
use serde::Deserialize;
use serde_plain::derive_fromstr_from_deserialize;
use tch::{Device, Kind, Tensor};

/// Base of the wavelengths, and how they are stretched.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeParameters {
    /// `rope_theta`; 10,000 if the file does not have it.
    pub theta: f64,
    /// How frequencies are changed for contexts longer than those of pre-training.
    pub scaling: RopeScaling,
}

/// How frequencies are changed, by transformers' `rope_type`.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// `default`: frequencies stay as they are.
    None,
    /// `linear`: all frequencies divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// `dynamic` (NTK-aware): the base grows with a sequence longer than `original_length`.
    Dynamic {
        /// Strength.
        factor: f64,
        /// `max_position_embeddings`.
        original_length: i64,
    },
    /// `llama3`: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_length` divided by this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_length` divided by this are high frequencies.
        high_freq_factor: f64,
        /// Context length of pre-training.
        original_length: i64,
    },
}

/// The names of [`RopeScaling`]'s variants.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RopeType {
    Default,
    Linear,
    Dynamic,
    Llama3,
}

derive_fromstr_from_deserialize!(RopeType);

impl RopeParameters {
    pub(super) fn read(fields: &Fields<'_>, max_position_embeddings: i64) -> Result<Self, Error> {
        // transformers 5 writes one object. Version 4 wrote rope_theta beside an optional
        // rope_scaling.
        let (object, prefix) = match fields.object("rope_parameters")? {
            Some(object) => (Some(object), "rope_parameters."),
            None => (fields.object("rope_scaling")?, "rope_scaling."),
        };
        let empty = serde_json::Map::new();
        let nested = fields.nested(object.unwrap_or(&empty), prefix);
        let default_theta = fields.positive("rope_theta", Some(10_000.0))?;
        let theta = nested.positive("rope_theta", Some(default_theta))?;
        if nested.number("partial_rotary_factor", Some(1.0))? != 1.0 {
            return Err(nested.error("partial_rotary_factor", "other than 1 is not supported".to_owned()));
        }
        let rope_type = nested.text("rope_type")?.or(nested.text("type")?).unwrap_or("default");
        let rope_type: RopeType = rope_type.parse().map_err(|_| {
            let problem = format!("\"{rope_type}\" is not supported; default, linear, dynamic and llama3 are");
            nested.error("rope_type", problem)
        })?;
        let scaling = match rope_type {
            RopeType::Default => RopeScaling::None,
            RopeType::Linear => RopeScaling::Linear { factor: nested.positive("factor", None)? },
            RopeType::Dynamic => RopeScaling::Dynamic {
                factor: nested.positive("factor", None)?,
                original_length: max_position_embeddings,
            },
            RopeType::Llama3 => RopeScaling::Llama3 {
                factor: nested.positive("factor", None)?,
                low_freq_factor: nested.positive("low_freq_factor", None)?,
                high_freq_factor: nested.positive("high_freq_factor", None)?,
                original_length: nested.count("original_max_position_embeddings", Some(max_position_embeddings))?,
            },
        };
        Ok(Self { theta, scaling })
    }

    /// Whether angles depend on the length of the longest sequence.
    pub fn depends_on_length(&self) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { .. })
    }

    /// Inverse frequencies `[k / 2]`, float32 on `device`, for sequences of up to `longest` tokens.
    ///
    /// The operations and their order are those of transformers' `ROPE_INIT_FUNCTIONS`, so both
    /// agree to the bit. For `dynamic`, transformers remembers the longest sequence it has seen;
    /// here only `longest` counts.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn inverse_frequencies(&self, head_dim: i64, longest: i64, device: Device) -> Result<Tensor, Error> {
        let base = match self.scaling {
            RopeScaling::Dynamic { factor, original_length } => {
                let stretch = factor * longest.max(original_length) as f64 / original_length as f64 - (factor - 1.0);
                self.theta * stretch.powf(head_dim as f64 / (head_dim - 2) as f64)
            }
            _ => self.theta,
        };
        let exponents =
            Tensor::f_arange_start_step(0, head_dim, 2, (Kind::Float, device))?.f_div_scalar(head_dim as f64)?;
        let frequencies = Tensor::f_pow_scalar(base, &exponents)?.f_reciprocal()?;
        match self.scaling {
            RopeScaling::None | RopeScaling::Dynamic { .. } => Ok(frequencies),
            RopeScaling::Linear { factor } => Ok(frequencies.f_div_scalar(factor)?),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => {
                let original_length = original_length as f64;
                let wavelengths = frequencies.f_reciprocal()?.f_mul_scalar(2.0 * std::f64::consts::PI)?;
                let divided = frequencies.f_div_scalar(factor)?;
                let is_low = wavelengths.f_gt(original_length / low_freq_factor)?;
                let is_high = wavelengths.f_lt(original_length / high_freq_factor)?;
                let kept_or_divided = divided.f_where_self(&is_low, &frequencies)?;
                // 0 at the low end of the ramp, 1 at the high end.
                let smooth = wavelengths
                    .f_reciprocal()?
                    .f_mul_scalar(original_length)?
                    .f_sub_scalar(low_freq_factor)?
                    .f_div_scalar(high_freq_factor - low_freq_factor)?;
                let blended = frequencies.f_mul(&smooth)?.f_sub(&divided.f_mul(&smooth.f_sub_scalar(1.0)?)?)?;
                let is_between = is_low.f_logical_or(&is_high)?.f_logical_not()?;
                Ok(blended.f_where_self(&is_between, &kept_or_divided)?)
            }
        }
    }
}
