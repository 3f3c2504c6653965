//! Parameters of the rotary position embedding (RoFormer, arXiv 2104.09864), and the supported ways
//! of stretching it to longer contexts.

mod frequencies;

use super::fields::{Fields, shortened};
use crate::Error;
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_plain::derive_fromstr_from_deserialize;

/// Base of the wavelengths, how they are stretched, and how much of a head is rotated.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeParameters {
    /// `rope_theta`; 10,000 if the file does not have it and its family has no other default.
    pub theta: f64,
    /// How frequencies are changed for contexts longer than those of pre-training.
    pub scaling: RopeScaling,
    /// `partial_rotary_factor`: the part of a head, from its start, that is rotated. Default: 1.
    pub partial_rotary_factor: f64,
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
    /// `yarn` (arXiv 2309.00071): dimensions that turn seldom in the original length divided by
    /// `factor`, those that turn often kept, a ramp between.
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Turns in the original length from which on a dimension is kept. Default: 32.
        beta_fast: f64,
        /// Turns up to which a dimension is divided. Default: 1.
        beta_slow: f64,
        /// Whether the ends of the ramp are whole dimensions. Default: true.
        truncate: bool,
        /// What cosine and sine are multiplied with. Default: from `factor`.
        attention_factor: f64,
        /// Context length of pre-training.
        original_length: i64,
    },
    /// `longrope` (arXiv 2402.13753): each frequency has a divisor of its own, a different one for
    /// batches with a row longer than `original_length`.
    LongRope {
        /// Divisors where no row is longer, one for each rotated pair.
        short_factor: Vec<f32>,
        /// Divisors where a row is longer.
        long_factor: Vec<f32>,
        /// What cosine and sine are multiplied with. Default: from the ratio of
        /// `max_position_embeddings` and `original_length`.
        attention_factor: f64,
        /// Context length of pre-training.
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

/// What a family's class in transformers adds to the fields of the rotary embedding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RopeClass {
    /// The name of the field for the base beside the object.
    pub(crate) theta_field: &'static str,
    /// The base of a file that has none.
    pub(crate) default_theta: f64,
    /// `None`: the class rotates whole heads, whatever the file says. Otherwise the part of a file
    /// that does not say it.
    pub(crate) partial_rotary_factor: Option<f64>,
    /// `original_max_position_embeddings` of the class. Where a class has it, a file's object
    /// cannot overrule it, only the field beside the object.
    pub(crate) original_length: Option<i64>,
    /// Other names that the class takes for `longrope`.
    pub(crate) longrope_names: &'static [&'static str],
}

impl RopeClass {
    /// What most classes have.
    pub(crate) const PLAIN: Self = Self {
        theta_field: "rope_theta",
        default_theta: 10_000.0,
        partial_rotary_factor: None,
        original_length: None,
        longrope_names: &[],
    };
}

/// The rotary embedding of one type of layer.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "no family has it yet")]
pub(crate) struct LayerTypeRope {
    /// Its name in `layer_types`.
    pub(crate) name: &'static str,
    /// Its object, for messages: `rope_parameters.<name>.`
    pub(crate) prefix: &'static str,
    pub(crate) class: RopeClass,
    /// Whether `rope_scaling` of version 4 is meant for this type.
    pub(crate) takes_rope_scaling: bool,
}

/// Sizes of the model that the parameters are checked with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RopeSizes {
    pub(crate) head_dim: i64,
    pub(crate) max_position_embeddings: i64,
}

/// The names of [`RopeScaling`]'s variants.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RopeType {
    Default,
    Linear,
    Dynamic,
    Yarn,
    LongRope,
    Llama3,
}

derive_fromstr_from_deserialize!(RopeType);

/// The same, for messages.
const SUPPORTED: &str = "default, linear, dynamic, yarn, longrope and llama3";

/// What both spellings of the parameters may hold, whatever the type.
const COMMON_FIELDS: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

