//! The parameters of each [`RopeScaling`], as transformers' classes and functions read them.

use super::{RopeClass, RopeScaling, RopeSizes, RopeType};
use crate::Error;
use crate::config::fields::{Fields, shortened};
use serde_json::Value;

/// Where the parameters of a [`RopeScaling`] are read from.
pub(super) struct Source<'a> {
    /// The fields of the whole file.
    pub(super) fields: &'a Fields<'a>,
    /// Those of the object with the parameters.
    pub(super) nested: &'a Fields<'a>,
    pub(super) class: &'a RopeClass,
    pub(super) sizes: RopeSizes,
    /// Pairs of a head that are rotated.
    pub(super) num_pairs: i64,
}

const ORIGINAL_LENGTH: &str = "original_max_position_embeddings";

/// The scaling, and the names of the fields that belong to its type.
pub(super) fn read(rope_type: RopeType, source: Source<'_>) -> Result<(RopeScaling, &'static [&'static str]), Error> {
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
            let number =
                value.as_f64().map(|number| number as f32).filter(|number| *number > 0.0 && number.is_finite());
            number.ok_or_else(|| self.nested.error(name, format!("has {}, {}", shortened(value), wanted())))
        };
        values.iter().map(divisor).collect()
    }
}
