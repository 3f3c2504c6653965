//! The optimizer that the flags ask for.

use super::problems::Problems;
use super::{OptimizerKind, OptimizerSettings};
use crate::flags::Flags;
use galore_optim::{
    AdamConfig, GaLoreConfig, MomentDtype, RefreshTiming, SubspaceSolver, TargetModules, WeightUpdate, parse_optim_args,
};
use trainer_core::TrainingArguments;

/// `optim_args` of the documented recipe.
const DEFAULT_OPTIM_ARGS: &str = "rank=1024, update_proj_gap=500, scale=1.8";

pub(super) fn optimizer(flags: &Flags, problems: &mut Problems) -> OptimizerSettings {
    let name = flags.optim.as_deref().unwrap_or("galore_adamw");
    let is_galore = match name {
        "galore_adamw" => true,
        "adamw_torch" | "adamw_torch_fused" => false,
        _ => {
            problems.add("optim", name, "galore_adamw, adamw_torch and adamw_torch_fused are supported");
            true
        }
    };
    let kind = if is_galore {
        let galore = problems.check(parse_optim_args(flags.optim_args.as_deref().unwrap_or(DEFAULT_OPTIM_ARGS)));
        let targets = match flags.optim_target_modules.as_deref() {
            None => TargetModules::List(vec!["attn".to_owned(), "mlp".to_owned()]),
            Some([one]) if one.replace('_', "-") == "all-linear" => TargetModules::Pattern(one.clone()),
            Some(names) => TargetModules::List(names.iter().filter(|name| !name.is_empty()).cloned().collect()),
        };
        let refresh = match flags.galore_refresh.as_deref() {
            None | Some("together") => RefreshTiming::Together,
            Some("staggered") => RefreshTiming::Staggered,
            Some(other) => {
                problems.add("galore_refresh", other, "use together or staggered");
                RefreshTiming::Together
            }
        };
        let solver = match flags.galore_solver.as_deref() {
            None | Some("auto") => SubspaceSolver::Auto,
            Some("svd") => SubspaceSolver::Svd,
            Some("eigenvectors") => SubspaceSolver::Eigenvectors,
            Some(other) => {
                problems.add("galore_solver", other, "use svd, eigenvectors or auto");
                SubspaceSolver::Auto
            }
        };
        OptimizerKind::GaLoreAdamW { galore: GaLoreConfig { refresh, solver, ..galore.unwrap_or_default() }, targets }
    } else {
        for (flag, value) in [
            ("optim_args", &flags.optim_args),
            ("galore_refresh", &flags.galore_refresh),
            ("galore_solver", &flags.galore_solver),
        ] {
            if value.is_some() {
                problems.add(flag, "set", format!("{name} takes none; it belongs to galore_adamw"));
            }
        }
        if flags.optim_target_modules.is_some() {
            problems.add("optim_target_modules", "set", format!("{name} has no targets; it belongs to galore_adamw"));
        }
        OptimizerKind::AdamW
    };
    let defaults = if is_galore { AdamConfig::galore_default() } else { AdamConfig::torch_default() };
    let adam = AdamConfig {
        beta1: flags.adam_beta1.unwrap_or(defaults.beta1),
        beta2: flags.adam_beta2.unwrap_or(defaults.beta2),
        epsilon: flags.adam_epsilon.unwrap_or(defaults.epsilon),
        weight_decay: flags.weight_decay.unwrap_or(defaults.weight_decay),
        ..defaults
    };
    problems.check(adam.validate());
    let weight_update = match flags.bf16_weight_update.as_deref() {
        None | Some("exact") => WeightUpdate::Exact,
        Some("stochastic") => {
            WeightUpdate::Stochastic { seed: flags.seed.unwrap_or(TrainingArguments::default().seed) }
        }
        Some("nearest") => WeightUpdate::Nearest,
        Some(other) => {
            problems.add("bf16_weight_update", other, "use exact, stochastic or nearest");
            WeightUpdate::Exact
        }
    };
    let moments = match flags.optim_state_dtype.as_deref() {
        None | Some("auto") => None,
        Some("float32") => Some(MomentDtype::Float32),
        Some("bfloat16") => Some(MomentDtype::Bfloat16),
        Some(other) => {
            problems.add("optim_state_dtype", other, "use float32, bfloat16 or auto");
            None
        }
    };
    OptimizerSettings { kind, adam, weight_update, moments }
}