impl RopeParameters {
    /// Reads the parameters, and names the fields that have no effect.
    ///
    /// transformers 5 writes one object, `rope_parameters`; version 4 wrote `rope_theta` beside an
    /// optional `rope_scaling`. As in version 5.17, a `rope_scaling` that is not empty takes the
    /// place of the whole other object, and `rope_type` goes before the older `type`.
    pub(in crate::config) fn read(
        fields: &Fields<'_>,
        class: &RopeClass,
        sizes: RopeSizes,
    ) -> Result<(Self, Vec<String>), Error> {
        let empty = Map::new();
        let new = object(fields, "rope_parameters", "rope_parameters.")?;
        let old = object(fields, "rope_scaling", "rope_scaling.")?;
        let mut ignored = Vec::new();
        // Of two objects, one is ignored. One that asks for an unknown type is refused all the
        // same: nobody knows which of the two was meant.
        if let (Some(new), Some(_)) = (&new, &old) {
            rope_type(new, class)?;
            ignored.push("rope_parameters (rope_scaling takes its place)".to_owned());
        }
        let nested = old.or(new).unwrap_or_else(|| fields.nested(&empty, ""));
        if let Some(name) = nested.names().find(|name| matches!(nested.get(name), Some(Value::Object(_)))) {
            return Err(nested.error(name, "has parameters of its own; one set for all layers is supported".to_owned()));
        }
        let rope = Self::read_nested(fields, &nested, class, sizes, &mut ignored)?;
        Ok((rope, ignored))
    }

    /// Reads one set of parameters for each type of layer, and names the fields that have no
    /// effect.
    ///
    /// transformers 5 writes an object of them, `rope_parameters`, with an object for each type;
    /// version 4 wrote one field for each base, and `rope_scaling` for one of the types.
    #[allow(dead_code, reason = "no family has it yet")]
    pub(in crate::config) fn read_for_layer_types(
        fields: &Fields<'_>,
        types: &[LayerTypeRope],
        sizes: RopeSizes,
    ) -> Result<(Vec<Self>, Vec<String>), Error> {
        let empty = Map::new();
        let all = object(fields, "rope_parameters", "rope_parameters.")?;
        let scaling = fields.object("rope_scaling")?.unwrap_or(&empty);
        let mut ignored = Vec::new();
        let read = |of: &LayerTypeRope, ignored: &mut Vec<String>| -> Result<Self, Error> {
            let own = all.as_ref().map(|all| all.object(of.name)).transpose()?.flatten();
            let mut merged = own.unwrap_or(&empty).clone();
            let takes_scaling = of.takes_rope_scaling && !scaling.is_empty();
            if takes_scaling {
                merged.extend(scaling.clone());
            }
            let prefix = if takes_scaling { "rope_scaling." } else { of.prefix };
            Self::read_nested(fields, &fields.nested(&merged, prefix), &of.class, sizes, ignored)
        };
        let mut ropes = Vec::with_capacity(types.len());
        for of in types {
            ropes.push(read(of, &mut ignored)?);
        }
        if let Some(all) = &all {
            let is_type = |name: &str| types.iter().any(|of| of.name == name);
            let others = all.names().filter(|name| !is_type(name) && all.get(name).is_some());
            ignored.extend(others.map(|name| all.full_name(name)));
        }
        Ok((ropes, ignored))
    }

    fn read_nested(
        fields: &Fields<'_>,
        nested: &Fields<'_>,
        class: &RopeClass,
        sizes: RopeSizes,
        ignored: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let theta = match nested.has("rope_theta") {
            true => nested.positive("rope_theta", None)?,
            false => fields.positive(class.theta_field, Some(class.default_theta))?,
        };
        let partial_rotary_factor = partial_rotary_factor(fields, nested, class, sizes)?;
        let (rope_type, other_type) = rope_type(nested, class)?;
        if let Some(name) = other_type {
            ignored.push(nested.full_name(name));
        }
        let num_pairs = (sizes.head_dim as f64 * partial_rotary_factor) as i64 / 2;
        let (scaling, own_fields) = scaling(rope_type, Source { fields, nested, class, sizes, num_pairs })?;
        let is_known = |name: &str| COMMON_FIELDS.contains(&name) || own_fields.contains(&name);
        let unknown = nested.names().filter(|name| !is_known(name) && nested.get(name).is_some());
        ignored.extend(unknown.map(|name| nested.full_name(name)));
        Ok(Self { theta, scaling, partial_rotary_factor })
    }
}

