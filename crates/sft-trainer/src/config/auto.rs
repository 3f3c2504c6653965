use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// An option that `auto` leaves to the run: `None`, or a value that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auto<T>(pub Option<T>);

const NAME: &str = "auto";

impl<T> Default for Auto<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Serialize> Serialize for Auto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(NAME),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) if name == NAME => Ok(Self(None)),
            value => T::deserialize(value).map(|value| Self(Some(value))).map_err(serde::de::Error::custom),
        }
    }
}
