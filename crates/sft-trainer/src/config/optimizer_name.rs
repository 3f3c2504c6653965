//! The optimizers by Hugging Face's names: what each is, as data.

use galore_optim::{ApolloScaling, MomentDtype};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// Which optimizer. Names are Hugging Face's, except [`OptimizerName::ApolloMini`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerName {
    /// `galore_adamw`: GaLore AdamW on the targets, AdamW on all else.
    GaLoreAdamW,
    /// `galore_adamw_8bit`: the same with bitsandbytes' 8-bit moments.
    GaLoreAdamW8bit,
    /// `galore_adafactor`: Adafactor in GaLore's subspaces, and on all else.
    GaLoreAdafactor,
    /// `adamw_torch`: AdamW on everything. `adamw_torch_fused` is the same arithmetic.
    AdamW,
    /// `adamw_8bit`, also `adamw_bnb_8bit`: AdamW with bitsandbytes' 8-bit moments.
    AdamW8bit,
    /// `adafactor`: with the learning rate of the schedule.
    Adafactor,
    /// `apollo_adamw`: gradients scaled by what AdamW does in a random subspace.
    Apollo,
    /// `apollo_mini`: the same with rank 1 and one factor for each matrix.
    ApolloMini,
}

/// How an optimizer computes its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpdateKind {
    /// In galore-torch's form.
    GaLore,
    /// In torch's form.
    Torch,
    /// In bitsandbytes' form.
    BitsAndBytes,
    Adafactor,
    Apollo,
}

/// What an optimizer is.
#[derive(Debug)]
pub(crate) struct OptimizerTraits {
    name: OptimizerName,
    /// The first is the one that is written.
    spellings: &'static [&'static str],
    pub(crate) update: UpdateKind,
    /// `optim_args` where the caller gives none, or `None` for an optimizer without a subspace.
    pub(crate) optim_args: Option<&'static str>,
    /// Values of keys of `optim_args` that the caller does not name.
    pub(crate) defaults: &'static [(&'static str, &'static str)],
    /// How moments are kept, where the name says so.
    pub(crate) moments: Option<MomentDtype>,
    /// APOLLO's factors where `optim_args` does not say.
    pub(crate) scaling: ApolloScaling,
}

/// `optim_args` of the documented recipe.
const RECIPE: &str = "rank=1024, update_proj_gap=500, scale=1.8";
/// As transformers calls APOLLO.
const APOLLO: &[(&str, &str)] =
    &[("rank", "128"), ("update_proj_gap", "200"), ("scale", "1.0"), ("subspace", "random"), ("proj_type", "std")];
/// As its paper has it.
const APOLLO_MINI: &[(&str, &str)] =
    &[("rank", "1"), ("update_proj_gap", "200"), ("scale", "128"), ("subspace", "random"), ("proj_type", "std")];

const NONE: OptimizerTraits = OptimizerTraits {
    name: OptimizerName::AdamW,
    spellings: &["adamw_torch", "adamw_torch_fused"],
    update: UpdateKind::Torch,
    optim_args: None,
    defaults: &[],
    moments: None,
    scaling: ApolloScaling::Channel,
};

const ALL: [OptimizerTraits; 8] = [
    OptimizerTraits {
        name: OptimizerName::GaLoreAdamW,
        spellings: &["galore_adamw"],
        update: UpdateKind::GaLore,
        optim_args: Some(RECIPE),
        ..NONE
    },
    OptimizerTraits {
        name: OptimizerName::GaLoreAdamW8bit,
        spellings: &["galore_adamw_8bit"],
        update: UpdateKind::BitsAndBytes,
        optim_args: Some(RECIPE),
        moments: Some(MomentDtype::Blockwise8bit),
        ..NONE
    },
    OptimizerTraits {
        name: OptimizerName::GaLoreAdafactor,
        spellings: &["galore_adafactor"],
        update: UpdateKind::Adafactor,
        optim_args: Some(RECIPE),
        moments: Some(MomentDtype::Float32),
        ..NONE
    },
    NONE,
    OptimizerTraits {
        name: OptimizerName::AdamW8bit,
        spellings: &["adamw_8bit", "adamw_bnb_8bit"],
        update: UpdateKind::BitsAndBytes,
        moments: Some(MomentDtype::Blockwise8bit),
        ..NONE
    },
    OptimizerTraits {
        name: OptimizerName::Adafactor,
        spellings: &["adafactor"],
        update: UpdateKind::Adafactor,
        moments: Some(MomentDtype::Float32),
        ..NONE
    },
    OptimizerTraits {
        name: OptimizerName::Apollo,
        spellings: &["apollo_adamw"],
        update: UpdateKind::Apollo,
        optim_args: Some(""),
        defaults: APOLLO,
        ..NONE
    },
    OptimizerTraits {
        name: OptimizerName::ApolloMini,
        spellings: &["apollo_mini"],
        update: UpdateKind::Apollo,
        optim_args: Some(""),
        defaults: APOLLO_MINI,
        scaling: ApolloScaling::Tensor,
        ..NONE
    },
];

impl OptimizerName {
    pub(crate) fn traits(self) -> &'static OptimizerTraits {
        ALL.iter().find(|traits| traits.name == self).unwrap_or(&NONE)
    }

    /// Whether it works in subspaces of target modules.
    pub fn is_projected(self) -> bool {
        self.traits().optim_args.is_some()
    }

    /// Whether it keeps Adam's two moments, and so takes Adam's constants.
    pub fn has_moments(self) -> bool {
        self.traits().update != UpdateKind::Adafactor
    }
}

impl Display for OptimizerName {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.traits().spellings[0])
    }
}

impl FromStr for OptimizerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(traits) = ALL.iter().find(|traits| traits.spellings.contains(&text)) {
            return Ok(traits.name);
        }
        let known: Vec<&str> = ALL.iter().flat_map(|traits| traits.spellings).copied().collect();
        if let Some(whole) = text.strip_suffix("_layerwise").filter(|whole| known.contains(whole)) {
            return Err(format!("updates layer by layer are not built; use {whole}, which takes the same step"));
        }
        let nearest =
            known.iter().max_by(|a, b| strsim::jaro_winkler(a, text).total_cmp(&strsim::jaro_winkler(b, text)));
        let hint = nearest.map_or_else(String::new, |nearest| format!(" (nearest: {nearest})"));
        Err(format!("unknown optimizer{hint}; known: {}", known.join(", ")))
    }
}

impl Serialize for OptimizerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OptimizerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
