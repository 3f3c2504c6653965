//! What a user can set: the projection, Adam's constants, and how low-precision weights take an
//! update.

use crate::Error;
use serde::{Deserialize, Serialize};

/// Which side of a gradient `G [rows, cols]` is projected. Names as in galore-torch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectionType {
    /// The shorter side: right where rows ≥ cols, else left.
    #[default]
    Std,
    /// The longer side: left where rows ≥ cols, else right.
    ReverseStd,
    /// `R = G V`, with the leading right singular vectors.
    Right,
    /// `R = Uᵀ G`, with the leading left singular vectors.
    Left,
    /// `R = Uᵀ G V`, with both.
    Full,
}

impl ProjectionType {
    pub(crate) const ALL: [(&'static str, ProjectionType); 5] = [
        ("std", ProjectionType::Std),
        ("reverse_std", ProjectionType::ReverseStd),
        ("right", ProjectionType::Right),
        ("left", ProjectionType::Left),
        ("full", ProjectionType::Full),
    ];
}

/// When the targets' subspaces are made anew. Each is once in every `update_proj_gap` steps, and
/// before a target's first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshTiming {
    /// All on the same step, as in Hugging Face transformers.
    #[default]
    Together,
    /// Spread evenly over the gap: no step is much longer than another. On a GPU neighbours of one
    /// shape stay together, 24 at most, which there take no longer than a few; on the CPU each
    /// target has a step of its own, as far as the gap has steps.
    Staggered,
}

/// How a subspace is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubspaceSolver {
    /// [`SubspaceSolver::Svd`] on the CPU, [`SubspaceSolver::Eigenvectors`] on a GPU.
    #[default]
    Auto,
    /// The gradient's singular value decomposition, matrix by matrix, as in galore-torch.
    Svd,
    /// Leading eigenvectors of the gradient's Gram matrix: by iteration where they are half of all
    /// or fewer, else exact. They hold as much of the gradient as singular vectors (0.999 of it at
    /// least), in a fraction of the time on a GPU and at small ranks. Each takes the sign that
    /// points along its predecessor, which keeps first moments meaningful across a refresh.
    Eigenvectors,
}

/// The gradient projection of GaLore ([2403.03507](https://arxiv.org/abs/2403.03507), algorithm 2).
///
/// Defaults are those of `optim_args` in Hugging Face transformers: rank 128, gap 200, scale 0.25,
/// std; all targets refreshed together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GaLoreConfig {
    /// Number of singular vectors kept, at least 1. Above the shorter side of a weight it has no
    /// further effect.
    pub rank: i64,
    /// Steps between two decompositions of the gradient, at least 1.
    pub update_proj_gap: i64,
    /// Factor on the back-projected update (α in the paper).
    pub scale: f64,
    /// Side of the projection.
    pub proj_type: ProjectionType,
    /// On which step each target's subspace is made anew.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh: RefreshTiming,
    /// How a subspace is found.
    #[serde(skip_serializing_if = "is_default")]
    pub solver: SubspaceSolver,
}

/// What is not set is not written: files of versions that knew less say the same.
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
    /// The rank that a weight of this shape really gets: no more than its shorter side.
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
    /// Type of the moments.
    #[serde(default)]
    pub moments: MomentDtype,
}

/// What the moments are kept in, and with them a subspace's basis. Steps are computed in float32
/// from either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentDtype {
    /// Moments and bases float32.
    #[default]
    Float32,
    /// Moments bfloat16, rounded stochastically; bases float16, whose 11 bits are what a GPU's
    /// products in TF32 see of a float32. Half the memory.
    Bfloat16,
}

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
    /// What Hugging Face's `galore_adamw` really runs with, the defaults of galore-torch: 0.9,
    /// 0.999, 1e-6, 0; moments in float32.
    pub fn galore_default() -> Self {
        AdamConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-6, weight_decay: 0.0, moments: MomentDtype::Float32 }
    }

    /// What `adamw_torch` runs with by the defaults of Hugging Face's `TrainingArguments`: 0.9,
    /// 0.999, 1e-8, 0.
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
    /// 16 hidden bits beside each bfloat16 weight make it a lossless float32 master: 2 bytes a
    /// parameter. (Float16 bits are no half of a float32: there the whole master is kept, 4 bytes a
    /// parameter.)
    Exact,
    /// Rounded up or down at random so that the mean is right; no state but the seed. Not for
    /// float16.
    Stochastic {
        /// Seed of the random bits, which depend on it, the step and the parameter's place alone.
        seed: u64,
    },
    /// Rounded to nearest, ties to even, as Hugging Face does: updates under half a unit in the
    /// last place are lost.
    Nearest,
}
