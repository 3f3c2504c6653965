//! The optimizer of a run and its constants.

use super::Auto;
use galore_optim::{
    AdamConfig, GaLoreConfig, MomentDtype, RefreshTiming, SubspaceSolver, TargetModules, WeightUpdate, parse_optim_args,
};
use serde::{Deserialize, Deserializer, Serialize};
use tch::Kind;

/// `optim_args` of the documented recipe.
const RECIPE_OPTIM_ARGS: &str = "rank=1024, update_proj_gap=500, scale=1.8";

/// Which optimizer. Names are Hugging Face's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// GaLore AdamW on the targets, AdamW on all else.
    #[serde(rename = "galore_adamw")]
    GaLoreAdamW,
    /// AdamW on everything. `adamw_torch_fused` is the same arithmetic.
    #[serde(rename = "adamw_torch", alias = "adamw_torch_fused")]
    AdamW,
}

/// How 16-bit weights take a float32 update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightRounding {
    /// Without loss: 16 hidden bits beside each weight. The model computes with the nearest
    /// bfloat16, which hides most of what a small learning rate has learnt.
    Exact,
    /// Up or down at random, so that the mean is right and the model computes with it. Only for
    /// bfloat16.
    Stochastic,
    /// To nearest, as Hugging Face does: most of a small learning rate's updates are lost.
    Nearest,
}

serde_plain::derive_display_from_serialize!(OptimizerName);
serde_plain::derive_fromstr_from_deserialize!(OptimizerName);
serde_plain::derive_display_from_serialize!(WeightRounding);
serde_plain::derive_fromstr_from_deserialize!(WeightRounding);

/// The optimizer of a run. Names are those of transformers' `TrainingArguments`; defaults are the
/// documented recipe's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Default `galore_adamw`.
    pub optim: OptimizerName,
    /// The fields of [`GaLoreConfig`], as text. Unset: rank 1024, gap 500, scale 1.8.
    pub optim_args: Option<String>,
    /// Modules that GaLore projects. Unset: `attn` and `mlp`.
    #[serde(deserialize_with = "one_or_several")]
    pub optim_target_modules: Option<TargetModules>,
    /// When the targets' subspaces are refreshed. Unset: as `optim_args` says, else together.
    pub galore_refresh: Option<RefreshTiming>,
    /// How a subspace is found. Unset: as `optim_args` says, else auto.
    pub galore_solver: Option<SubspaceSolver>,
    /// Decay of the first moment. Default 0.9.
    pub adam_beta1: f64,
    /// Decay of the second moment. Default 0.999.
    pub adam_beta2: f64,
    /// Added to the root of the second moment. Unset: 1e-6 for GaLore, as galore-torch, else 1e-8.
    pub adam_epsilon: Option<f64>,
    /// Decoupled weight decay; biases and norms have none. Default 0.
    pub weight_decay: f64,
    /// How 16-bit weights take an update. Unset: stochastic for bfloat16, which trains as float32
    /// arithmetic does in the least memory, and exact for float16. No effect on float32.
    pub bf16_weight_update: Option<WeightRounding>,
    /// Type of the moments. Default `auto`: bfloat16 on CUDA for bfloat16 weights, else float32.
    pub optim_state_dtype: Auto<MomentDtype>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        let AdamConfig { beta1, beta2, weight_decay, .. } = AdamConfig::galore_default();
        Self {
            optim: OptimizerName::GaLoreAdamW,
            optim_args: None,
            optim_target_modules: None,
            galore_refresh: None,
            galore_solver: None,
            adam_beta1: beta1,
            adam_beta2: beta2,
            adam_epsilon: None,
            weight_decay,
            bf16_weight_update: None,
            optim_state_dtype: Auto(None),
        }
    }
}

impl OptimizerConfig {
    /// GaLore's settings, or `None` for an optimizer without a subspace.
    ///
    /// # Errors
    /// When `optim_args` cannot be read.
    pub fn galore(&self) -> Result<Option<GaLoreConfig>, galore_optim::Error> {
        if self.optim == OptimizerName::AdamW {
            return Ok(None);
        }
        let arguments = parse_optim_args(self.optim_args.as_deref().unwrap_or(RECIPE_OPTIM_ARGS))?;
        // An option of its own counts more than a key among many.
        let refresh = self.galore_refresh.unwrap_or(arguments.refresh);
        let subspace = self.galore_solver.unwrap_or(arguments.subspace);
        Ok(Some(GaLoreConfig { refresh, subspace, ..arguments }))
    }

    /// GaLore's targets.
    pub fn targets(&self) -> TargetModules {
        let recipe = || TargetModules::List(vec!["attn".to_owned(), "mlp".to_owned()]);
        self.optim_target_modules.clone().unwrap_or_else(recipe)
    }

    /// Adam's constants, moments in float32.
    pub fn adam(&self) -> AdamConfig {
        let defaults = match self.optim {
            OptimizerName::GaLoreAdamW => AdamConfig::galore_default(),
            OptimizerName::AdamW => AdamConfig::torch_default(),
        };
        AdamConfig {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            epsilon: self.adam_epsilon.unwrap_or(defaults.epsilon),
            weight_decay: self.weight_decay,
            ..defaults
        }
    }

    /// How weights of this type take an update; `seed` is that of stochastic rounding.
    pub fn weight_update(&self, weights: Kind, seed: u64) -> WeightUpdate {
        let default = if weights == Kind::BFloat16 { WeightRounding::Stochastic } else { WeightRounding::Exact };
        match self.bf16_weight_update.unwrap_or(default) {
            WeightRounding::Exact => WeightUpdate::Exact,
            WeightRounding::Stochastic => WeightUpdate::Stochastic { seed },
            WeightRounding::Nearest => WeightUpdate::Nearest,
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.galore().err().iter().map(ToString::to_string).collect();
        problems.extend(self.adam().validate().err().map(|error| error.to_string()));
        if self.optim == OptimizerName::AdamW {
            let set = [
                ("optim_args", self.optim_args.is_some()),
                ("optim_target_modules", self.optim_target_modules.is_some()),
                ("galore_refresh", self.galore_refresh.is_some()),
                ("galore_solver", self.galore_solver.is_some()),
            ];
            for (field, _) in set.iter().filter(|(_, is_set)| *is_set) {
                problems.push(format!("{field} is set: it belongs to galore_adamw, not to {}", self.optim));
            }
        }
        problems
    }
}

/// A list of names, or one text: `all-linear`, or names with spaces between.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TargetModules>, D::Error> {
    Ok(Option::<TargetModules>::deserialize(deserializer)?.map(|found| {
        let names: Vec<String> = match found {
            TargetModules::Pattern(text) => text.split_whitespace().map(str::to_owned).collect(),
            TargetModules::List(names) => names.into_iter().filter(|name| !name.is_empty()).collect(),
        };
        match names.as_slice() {
            [one] if one.replace('_', "-") == "all-linear" => TargetModules::Pattern(one.clone()),
            _ => TargetModules::List(names),
        }
    }))
}
