//! Settings that are one of several names.

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

/// How a subspace is found. [`SubspaceSolver::Eigenvectors`] and [`SubspaceSolver::Dct`] put each
/// new basis vector in the place of the old one that it overlaps most, with the sign that points
/// along it, so that moments keep nearly the same meaning across a refresh. The columns of
/// [`SubspaceSolver::Power`] continue those before them anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubspaceSolver {
    /// [`SubspaceSolver::Svd`] on the CPU, [`SubspaceSolver::Eigenvectors`] on a GPU. The default.
    #[default]
    Auto,
    /// By the gradient's singular value decomposition, matrix by matrix, as in galore-torch.
    Svd,
    /// By leading eigenvectors of the gradient's Gram matrix, the smaller of the two: iterative if
    /// at most half of them are wanted, else exact. They hold as much of the gradient as singular
    /// vectors do (at least 0.999 of its energy), and take a fraction of the time on a GPU and at
    /// small ranks. Also written `eigh`.
    #[serde(alias = "eigh")]
    Eigenvectors,
    /// By one step of power iteration from the old basis `P₋` (LDAdam,
    /// [2410.16103](https://arxiv.org/abs/2410.16103)): `P = qr(Bᵀ B P₋)` with
    /// `B = β1 · m̂ P₋ᵀ + (1 − β1) G`. It costs two products, so it can run at every step. The
    /// first basis comes from eigenvectors. Use it with [`BasisChange::Transport`].
    Power,
    /// The `r` columns of the discrete cosine transform that `G` has the largest 1-norms along
    /// ([2505.17967](https://arxiv.org/abs/2505.17967)). It needs no solver.
    Dct,
    /// Random orthonormal columns from a seed, drawn again at each refresh. They hold `r / n` of
    /// the gradient's energy on average, whatever the gradient is.
    Random,
}

derive_display_from_serialize!(SubspaceSolver);
derive_fromstr_from_deserialize!(SubspaceSolver);

/// What becomes of the moments when a refresh changes the basis from `P₋` to `P`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BasisChange {
    /// They stay as they are, as in galore-torch. The default.
    #[default]
    Keep,
    /// They are carried over to the new axes (LDAdam,
    /// [2410.16103](https://arxiv.org/abs/2410.16103)). With `C = Pᵀ P₋`, hats
    /// for bias-corrected moments and squares of matrices taken elementwise:
    /// `m ← C m` and `v ← (1 − β2ᵗ) |C² (v̂ − m̂²) + (C m̂)²|`.
    Transport,
    /// They start from zero, and so do their bias corrections.
    Reset,
}

derive_display_from_serialize!(BasisChange);
derive_fromstr_from_deserialize!(BasisChange);
