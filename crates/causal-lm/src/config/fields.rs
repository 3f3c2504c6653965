//! Typed access to the fields of config.json.
//!
//! As in transformers, a field that is absent has its default. `null` is a value of the optional
//! fields only.

use crate::{Error, untrusted};
use serde_json::{Map, Value};
use std::path::Path;

pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a Path,
    prefix: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Map<String, Value>, path: &'a Path) -> Self {
        Self { object, path, prefix: "" }
    }

    /// The fields of an object inside this one. `prefix` is its name with a dot, for messages.
    pub(crate) fn nested(&self, object: &'a Map<String, Value>, prefix: &'static str) -> Self {
        Self { object, path: self.path, prefix }
    }

    /// The field's value, if it is neither absent nor `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Whether the field is there. It may be `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(Value::is_null)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.object.keys().map(String::as_str)
    }

    /// The field as messages name it.
    pub(crate) fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn error(&self, name: &str, problem: String) -> Error {
        Error::Config { path: self.path.to_owned(), field: self.full_name(name), problem }
    }

    fn read<T>(
        &self,
        name: &str,
        wanted: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(self.error(name, format!("is {}, must be {wanted}", shortened(value)))),
        }
    }

    /// The value, or the default of a field that is absent. `null` is refused.
    fn required<T>(&self, name: &str, value: Option<T>, default: Option<T>) -> Result<T, Error> {
        if self.is_null(name) {
            return Err(self.error(name, "is missing: null is not a value for it".to_owned()));
        }
        value.or(default).ok_or_else(|| self.error(name, "is missing".to_owned()))
    }

    pub(crate) fn optional_count(&self, name: &str) -> Result<Option<i64>, Error> {
        self.read(name, "a whole number above 0", |value| value.as_i64().and_then(untrusted::config::count))
    }

    pub(crate) fn count(&self, name: &str, default: Option<i64>) -> Result<i64, Error> {
        let value = self.optional_count(name)?;
        self.required(name, value, default)
    }

    /// The value or the default of an optional field, in which `null` has a meaning of its own.
    pub(crate) fn count_or_null(&self, name: &str, default: i64) -> Result<Option<i64>, Error> {
        if self.has(name) { self.optional_count(name) } else { Ok(Some(default)) }
    }

    pub(crate) fn whole_number(&self, name: &str, default: i64) -> Result<i64, Error> {
        let value = self.read(name, "a whole number", Value::as_i64)?;
        self.required(name, value, Some(default))
    }

    pub(crate) fn number(&self, name: &str, default: Option<f64>) -> Result<f64, Error> {
        let value = self.read(name, "a number", Value::as_f64)?;
        self.required(name, value, default)
    }

    pub(crate) fn positive(&self, name: &str, default: Option<f64>) -> Result<f64, Error> {
        let value = self.read(name, "a number above 0", |value| value.as_f64().filter(|number| *number > 0.0))?;
        self.required(name, value, default)
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Error> {
        let value = self.read(name, "true or false", Value::as_bool)?;
        self.required(name, value, Some(default))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        self.read(name, "a string", Value::as_str)
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Error> {
        self.read(name, "an object", Value::as_object)
    }
}

/// A value as JSON, cut off where a message would become too long.
pub(crate) fn shortened(value: &Value) -> String {
    const SHOWN: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