fn object<'a>(fields: &Fields<'a>, name: &str, prefix: &'static str) -> Result<Option<Fields<'a>>, Error> {
    let object = fields.object(name)?.filter(|object| !object.is_empty());
    Ok(object.map(|object| fields.nested(object, prefix)))
}

fn partial_rotary_factor(
    fields: &Fields<'_>,
    nested: &Fields<'_>,
    class: &RopeClass,
    sizes: RopeSizes,
) -> Result<f64, Error> {
    const NAME: &str = "partial_rotary_factor";
    let Some(default) = class.partial_rotary_factor else {
        for fields in [fields, nested] {
            if fields.get(NAME).is_some() && fields.number(NAME, None)? != 1.0 {
                return Err(fields.error(NAME, "other than 1 is not supported".to_owned()));
            }
        }
        return Ok(1.0);
    };
    let from = if nested.get(NAME).is_some() { nested } else { fields };
    let factor = from.positive(NAME, Some(default))?;
    let rotated = (sizes.head_dim as f64 * factor) as i64;
    if factor > 1.0 || rotated < 2 || rotated % 2 != 0 {
        let problem = format!(
            "is {factor}, which rotates {rotated} of {} values of a head; it must be an even number of them",
            sizes.head_dim
        );
        return Err(from.error(NAME, problem));
    }
    Ok(factor)
}

/// Where the parameters of a [`RopeScaling`] are read from.
struct Source<'a> {
    /// The fields of the whole file.
    fields: &'a Fields<'a>,
    /// Those of the object with the parameters.
    nested: &'a Fields<'a>,
    class: &'a RopeClass,
    sizes: RopeSizes,
    /// Pairs of a head that are rotated.
    num_pairs: i64,
}

const ORIGINAL_LENGTH: &str = "original_max_position_embeddings";

/// The scaling, and the names of the fields that belong to its type.
fn scaling(rope_type: RopeType, source: Source<'_>) -> Result<(RopeScaling, &'static [&'static str]), Error> {
    let nested = source.nested;
    let factor = || nested.positive("factor", None);
    Ok(match rope_type {
        RopeType::Default => (RopeScaling::None, &[]),
        RopeType::Linear => (RopeScaling::Linear { factor: factor()? }, &["factor"]),
        RopeType::Dynamic => {
            let original_length = source.sizes.max_position_embeddings;
            (RopeScaling::Dynamic { factor: factor()?, original_length }, &["factor"])
        }
        RopeType::Yarn => (source.yarn()?, &YARN_FIELDS),
        RopeType::LongRope => (source.longrope()?, &LONGROPE_FIELDS),
        RopeType::Llama3 => {
            let scaling = RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: nested.positive("low_freq_factor", None)?,
                high_freq_factor: nested.positive("high_freq_factor", None)?,
                original_length: source.original_length()?,
            };
            (scaling, &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL_LENGTH])
        }
    })
}

const YARN_FIELDS: [&str; 8] =
    ["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", ORIGINAL_LENGTH];
const LONGROPE_FIELDS: [&str; 5] = ["factor", "attention_factor", "short_factor", "long_factor", ORIGINAL_LENGTH];

