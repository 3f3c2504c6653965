//! One JSON value of a limited size, in which no column may occur twice.

use super::super::Record;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::Value;
use std::cell::Cell;
use std::fmt;

/// The most values that a record may hold, lists and objects included. Each takes some 70 bytes of
/// memory and as little as two of the file.
const MAX_VALUES: u64 = 8_000_000;

/// A value that may be a record. If an object has a key twice, that is an error, because
/// `serde_json` would keep the last value without a word. Objects inside it may have one: Python
/// keeps the last value there too.
pub(super) struct Item(pub(super) Value);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let left = Cell::new(MAX_VALUES);
        Part { left: &left, place: Place::Whole }.deserialize(deserializer).map(Item)
    }
}

/// A value, or a value inside it.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// How many more values there may be.
    left: &'a Cell<u64>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Whole,
    Inside,
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| D::Error::custom(format_args!("a row of more than {MAX_VALUES} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut record = Record::new();
        while let Some(name) = entries.next_key::<String>()? {
            if self.place == Place::Whole && record.contains_key(&name) {
                return Err(Error::custom(format_args!("the column `{name}` is there twice")));
            }
            record.insert(name, entries.next_value_seed(Part { place: Place::Inside, ..self })?);
        }
        Ok(Value::Object(record))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Part { place: Place::Inside, ..self })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// Passes on the items of an array, one at a time, or those of an array that is a field of an
/// object.
pub(super) struct Items<'a, F> {
    /// The field that holds the array. `None` for an array that is the whole document.
    pub(super) field: Option<&'a str>,
    /// Returns whether to go on.
    pub(super) on_item: F,
}

impl<'de, F: FnMut(Value) -> bool> DeserializeSeed<'de> for &mut Items<'_, F> {
    /// Whether the array was found.
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for &mut Items<'_, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.field.is_some() { "an object" } else { "a list of rows" })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        if self.field.is_some() {
            return Err(Error::invalid_type(de::Unexpected::Seq, &self));
        }
        while let Some(Item(item)) = items.next_element()? {
            if !(self.on_item)(item) {
                return Err(Error::custom("stopped"));
            }
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<bool, A::Error> {
        let Some(field) = self.field else {
            return Err(Error::invalid_type(de::Unexpected::Map, &self));
        };
        let mut is_found = false;
        while let Some(name) = entries.next_key::<String>()? {
            if name == field && !is_found {
                self.field = None;
                is_found = entries.next_value_seed(&mut *self)?;
                self.field = Some(field);
            } else if name == field {
                return Err(Error::custom(format_args!("the field `{name}` is there twice")));
            } else {
                entries.next_value::<de::IgnoredAny>()?;
            }
        }
        Ok(is_found)
    }
}
