//! Settings of the projection: rank, scale, side, when and how a subspace is found, and what
//! becomes of the moments.

mod choices;
mod numbers;

pub use self::choices::{BasisChange, BasisStorage, ProjectionType, RefreshTiming, SubspaceSolver};
pub use self::numbers::{Rank, Scale};
use crate::Error;
use serde::{Deserialize, Serialize};

/// The gradient projection of GaLore ([2403.03507](https://arxiv.org/abs/2403.03507), algorithm 2).
///
/// The defaults are those of `optim_args` in Hugging Face transformers: rank 128, gap 200,
/// scale 0.25, std, all targets refreshed together. The other fields are not in transformers; with
/// their defaults the optimizer is galore-torch's. `P` is the basis, `G` the gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GaLoreConfig {
    /// Basis vectors to keep: a number, or a fraction of the shorter side of each weight.
    pub rank: Rank,
    /// Steps between two refreshes of a subspace, at least 1 (T in the paper).
    pub update_proj_gap: i64,
    /// Factor on the back-projected update: a number (α in the paper), or `auto`.
    pub scale: Scale,
    /// Side of the projection.
    pub proj_type: ProjectionType,
    /// When the subspaces are refreshed.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh: RefreshTiming,
    /// How a subspace is found.
    #[serde(alias = "solver", skip_serializing_if = "is_default")]
    pub subspace: SubspaceSolver,
    /// What becomes of the moments when the basis changes.
    #[serde(skip_serializing_if = "is_default")]
    pub moments: BasisChange,
    /// Whether the gap of a target doubles while its subspace hardly changes: when the cosine of
    /// the first basis vector with its predecessor is at least 0.4 on average over the last five
    /// refreshes (Q-GaLore, [2407.08296](https://arxiv.org/abs/2407.08296)). Each
    /// further refresh for which this holds doubles it again. Default: no.
    #[serde(skip_serializing_if = "is_default")]
    pub lazy_refresh: bool,
    /// How bases are kept.
    #[serde(skip_serializing_if = "is_default")]
    pub basis: BasisStorage,
    /// Whether the part of the gradient outside the subspace is added too, scaled as Adam scales
    /// the part inside (Fira, [2410.01623](https://arxiv.org/abs/2410.01623)). Default: no.
    #[serde(skip_serializing_if = "is_default")]
    pub fira: bool,
    /// Seed of [`SubspaceSolver::Random`]. The others use none. Default: 0.
    #[serde(skip_serializing_if = "is_default")]
    pub seed: u64,
}

/// Default values are not written, so files are the same as those of versions without the field.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for GaLoreConfig {
    fn default() -> Self {
        GaLoreConfig {
            rank: Rank::Vectors(128),
            update_proj_gap: 200,
            scale: Scale::Factor(0.25),
            proj_type: ProjectionType::Std,
            refresh: RefreshTiming::Together,
            subspace: SubspaceSolver::Auto,
            moments: BasisChange::Keep,
            lazy_refresh: false,
            basis: BasisStorage::Auto,
            fira: false,
            seed: 0,
        }
    }
}

impl GaLoreConfig {
    /// The rank for a weight `[rows, cols]`: at most its shorter side.
    pub fn effective_rank(&self, rows: i64, cols: i64) -> i64 {
        self.rank.of(rows.min(cols))
    }

    /// The factor on the update of a weight `[rows, cols]`.
    pub fn effective_scale(&self, rows: i64, cols: i64) -> f64 {
        self.scale.of(rows.min(cols), self.effective_rank(rows, cols))
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] lists all fields that are out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        problems.extend(self.rank.problem().map(|problem| format!("rank = {}: {problem}", self.rank)));
        if self.update_proj_gap < 1 {
            problems.push(format!("update_proj_gap = {}: must be at least 1", self.update_proj_gap));
        }
        problems.extend(self.scale.problem().map(|problem| format!("scale = {}: {problem}", self.scale)));
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }
}