impl Source<'_> {
    /// Beside the object this field goes before the one inside.
    fn original_length(&self) -> Result<i64, Error> {
        match (self.fields.get(ORIGINAL_LENGTH), self.class.original_length) {
            (Some(_), _) => self.fields.count(ORIGINAL_LENGTH, None),
            (None, Some(length)) => Ok(length),
            (None, None) => self.nested.count(ORIGINAL_LENGTH, Some(self.sizes.max_position_embeddings)),
        }
    }

    /// The value of a field where `null` and 0 mean that it is absent.
    fn positive_or(&self, name: &str, default: f64) -> Result<f64, Error> {
        match self.optional_number(name)? {
            Some(number) if number != 0.0 => self.nested.positive(name, None),
            _ => Ok(default),
        }
    }

    fn optional_number(&self, name: &str) -> Result<Option<f64>, Error> {
        self.nested.get(name).map(|_| self.nested.number(name, None)).transpose()
    }

    /// The length that the model is made for, in original lengths.
    fn stretch(&self, original_length: i64) -> f64 {
        self.sizes.max_position_embeddings as f64 / original_length as f64
    }

    fn yarn(&self) -> Result<RopeScaling, Error> {
        let nested = self.nested;
        let original_length = self.original_length()?;
        let factor = match nested.is_null("factor") {
            true => self.stretch(original_length),
            false => nested.positive("factor", None)?,
        };
        let magnitude = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let weights = [self.positive_or("mscale", 0.0)?, self.positive_or("mscale_all_dim", 0.0)?];
        let attention_factor = match (self.optional_number("attention_factor")?, weights) {
            (Some(stated), _) => stated,
            (None, [0.0, _] | [_, 0.0]) => magnitude(1.0),
            (None, [weight, weight_of_all]) => magnitude(weight) / magnitude(weight_of_all),
        };
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: self.positive_or("beta_fast", 32.0)?,
            beta_slow: self.positive_or("beta_slow", 1.0)?,
            truncate: nested.flag("truncate", true)?,
            attention_factor,
            original_length,
        })
    }

    fn longrope(&self) -> Result<RopeScaling, Error> {
        let original_length = self.original_length()?;
        let factor = match self.nested.get("factor") {
            Some(_) => self.nested.positive("factor", None)?,
            None => self.stretch(original_length),
        };
        let attention_factor = match self.optional_number("attention_factor")? {
            Some(stated) => stated,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / (original_length as f64).ln()).sqrt(),
        };
        Ok(RopeScaling::LongRope {
            short_factor: self.divisors("short_factor")?,
            long_factor: self.divisors("long_factor")?,
            attention_factor,
            original_length,
        })
    }

    fn divisors(&self, name: &str) -> Result<Vec<f32>, Error> {
        let wanted = || format!("must be a list of {} numbers above 0", self.num_pairs);
        let values = match self.nested.get(name) {
            None => return Err(self.nested.error(name, format!("is missing; it {}", wanted()))),
            Some(Value::Array(values)) if i64::try_from(values.len()) == Ok(self.num_pairs) => values,
            Some(Value::Array(values)) => {
                return Err(self.nested.error(name, format!("has {} entries, {}", values.len(), wanted())));
            }
            Some(other) => return Err(self.nested.error(name, format!("is {}, {}", shortened(other), wanted()))),
        };
        let divisor = |value: &Value| {
            let number = value.as_f64().filter(|number| *number > 0.0);
            number.ok_or_else(|| self.nested.error(name, format!("has {}, {}", shortened(value), wanted())))
        };
        values.iter().map(|value| Ok(divisor(value)? as f32)).collect()
    }
}

/// The type that counts, and the name of a second one that does not because it differs.
fn rope_type(fields: &Fields<'_>, class: &RopeClass) -> Result<(RopeType, Option<&'static str>), Error> {
    let mut types = Vec::new();
    for name in ["rope_type", "type"] {
        if fields.is_null(name) && types.is_empty() {
            return Err(fields.error(name, format!("is null; {SUPPORTED} are supported")));
        }
        let Some(text) = fields.text(name)? else { continue };
        let parsed = match class.longrope_names.contains(&text) {
            true => RopeType::LongRope,
            false => {
                text.parse().map_err(|_| fields.error(name, format!("\"{text}\" is not supported; {SUPPORTED} are")))?
            }
        };
        types.push((text, parsed));
    }
    let differ = types.len() == 2 && types[0].0 != types[1].0;
    let first = types.into_iter().next().map_or(RopeType::Default, |(_, parsed)| parsed);
    Ok((first, differ.then_some("type")))
}

#[cfg(test)]
mod tests;
