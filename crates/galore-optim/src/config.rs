//! Settings: Adam's constants, and how low-precision weights take an update.

use crate::Error;
use serde::{Deserialize, Serialize};
use serde_plain::{derive_display_from_serialize, derive_fromstr_from_deserialize};

/// Adam's constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamConfig {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, per unit of learning rate.
    pub weight_decay: f64,
    /// Type of the moments. Default: float32.
    #[serde(default)]
    pub moments: MomentDtype,
}

/// Type of the moments and of the bases. Steps are computed in float32 with either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentDtype {
    /// float32 moments and bases. The default.
    #[default]
    Float32,
    /// bfloat16 moments, rounded stochastically, and float16 bases: half the memory. The 11 bits of
    /// a float16's mantissa are what a GPU's TF32 products use of a float32.
    Bfloat16,
}

derive_display_from_serialize!(MomentDtype);
derive_fromstr_from_deserialize!(MomentDtype);

impl MomentDtype {
    pub(crate) fn kind(self) -> tch::Kind {
        match self {
            MomentDtype::Float32 => tch::Kind::Float,
            MomentDtype::Bfloat16 => tch::Kind::BFloat16,
        }
    }

    pub(crate) fn basis_kind(self) -> tch::Kind {
        match self {
            MomentDtype::Float32 => tch::Kind::Float,
            MomentDtype::Bfloat16 => tch::Kind::Half,
        }
    }
}

impl AdamConfig {
    /// What Hugging Face's `galore_adamw` runs with, the defaults of galore-torch: betas 0.9 and
    /// 0.999, epsilon 1e-6, no weight decay; moments in float32.
    pub fn galore_default() -> Self {
        AdamConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-6, weight_decay: 0.0, moments: MomentDtype::Float32 }
    }

    /// What `adamw_torch` runs with by the defaults of Hugging Face's `TrainingArguments`: betas
    /// 0.9 and 0.999, epsilon 1e-8, no weight decay; moments in float32.
    pub fn torch_default() -> Self {
        AdamConfig { epsilon: 1e-8, ..Self::galore_default() }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] lists all fields that are out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        for (field, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                problems.push(format!("{field} = {value}: must be in [0, 1)"));
            }
        }
        for (field, value) in [("epsilon", self.epsilon), ("weight_decay", self.weight_decay)] {
            if !value.is_finite() || value < 0.0 {
                problems.push(format!("{field} = {value}: must be finite and not negative"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }
}

/// How bfloat16 and float16 weights take a float32 update. Float32 weights are updated directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum WeightUpdate {
    /// 16 hidden bits beside each bfloat16 weight make it a lossless float32 master, for 2 bytes a
    /// parameter. The bits of a float16 are not half of a float32, so a float16 weight has a whole
    /// float32 master beside it, for 4 bytes a parameter.
    Exact,
    /// Rounded up or down at random so that the mean is right. The seed is the only state. Not for
    /// float16.
    Stochastic {
        /// Seed of the random bits. They depend on it and on the step, the parameter's name and the
        /// element.
        seed: u64,
    },
    /// Rounded to nearest, ties to even, as Hugging Face does. Updates below half a unit in the
    /// last place are lost.
    Nearest,
}
