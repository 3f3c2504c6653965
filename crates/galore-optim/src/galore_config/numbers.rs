//! Two settings that are a number or follow from the weight's shape.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How many basis vectors a subspace has. In files and texts a whole number is [`Rank::Vectors`],
/// as in Hugging Face, and a number with a decimal point is [`Rank::Fraction`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rank {
    /// This many, at least 1. Values above the shorter side of a weight have the effect of that
    /// side.
    Vectors(i64),
    /// This fraction of the shorter side of a weight, rounded up; above 0 and at most 1.
    ///
    /// A fixed rank is much for narrow weights and little for wide ones: 1024 is full rank for the
    /// keys and values of Llama-3-8B (1024 × 4096).
    Fraction(f64),
}

impl Rank {
    /// The number of vectors for a weight with this shorter side.
    pub(super) fn of(self, shorter: i64) -> i64 {
        match self {
            Rank::Vectors(count) => count.min(shorter),
            Rank::Fraction(fraction) => ((fraction * shorter as f64).ceil() as i64).min(shorter).max(1.min(shorter)),
        }
    }

    /// What is wrong with the value.
    pub(crate) fn problem(self) -> Option<&'static str> {
        match self {
            Rank::Vectors(count) if count < 1 => Some("must be at least 1"),
            Rank::Fraction(fraction) if !(fraction > 0.0 && fraction <= 1.0) => {
                Some("must be a whole number, or a fraction above 0 and at most 1 such as 0.25")
            }
            _ => None,
        }
    }
}

impl From<i64> for Rank {
    fn from(count: i64) -> Self {
        Rank::Vectors(count)
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rank::Vectors(count) => write!(f, "{count}"),
            Rank::Fraction(fraction) => write!(f, "{fraction:?}"),
        }
    }
}

impl FromStr for Rank {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fraction = || f64::from_str(text).map(Rank::Fraction);
        let rank = i64::from_str(text).map(Rank::Vectors).or_else(|_| fraction());
        rank.map_err(|_| format!("rank {text}: must be a number"))
    }
}

/// The factor on the back-projected update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// This number.
    Factor(f64),
    /// √(shorter side / rank), so that the learning rate means the same at every rank.
    ///
    /// Adam's direction has elements of size about 1, and the projection back spreads `r` of them
    /// over `min(rows, cols)`: the update is √(r / min(rows, cols)) times as large as that of
    /// AdamW. At full rank this is 1. Written `auto`.
    Auto,
}

const AUTO: &str = "auto";

impl Scale {
    /// The factor for a weight with this shorter side and this rank.
    pub(super) fn of(self, shorter: i64, rank: i64) -> f64 {
        match self {
            Scale::Factor(factor) => factor,
            Scale::Auto => (shorter.max(1) as f64 / rank.max(1) as f64).sqrt(),
        }
    }

    /// What is wrong with the value.
    pub(crate) fn problem(self) -> Option<&'static str> {
        match self {
            Scale::Factor(factor) if !factor.is_finite() => Some("must be a finite number, or auto"),
            _ => None,
        }
    }
}

impl From<f64> for Scale {
    fn from(factor: f64) -> Self {
        Scale::Factor(factor)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scale::Factor(factor) => write!(f, "{factor}"),
            Scale::Auto => f.write_str(AUTO),
        }
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == AUTO {
            return Ok(Scale::Auto);
        }
        f64::from_str(text).map(Scale::Factor).map_err(|_| format!("scale {text}: must be a number, or auto"))
    }
}

impl Serialize for Scale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Scale::Factor(factor) => serializer.serialize_f64(*factor),
            Scale::Auto => serializer.serialize_str(AUTO),
        }
    }
}

impl<'de> Deserialize<'de> for Scale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "scale must be a number, or \"auto\"")]
        enum Written {
            Number(f64),
            Word(Word),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            Auto,
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Number(factor) => Scale::Factor(factor),
            Written::Word(Word::Auto) => Scale::Auto,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_round_up_and_whole_numbers_stop_at_the_shorter_side() {
        let of = |rank: Rank, shorter| rank.of(shorter);
        assert_eq!((of(Rank::Fraction(0.25), 1024), of(Rank::Fraction(0.25), 10)), (256, 3));
        assert_eq!((of(Rank::Fraction(1.0), 7), of(Rank::Fraction(1e-9), 7)), (7, 1));
        assert_eq!((of(Rank::Vectors(1024), 512), of(Rank::Vectors(8), 512)), (512, 8));
        for bad in [0.0, -0.5, 1.5, f64::NAN] {
            assert!(Rank::Fraction(bad).problem().is_some(), "{bad}");
        }
    }

    #[test]
    fn automatic_scale_is_one_at_full_rank() {
        assert_eq!(Scale::Auto.of(576, 576), 1.0);
        assert_eq!(Scale::Auto.of(1024, 256), 2.0);
        assert_eq!(Scale::Factor(1.8).of(1024, 256), 1.8);
    }

    #[test]
    fn both_are_written_as_they_are_read() {
        for (rank, text) in [(Rank::Vectors(8), "8"), (Rank::Fraction(0.25), "0.25"), (Rank::Fraction(1.0), "1.0")] {
            assert_eq!((text.parse(), rank.to_string()), (Ok(rank), text.to_owned()));
            assert_eq!(serde_json::to_string(&rank).unwrap(), text);
            assert_eq!(serde_json::from_str::<Rank>(text).unwrap(), rank);
        }
        for (scale, text) in [(Scale::Factor(1.5), "1.5"), (Scale::Auto, "\"auto\"")] {
            assert_eq!(serde_json::to_string(&scale).unwrap(), text);
            assert_eq!(serde_json::from_str::<Scale>(text).unwrap(), scale);
        }
        assert!(serde_json::from_str::<Scale>("\"large\"").unwrap_err().to_string().contains("\"auto\""));
    }
}
