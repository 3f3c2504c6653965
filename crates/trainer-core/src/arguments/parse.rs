//! Reading values as Hugging Face's parser does.
//!
//! Its configuration files go through `argparse`, which turns a text into the type of its option.
//! So `"2e-5"` is a number (YAML 1.1 makes a text of `2e-5`), and `"yes"` is true. `None` has its
//! own meaning for some options; each has a function here.

use super::InputTokens;
use crate::schedule::SchedulerKwargs;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A value of a file, before it has a type.
#[derive(Deserialize)]
#[serde(transparent)]
struct Given(Value);

impl Given {
    fn is_none(&self) -> bool {
        self.0.is_null()
    }

    fn invalid<E: Error>(&self, expected: &str) -> E {
        let found = match &self.0 {
            Value::Null => Unexpected::Other("null"),
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Number(value) => match (value.as_i64(), value.as_f64()) {
                (Some(whole), _) => Unexpected::Signed(whole),
                (None, number) => Unexpected::Float(number.unwrap_or(f64::INFINITY)),
            },
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Other("a list"),
            Value::Object(_) => Unexpected::Other("an object"),
        };
        E::invalid_value(found, &expected)
    }

    /// The number, as Python's `float` reads it.
    fn number(&self) -> Option<f64> {
        match &self.0 {
            Value::Number(value) => value.as_f64(),
            Value::String(text) => without_underscores(text)?.parse().ok(),
            _ => None,
        }
    }

    /// The whole number, as Python's `int` reads it. A number without a fraction is one too.
    fn whole(&self) -> Option<i128> {
        match &self.0 {
            Value::Number(value) => match (value.as_i128(), value.as_f64()) {
                (Some(whole), _) => Some(whole),
                (None, Some(number)) if number.fract() == 0.0 && number.abs() < 9e15 => Some(number as i128),
                _ => None,
            },
            Value::String(text) => without_underscores(text)?.parse().ok(),
            _ => None,
        }
    }

    /// The truth value, as `string_to_bool` of transformers reads it.
    fn truth(&self) -> Option<bool> {
        match &self.0 {
            Value::Bool(value) => Some(*value),
            Value::Number(value) => match value.as_i64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "true" | "t" | "y" | "1" => Some(true),
                "no" | "false" | "f" | "n" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The text of a number without the spaces around it and the underscores between its digits, which
/// Python allows. `None` where an underscore is elsewhere.
fn without_underscores(text: &str) -> Option<String> {
    let text = text.trim();
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let is_between_digits =
        |(at, _): (usize, &str)| is_digit(bytes.get(at.wrapping_sub(1))) && is_digit(bytes.get(at + 1));
    text.match_indices('_').all(is_between_digits).then(|| text.replace('_', ""))
}

const NUMBER: &str = "a number";
const WHOLE: &str = "a whole number";
const COUNT: &str = "a whole number of 0 or more";
const TRUTH: &str = "true or false";

pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let given = Given::deserialize(from)?;
    given.number().ok_or_else(|| given.invalid(NUMBER))
}

/// A number for which `null` means 0: no clipping, no warm-up.
pub(super) fn number_or_zero<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let given = Given::deserialize(from)?;
    if given.is_none() { Ok(0.0) } else { given.number().ok_or_else(|| given.invalid(NUMBER)) }
}

pub(super) fn number_if_given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let given = Given::deserialize(from)?;
    if given.is_none() { Ok(None) } else { given.number().map(Some).ok_or_else(|| given.invalid(NUMBER)) }
}

/// A number of steps for which 0 means the same as `null`.
pub(super) fn steps_unless_zero<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(number_if_given(from)?.filter(|steps| *steps != 0.0))
}

pub(super) fn signed<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let given = Given::deserialize(from)?;
    given.whole().and_then(|value| value.try_into().ok()).ok_or_else(|| given.invalid(WHOLE))
}

pub(super) fn count<'de, T: TryFrom<i128>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let given = Given::deserialize(from)?;
    given.whole().and_then(|value| value.try_into().ok()).ok_or_else(|| given.invalid(COUNT))
}

pub(super) fn count_if_given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let given = Given::deserialize(from)?;
    if given.is_none() {
        return Ok(None);
    }
    let value = given.whole().and_then(|value| value.try_into().ok());
    value.map(Some).ok_or_else(|| given.invalid(COUNT))
}

/// A name, or a truth value, which an earlier version of transformers had.
pub(super) fn input_tokens<'de, D: Deserializer<'de>>(from: D) -> Result<InputTokens, D::Error> {
    let given = Given::deserialize(from)?;
    let named = given.0.as_str().and_then(|name| name.parse().ok());
    let switched = given.truth().map(|is_on| if is_on { InputTokens::All } else { InputTokens::No });
    named.or(switched).ok_or_else(|| given.invalid("no, all, non_padding, true or false"))
}

/// A limit for which 0, a negative number and `null` mean that there is none.
pub(super) fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let given = Given::deserialize(from)?;
    if given.is_none() {
        return Ok(None);
    }
    let value = given.whole().ok_or_else(|| given.invalid(WHOLE))?;
    Ok(usize::try_from(value).ok().filter(|limit| *limit > 0))
}

pub(super) fn truth<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let given = Given::deserialize(from)?;
    given.truth().ok_or_else(|| given.invalid(TRUTH))
}

pub(super) fn truth_if_given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    let given = Given::deserialize(from)?;
    if given.is_none() { Ok(None) } else { given.truth().map(Some).ok_or_else(|| given.invalid(TRUTH)) }
}

/// Parameters of the schedule: an object, the JSON text of one, or `null` for none.
pub(super) fn scheduler_kwargs<'de, D: Deserializer<'de>>(from: D) -> Result<SchedulerKwargs, D::Error> {
    match Value::deserialize(from)? {
        Value::Null => Ok(SchedulerKwargs::default()),
        Value::String(text) if text.starts_with('{') => serde_json::from_str(&text).map_err(Error::custom),
        value => SchedulerKwargs::deserialize(value).map_err(Error::custom),
    }
}
