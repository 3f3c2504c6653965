//! Types that weights are held and saved in, by their names.

use serde::{Deserialize, Serialize};
use serde_plain::{derive_display_from_serialize, derive_fromstr_from_deserialize};
use tch::Kind;

/// The type of a model's weights. Its name is that of config.json's `dtype`.
///
/// ```
/// use causal_lm::WeightDtype;
/// use tch::Kind;
///
/// assert_eq!("bf16".parse::<WeightDtype>()?.kind(), Some(Kind::BFloat16));
/// assert_eq!("torch.float16".parse::<WeightDtype>()?.to_string(), "float16");
/// assert_eq!("auto".parse::<WeightDtype>()?.kind(), None);
/// # Ok::<(), serde_plain::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum WeightDtype {
    /// The type that the model's folder has.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 8 bits of exponent, 8 significant bits.
    #[serde(rename = "bfloat16", alias = "bf16", alias = "torch.bfloat16", alias = "torch.bf16")]
    BFloat16,
    /// IEEE half precision: 5 bits of exponent, 11 significant bits.
    #[serde(rename = "float16", alias = "fp16", alias = "torch.float16", alias = "torch.fp16")]
    Float16,
    /// IEEE single precision.
    #[serde(rename = "float32", alias = "fp32", alias = "torch.float32", alias = "torch.fp32")]
    Float32,
}

derive_display_from_serialize!(WeightDtype);
derive_fromstr_from_deserialize!(WeightDtype);

impl WeightDtype {
    /// tch's name of the type; `None` for [`WeightDtype::Auto`].
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Auto => None,
            Self::BFloat16 => Some(Kind::BFloat16),
            Self::Float16 => Some(Kind::Half),
            Self::Float32 => Some(Kind::Float),
        }
    }

    /// The type by tch's name; `None` for what weights are not saved in.
    pub fn from_kind(kind: Kind) -> Option<Self> {
        match kind {
            Kind::BFloat16 => Some(Self::BFloat16),
            Kind::Half => Some(Self::Float16),
            Kind::Float => Some(Self::Float32),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_aliases_are_read() {
        for (names, kind) in [
            (["bfloat16", "bf16", "torch.bfloat16"], Kind::BFloat16),
            (["float16", "fp16", "torch.float16"], Kind::Half),
            (["float32", "fp32", "torch.float32"], Kind::Float),
        ] {
            let dtype = WeightDtype::from_kind(kind).unwrap();
            assert_eq!(dtype.to_string(), names[0]);
            assert_eq!(dtype.kind(), Some(kind));
            for name in names {
                assert_eq!(name.parse::<WeightDtype>().unwrap(), dtype, "{name}");
            }
        }
        assert_eq!("auto".parse::<WeightDtype>().unwrap(), WeightDtype::Auto);
        assert!("float64".parse::<WeightDtype>().is_err());
        assert_eq!(WeightDtype::from_kind(Kind::Double), None);
    }
}
