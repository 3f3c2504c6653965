//! The supported families, and what their configuration classes in transformers 5.17 say of a field
//! that a file leaves out.

use serde::{Deserialize, Serialize};
use serde_plain::{derive_display_from_serialize, derive_fromstr_from_deserialize};

/// The supported decoder families, by the names of `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Qwen1.5, Qwen2 and Qwen2.5 (arXiv 2407.10671): biases on q, k and v.
    Qwen2,
    /// Llama 2 and 3 (arXiv 2307.09288, 2407.21783), and models with the same layout such as
    /// SmolLM2.
    Llama,
    /// Mistral 7B (arXiv 2310.06825), for rows within its sliding window.
    Mistral,
}

derive_display_from_serialize!(Family);
derive_fromstr_from_deserialize!(Family);

/// Values of absent fields that differ between the families.
pub(super) struct Defaults {
    pub(super) vocab_size: i64,
    pub(super) intermediate_size: i64,
    /// `None`: as many as query heads.
    pub(super) num_key_value_heads: Option<i64>,
    pub(super) max_position_embeddings: i64,
}

/// Values of absent fields that all families have.
pub(super) const HIDDEN_SIZE: i64 = 4096;
pub(super) const NUM_HIDDEN_LAYERS: i64 = 32;
pub(super) const NUM_ATTENTION_HEADS: i64 = 32;

impl Family {
    pub(super) fn defaults(self) -> Defaults {
        match self {
            Self::Qwen2 => Defaults {
                vocab_size: 151_936,
                intermediate_size: 22_016,
                num_key_value_heads: Some(32),
                max_position_embeddings: 32_768,
            },
            Self::Llama => Defaults {
                vocab_size: 32_000,
                intermediate_size: 11_008,
                num_key_value_heads: None,
                max_position_embeddings: 2048,
            },
            Self::Mistral => Defaults {
                vocab_size: 32_000,
                intermediate_size: 14_336,
                num_key_value_heads: Some(8),
                max_position_embeddings: 131_072,
            },
        }
    }
}
