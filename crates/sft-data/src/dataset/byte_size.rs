//! Sizes in bytes, as people write and read them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A number of bytes. It is read from a number or from a text such as `8GiB`, `1.5 GB` or `500M`:
/// `K`, `M`, `G` and `T` mean powers of 1024, as `KiB` does, and `KB` means 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const BINARY_UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = (self.0.max(1).ilog2() / 10).min(4);
        let number = format!("{:.1}", self.0 as f64 / 1024_f64.powi(power as i32));
        write!(f, "{} {}", number.trim_end_matches(".0"), BINARY_UNITS[power as usize])
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" | "bytes" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024_f64.powi(2),
            "g" | "gib" => 1024_f64.powi(3),
            "t" | "tib" => 1024_f64.powi(4),
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            _ => return Err(format!("{text:?} is not a size; write a number of bytes or a text such as 8GiB")),
        };
        let number: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a size; write a number of bytes or a text such as 8GiB"))?;
        Ok(Self((number * factor) as u64))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a text such as 8GiB")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_numbers_or_texts() {
        for (value, bytes) in [
            (json!(4096), 4096),
            (json!("4096"), 4096),
            (json!("8GiB"), 8 << 30),
            (json!("8g"), 8 << 30),
            (json!("1.5 MiB"), 3 << 19),
            (json!("2 GB"), 2_000_000_000),
        ] {
            assert_eq!(serde_json::from_value::<ByteSize>(value.clone()).unwrap(), ByteSize(bytes), "{value}");
        }
        for value in [json!("8 apples"), json!("GiB"), json!(""), json!(-1), json!([1]), json!("1.2.3M")] {
            let error = serde_json::from_value::<ByteSize>(value.clone()).unwrap_err().to_string();
            assert!(error.contains("8GiB") || error.contains("not negative"), "{value}: {error}");
        }
    }

    #[test]
    fn sizes_are_readable() {
        for (bytes, expected) in [(0, "0 bytes"), (1000, "1000 bytes"), (1 << 20, "1 MiB"), (1_500_000, "1.4 MiB")] {
            assert_eq!(ByteSize(bytes).to_string(), expected);
        }
    }
}
