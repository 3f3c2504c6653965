//! The decoder families, declared: one file a family, with its paper, the fields of its config.json
//! and its block as a [`Recipe`]. `block.rs` runs recipes and knows no family.

mod gemma3;
mod granite;
mod llama;
mod mistral;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod recipe;
mod smollm3;

pub(crate) use recipe::{Biases, EmbeddingScale, Layer, Projections, Recipe, Rotation, ScaleRounding};

use crate::Error;
use crate::config::fields::Fields;
use crate::config::rope::{LayerTypeRope, RopeClass};
use crate::config::window;
use crate::ops::glu::Activation;
use serde::{Deserialize, Serialize};
use serde_plain::{derive_display_from_serialize, derive_fromstr_from_deserialize};
use std::num::NonZeroUsize;

/// The supported decoder families, by the names of `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Qwen1.5, Qwen2 and Qwen2.5 (arXiv 2407.10671): biases on q, k and v.
    Qwen2,
    /// Qwen3, dense (arXiv 2505.09388): norms of queries and keys, no biases.
    Qwen3,
    /// Llama 2 and 3 (arXiv 2307.09288, 2407.21783), and models with the same layout such as
    /// SmolLM2.
    Llama,
    /// Mistral 7B and Ministral (arXiv 2310.06825): a sliding window.
    Mistral,
    /// Phi-3 and Phi-4 (arXiv 2404.14219): q, k and v are one matrix, gate and up another.
    Phi3,
    /// Gemma 3, text (arXiv 2503.19786): norms before and after, windows in five layers of six.
    #[serde(rename = "gemma3_text")]
    Gemma3,
    /// SmolLM3: every fourth layer has no positions (arXiv 2501.18795).
    #[serde(rename = "smollm3")]
    SmolLm3,
    /// OLMo 2 (arXiv 2501.00656): norms after attention and MLP.
    #[serde(rename = "olmo2")]
    Olmo2,
    /// Granite 3: four multipliers.
    Granite,
}

derive_display_from_serialize!(Family);
derive_fromstr_from_deserialize!(Family);

impl Family {
    /// All families, in the order in which messages name them.
    pub const ALL: [Self; 9] = [
        Self::Qwen2,
        Self::Qwen3,
        Self::Llama,
        Self::Mistral,
        Self::Phi3,
        Self::Gemma3,
        Self::SmolLm3,
        Self::Olmo2,
        Self::Granite,
    ];

    pub(crate) fn definition(self) -> &'static Definition {
        match self {
            Self::Qwen2 => &qwen2::DEFINITION,
            Self::Qwen3 => &qwen3::DEFINITION,
            Self::Llama => &llama::DEFINITION,
            Self::Mistral => &mistral::DEFINITION,
            Self::Phi3 => &phi3::DEFINITION,
            Self::Gemma3 => &gemma3::DEFINITION,
            Self::SmolLm3 => &smollm3::DEFINITION,
            Self::Olmo2 => &olmo2::DEFINITION,
            Self::Granite => &granite::DEFINITION,
        }
    }
}

/// What a family is: how its config.json is read, and its block.
pub(crate) struct Definition {
    pub(crate) defaults: Defaults,
    pub(crate) activation: ActivationField,
    pub(crate) rope: Ropes,
    /// The fields that not all families have.
    pub(crate) fields: &'static [&'static str],
    pub(crate) recipe: fn(&Source<'_, '_>) -> Result<Recipe, Error>,
}

/// What the family's class in transformers 5.17 says of a field that a file leaves out.
pub(crate) struct Defaults {
    pub(crate) vocab_size: i64,
    pub(crate) hidden_size: i64,
    pub(crate) intermediate_size: i64,
    pub(crate) num_hidden_layers: i64,
    pub(crate) num_attention_heads: i64,
    pub(crate) num_key_value_heads: KeyHeads,
    /// `None`: the width divided by the number of heads.
    pub(crate) head_dim: Option<i64>,
    pub(crate) max_position_embeddings: i64,
    pub(crate) rms_norm_eps: f64,
    pub(crate) tie_word_embeddings: bool,
}

/// Key and value heads of a file that leaves them out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyHeads {
    /// As many as query heads, and so is `null`.
    AsQuery,
    /// So many. `null` is not a value.
    Count(i64),
    /// So many, but `null` means as many as query heads.
    CountUnlessNull(i64),
}

/// The field that names the MLP's activation.
pub(crate) struct ActivationField {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    /// Names, and what they mean.
    pub(crate) supported: &'static [(&'static str, Activation)],
}

impl ActivationField {
    /// What most families have.
    pub(crate) const SILU: Self = Self {
        name: "hidden_act",
        default: "silu",
        supported: &[("silu", Activation::Silu), ("swish", Activation::Silu)],
    };
}

/// The rotary embeddings of a family.
pub(crate) enum Ropes {
    /// One for all layers.
    One(RopeClass),
    /// One for layers without a window and one for those with it.
    ByWindow([LayerTypeRope; 2]),
}

/// What a recipe is read from.
pub(crate) struct Source<'a, 'f> {
    pub(crate) fields: &'f Fields<'a>,
    pub(crate) num_layers: usize,
    pub(crate) hidden_size: i64,
    pub(crate) head_dim: i64,
}

impl Source<'_, '_> {
    /// The recipe of Llama, which others change: norms before attention and MLP, four matrices of
    /// attention and three of the MLP, rotary positions and no window in any layer.
    pub(crate) fn plain(&self) -> Recipe {
        Recipe::plain(self.num_layers, 1.0 / (self.head_dim as f64).sqrt())
    }

    /// The window of each layer. `slides` says which layers have it if the file does not list them.
    ///
    /// # Errors
    /// [`Error::Config`] for a list of layer types that is not one.
    pub(crate) fn windows(
        &self,
        window: Option<i64>,
        slides: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<NonZeroUsize>>, Error> {
        window::of_layers(self.fields, self.num_layers, window, slides)
    }

    /// Refuses a field with another value than this number.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub(crate) fn must_be(&self, name: &str, wanted: f64) -> Result<(), Error> {
        let value = self.fields.number(name, Some(wanted))?;
        if value == wanted {
            return Ok(());
        }
        Err(self.fields.error(name, format!("{value} is not supported; {wanted} is")))
    }

    /// Refuses a field that is neither absent nor `null` nor `false`.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub(crate) fn must_be_off(&self, name: &str) -> Result<(), Error> {
        match self.fields.get(name) {
            None | Some(serde_json::Value::Bool(false)) => Ok(()),
            Some(value) => {
                let value = crate::config::fields::shortened(value);
                Err(self.fields.error(name, format!("{value} is not supported; leave it out")))
            }
        }
    }
}
