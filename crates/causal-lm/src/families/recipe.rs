//! A block as data. `block.rs` runs it, `layout.rs` makes its parameters.

use crate::ops::norm::Gain;
use crate::ops::qk_norm::Over;
use std::num::NonZeroUsize;

/// What a decoder of a family computes, apart from its sizes.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) biases: Biases,
    /// How every norm multiplies with its weight.
    pub(crate) gain: Gain,
    /// Name of the norm before attention, if there is one.
    pub(crate) input_norm: Option<&'static str>,
    /// Name of the norm of attention's output, before it is added to the residual stream.
    pub(crate) attention_output_norm: Option<&'static str>,
    /// Name of the norm before the MLP.
    pub(crate) mlp_norm: Option<&'static str>,
    /// Name of the norm of the MLP's output.
    pub(crate) mlp_output_norm: Option<&'static str>,
    /// Norms of queries and keys, before they are rotated.
    pub(crate) qk_norm: Option<Over>,
    pub(crate) projections: Projections,
    pub(crate) embedding: EmbeddingScale,
    /// What attention's scores are multiplied with.
    pub(crate) attention_scale: f64,
    /// What the outputs of attention and MLP are multiplied with before they are added.
    pub(crate) residual_multiplier: f64,
    /// What logits are divided by.
    pub(crate) logits_divisor: f64,
    /// One for each layer.
    pub(crate) layers: Vec<Layer>,
}

/// Which linear layers have a bias.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Biases {
    pub(crate) qkv: bool,
    pub(crate) output: bool,
    pub(crate) mlp: bool,
}

/// How the matrices that share an input lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projections {
    /// `q_proj`, `k_proj`, `v_proj`; `gate_proj`, `up_proj`.
    Separate,
    /// `qkv_proj`; `gate_up_proj`.
    Joined,
}

/// What embeddings are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EmbeddingScale {
    pub(crate) factor: f64,
    pub(crate) rounding: ScaleRounding,
}

/// Whether a factor is first rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScaleRounding {
    /// It is not.
    Exact,
    /// To the type of the weights.
    ToWeights,
}

/// What is particular to one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Tokens that a token attends to, itself included. `None`: all earlier ones of its row.
    pub(crate) window: Option<NonZeroUsize>,
    pub(crate) rotation: Rotation,
}

/// How queries and keys of a layer are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// By the model's rotary embedding.
    Main,
    /// By the rotary embedding of layers with a window.
    Local,
    /// Not at all.
    None,
}

impl Recipe {
    pub(super) fn plain(num_layers: usize, attention_scale: f64) -> Self {
        Self {
            biases: Biases::default(),
            gain: Gain::Rounded,
            input_norm: Some("input_layernorm"),
            attention_output_norm: None,
            mlp_norm: Some("post_attention_layernorm"),
            mlp_output_norm: None,
            qk_norm: None,
            projections: Projections::Separate,
            embedding: EmbeddingScale { factor: 1.0, rounding: ScaleRounding::Exact },
            attention_scale,
            residual_multiplier: 1.0,
            logits_divisor: 1.0,
            layers: vec![Layer { window: None, rotation: Rotation::Main }; num_layers],
        }
    }

    /// The same recipe with these windows.
    pub(super) fn with_windows(mut self, windows: &[Option<NonZeroUsize>]) -> Self {
        for (layer, window) in self.layers.iter_mut().zip(windows) {
            layer.window = *window;
        }
        self
    }

    /// The names of a block's norms over the width.
    pub(crate) fn norms(&self) -> impl Iterator<Item = &'static str> {
        [self.input_norm, self.attention_output_norm, self.mlp_norm, self.mlp_output_norm].into_iter().flatten()
    }

    /// The smallest window of a layer.
    pub(crate) fn window(&self) -> Option<NonZeroUsize> {
        self.layers.iter().filter_map(|layer| layer.window).min()
    }
}
