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

/// What both spellings of the parameters may hold, whatever the type.
const COMMON_FIELDS: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

impl RopeParameters {
    /// Reads the parameters, and names the fields that have no effect.
    ///
    /// transformers 5 writes one object, `rope_parameters`; version 4 wrote `rope_theta` beside an
    /// optional `rope_scaling`. As in version 5.17, a `rope_scaling` that is not empty takes the
    /// place of the whole other object, and `rope_type` goes before the older `type`.
    pub(super) fn read(fields: &Fields<'_>, max_position_embeddings: i64) -> Result<(Self, Vec<String>), Error> {
        let empty = serde_json::Map::new();
        let nested = |name, prefix| -> Result<_, Error> {
            let object = fields.object(name)?.filter(|object| !object.is_empty());
            object.map(|object| Ok(fields.nested(object, prefix))).transpose()
        };
        let new = nested("rope_parameters", "rope_parameters.")?;
        let old = nested("rope_scaling", "rope_scaling.")?;
        let mut ignored = Vec::new();
        // Of two objects, one is ignored. One that asks for an unknown type is refused all the
        // same: nobody knows which of the two was meant.
        if let (Some(new), Some(_)) = (&new, &old) {
            rope_type(new)?;
            ignored.push("rope_parameters (rope_scaling takes its place)".to_owned());
        }
        let nested = old.or(new).unwrap_or_else(|| fields.nested(&empty, ""));

        let theta = match nested.has("rope_theta") {
            true => nested.positive("rope_theta", None)?,
            false => fields.positive("rope_theta", Some(10_000.0))?,
        };
        for fields in [fields, &nested] {
            if fields.get("partial_rotary_factor").is_some() && fields.number("partial_rotary_factor", None)? != 1.0 {
                return Err(fields.error("partial_rotary_factor", "other than 1 is not supported".to_owned()));
            }
        }
        let (rope_type, other_type) = rope_type(&nested)?;
        if let Some(name) = other_type {
            ignored.push(nested.full_name(name));
        }
        let (scaling, own_fields): (_, &[&str]) = match rope_type {
            RopeType::Default => (RopeScaling::None, &[]),
            RopeType::Linear => (RopeScaling::Linear { factor: nested.positive("factor", None)? }, &["factor"]),
            RopeType::Dynamic => {
                let factor = nested.positive("factor", None)?;
                (RopeScaling::Dynamic { factor, original_length: max_position_embeddings }, &["factor"])
            }
            RopeType::Llama3 => {
                let name = "original_max_position_embeddings";
                // Beside the object this field goes before the one inside.
                let original_length = match fields.get(name) {
                    Some(_) => fields.count(name, None)?,
                    None => nested.count(name, Some(max_position_embeddings))?,
                };
                let scaling = RopeScaling::Llama3 {
                    factor: nested.positive("factor", None)?,
                    low_freq_factor: nested.positive("low_freq_factor", None)?,
                    high_freq_factor: nested.positive("high_freq_factor", None)?,
                    original_length,
                };
                (scaling, &["factor", "low_freq_factor", "high_freq_factor", name])
            }
        };
        let is_known = |name: &str| COMMON_FIELDS.contains(&name) || own_fields.contains(&name);
        let unknown = nested.names().filter(|name| !is_known(name) && nested.get(name).is_some());
        if let Some(name) = nested.names().find(|name| matches!(nested.get(name), Some(serde_json::Value::Object(_)))) {
            return Err(nested.error(name, "has parameters of its own; one set for all layers is supported".to_owned()));
        }
        ignored.extend(unknown.map(|name| nested.full_name(name)));
        Ok((Self { theta, scaling }, ignored))
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

/// The type that counts, and the name of a second one that does not because it differs.
fn rope_type(fields: &Fields<'_>) -> Result<(RopeType, Option<&'static str>), Error> {
    let mut types = Vec::new();
    for name in ["rope_type", "type"] {
        if fields.is_null(name) && types.is_empty() {
            return Err(fields.error(name, "is null; default, linear, dynamic and llama3 are supported".to_owned()));
        }
        let Some(text) = fields.text(name)? else { continue };
        let parsed: RopeType = text.parse().map_err(|_| {
            let problem = format!("\"{text}\" is not supported; default, linear, dynamic and llama3 are");
            fields.error(name, problem)
        })?;
        types.push((text, parsed));
    }
    let differ = types.len() == 2 && types[0].0 != types[1].0;
    let first = types.into_iter().next().map_or(RopeType::Default, |(_, parsed)| parsed);
    Ok((first, differ.then_some("type")))
}
