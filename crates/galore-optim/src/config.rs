//! Settings: the projection, Adam's constants, and how low-precision weights take an update.

use crate::Error;
use serde::{Deserialize, Serialize};
use serde_plain::{derive_display_from_serialize, derive_fromstr_from_deserialize};

/// Which side of a gradient `G [rows, cols]` is projected. The names are those of galore-torch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectionType {
    /// The shorter side: right if rows ≥ cols, else left. The default.
    #[default]
    Std,
    /// The longer side: left if rows ≥ cols, else right.
    ReverseStd,
    /// `R = G V`, with the leading right singular vectors.
    Right,
    /// `R = Uᵀ G`, with the leading left singular vectors.
    Left,
    /// `R = Uᵀ G V`, with both.
    Full,
}

derive_display_from_serialize!(ProjectionType);
derive_fromstr_from_deserialize!(ProjectionType);

/// When the targets' subspaces are refreshed. Each is refreshed before the target's first step and
/// then once in every `update_proj_gap` steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshTiming {
    /// All on the same step, as in Hugging Face transformers. The default.
    #[default]
    Together,
    /// Spread evenly over the gap, so that no step is much longer than another. On a GPU up to 24
    /// neighbours of one shape stay together, because they take no longer than a few. On the CPU
    /// each target has its own step, as long as the gap has enough steps.
    Staggered,
}

derive_display_from_serialize!(RefreshTiming);
derive_fromstr_from_deserialize!(RefreshTiming);

/// How a subspace is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubspaceSolver {
    /// [`SubspaceSolver::Svd`] on the CPU, [`SubspaceSolver::Eigenvectors`] on a GPU. The default.
    #[default]
    Auto,
    /// By the gradient's singular value decomposition, matrix by matrix, as in galore-torch.
    Svd,
    /// By leading eigenvectors of the gradient's Gram matrix: iterative if at most half of them are
    /// wanted, else exact. They hold as much of the gradient as singular vectors do (at least 0.999
    /// of its energy), and take a fraction of the time on a GPU and at small ranks. Each vector
    /// gets the sign that points along its predecessor, which keeps first moments meaningful across
    /// a refresh.
    Eigenvectors,
}

derive_display_from_serialize!(SubspaceSolver);
derive_fromstr_from_deserialize!(SubspaceSolver);

/// The gradient projection of GaLore ([2403.03507](https://arxiv.org/abs/2403.03507), algorithm 2).
///
/// The defaults are those of `optim_args` in Hugging Face transformers: rank 128, gap 200,
/// scale 0.25, std, all targets refreshed together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GaLoreConfig {
    /// Number of singular vectors to keep, at least 1. Values above the shorter side of a weight
    /// have the effect of that side.
    pub rank: i64,
    /// Steps between two refreshes of a subspace, at least 1.
    pub update_proj_gap: i64,
    /// Factor on the back-projected update (α in the paper).
    pub scale: f64,
    /// Side of the projection.
    pub proj_type: ProjectionType,
    /// When the subspaces are refreshed.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh: RefreshTiming,
    /// How a subspace is computed.
    #[serde(skip_serializing_if = "is_default")]
    pub solver: SubspaceSolver,
}

/// Default values are not written, so files are the same as those of versions without the field.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for GaLoreConfig {
    fn default() -> Self {
        GaLoreConfig {
            rank: 128,
            update_proj_gap: 200,
            scale: 0.25,
            proj_type: ProjectionType::Std,
            refresh: RefreshTiming::Together,
            solver: SubspaceSolver::Auto,
        }
    }
}

impl GaLoreConfig {
    /// The rank for a weight `[rows, cols]`: at most its shorter side.
    pub fn effective_rank(&self, rows: i64, cols: i64) -> i64 {
        self.rank.min(rows).min(cols)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] lists all fields that are out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        if self.rank < 1 {
            problems.push(format!("rank = {}: must be at least 1", self.rank));
        }
        if self.update_proj_gap < 1 {
            problems.push(format!("update_proj_gap = {}: must be at least 1", self.update_proj_gap));
        }
        if !self.scale.is_finite() {
            problems.push(format!("scale = {}: must be finite", self.scale));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }
}

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
