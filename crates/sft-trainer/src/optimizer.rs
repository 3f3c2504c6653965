//! Which parameter goes to which part of the optimizer.

use crate::Error;
use crate::config::{OptimizerName, SftConfig};
use crate::fingerprint::OptimizerFingerprint;
use causal_lm::{CausalLm, ParameterKind};
use galore_optim::{
    AdamConfig, AdamW, BasisChange, GaLoreAdamW, GaLoreConfig, GradientCheck, MomentDtype, Optimizer, Parameter,
    ParameterGroup, RefreshTiming, SubspaceSolver, WeightUpdate, select_targets,
};
use std::collections::HashSet;
use tch::{Device, Kind};
use tracing::info;

/// The optimizer's state in a checkpoint.
pub(crate) const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// An optimizer, and what a checkpoint says of it.
pub(crate) struct BuiltOptimizer {
    pub(crate) optimizer: Box<dyn Optimizer>,
    pub(crate) fingerprint: OptimizerFingerprint,
}

/// An optimizer that the caller made.
pub(crate) fn custom(name: String, optimizer: Box<dyn Optimizer>) -> BuiltOptimizer {
    info!("optimizer: {name}, made by the program");
    BuiltOptimizer { optimizer, fingerprint: OptimizerFingerprint::custom(name) }
}

/// Puts the model's parameters into groups (GaLore's targets, parameters that decay, and biases and
/// norms, which do not, as in Hugging Face) and makes the configured optimizer.
///
/// # Errors
/// When no module matches the target names, or the settings do not fit the weights' type.
pub(crate) fn build(model: &mut CausalLm, config: &SftConfig) -> Result<BuiltOptimizer, Error> {
    let settings = &config.optimizer;
    let galore = settings.galore()?;
    let weight_update = settings.weight_update(model.parameters().flat_weights().kind(), config.training.seed);
    let moments = settings.optim_state_dtype.0.unwrap_or_else(|| default_moments(model));
    let adam = AdamConfig { moments, ..settings.adam() };
    let fingerprint = OptimizerFingerprint::new(settings, galore.as_ref(), moments, weight_update)?;
    let groups = Groups::of(model, settings.optim == OptimizerName::GaLoreAdamW, &settings.targets())?;

    info!("{}: {}", settings.optim, constants(model, &adam, weight_update));
    let mut parameter_groups = Vec::new();
    if let Some(galore) = galore {
        tell_targets(&galore, &groups.targets);
        parameter_groups.push(ParameterGroup::new(groups.targets, adam.clone()).with_galore(galore));
    }
    let no_decay = AdamConfig { weight_decay: 0.0, ..adam.clone() };
    parameter_groups.push(ParameterGroup::new(groups.decayed, adam));
    parameter_groups.push(ParameterGroup::new(groups.not_decayed, no_decay));
    let mut optimizer: Box<dyn Optimizer> = match settings.optim {
        OptimizerName::GaLoreAdamW => Box::new(GaLoreAdamW::new(parameter_groups, weight_update)?),
        OptimizerName::AdamW => Box::new(AdamW::new(parameter_groups, weight_update)?),
    };
    // The loop looks at the norm of all gradients before each step.
    optimizer.check_gradients(GradientCheck::AtRefresh);
    Ok(BuiltOptimizer { optimizer, fingerprint })
}

/// On CUDA moments are as wide as bfloat16 weights, as in torch. On the CPU they are float32: the
/// host has the memory, and rounding would cost more time than it saves.
fn default_moments(model: &CausalLm) -> MomentDtype {
    let weights = model.parameters().flat_weights();
    match (weights.device(), weights.kind()) {
        (Device::Cuda(_), Kind::BFloat16) => MomentDtype::Bfloat16,
        _ => MomentDtype::Float32,
    }
}

/// The model's parameters by how they are updated.
struct Groups {
    targets: Vec<Parameter>,
    decayed: Vec<Parameter>,
    not_decayed: Vec<Parameter>,
}

impl Groups {
    fn of(model: &mut CausalLm, has_targets: bool, patterns: &galore_optim::TargetModules) -> Result<Self, Error> {
        let specs = model.parameters().specs().to_vec();
        let is_linear = |kind| matches!(kind, ParameterKind::Linear | ParameterKind::Head);
        let mut target_weights = HashSet::new();
        if has_targets {
            let linear = specs.iter().filter(|spec| is_linear(spec.kind));
            let modules: Vec<&str> = linear.filter_map(|spec| spec.name.strip_suffix(".weight")).collect();
            let selected = select_targets(&modules, patterns)?;
            target_weights.extend(selected.into_iter().map(|module| format!("{module}.weight")));
        }
        let mut groups = Self { targets: Vec::new(), decayed: Vec::new(), not_decayed: Vec::new() };
        let gradients: Vec<_> = model.parameters_mut().gradients()?.iter().map(tch::Tensor::shallow_clone).collect();
        for ((spec, weight), gradient) in specs.iter().zip(model.parameters().weights()).zip(gradients) {
            let parameter = Parameter::new(spec.name.clone(), weight).with_gradient(&gradient);
            let group = if target_weights.contains(&spec.name) {
                &mut groups.targets
            } else if matches!(spec.kind, ParameterKind::Bias | ParameterKind::Norm) {
                &mut groups.not_decayed
            } else {
                &mut groups.decayed
            };
            group.push(parameter);
        }
        Ok(groups)
    }
}

/// The optimizer's constants in words.
fn constants(model: &CausalLm, adam: &AdamConfig, weight_update: WeightUpdate) -> String {
    let kept = match adam.moments {
        MomentDtype::Float32 => "float32",
        MomentDtype::Bfloat16 => "bfloat16, rounded stochastically",
    };
    let AdamConfig { beta1, beta2, epsilon, weight_decay, .. } = adam;
    let constants =
        format!("betas ({beta1}, {beta2}), epsilon {epsilon:e}, weight decay {weight_decay}, moments in {kept}");
    if model.parameters().flat_weights().kind() == Kind::Float {
        return constants;
    }
    let rounding = match weight_update {
        WeightUpdate::Exact => "exact weight updates (16 hidden bits a weight)",
        WeightUpdate::Stochastic { .. } => "weights rounded stochastically",
        WeightUpdate::Nearest => "weights rounded to nearest (most of a small learning rate's updates are lost)",
    };
    format!("{constants}, {rounding}")
}

/// The settings that galore-torch does not have, where they are not its behaviour.
fn beyond_galore_torch(galore: &GaLoreConfig) -> String {
    let mut text = String::new();
    if galore.subspace != SubspaceSolver::default() {
        text += &format!(", subspace {}", galore.subspace);
    }
    if galore.moments != BasisChange::default() {
        text += &format!(", moments {} at a new basis", galore.moments);
    }
    if galore.lazy_refresh {
        text += ", lazy refresh";
    }
    text
}

/// Says how many matrices are projected, and to which rank.
fn tell_targets(galore: &GaLoreConfig, targets: &[Parameter]) {
    let shapes: Vec<Vec<i64>> = targets.iter().map(|target| target.weight.size()).collect();
    let elements: i64 = shapes.iter().map(|shape| shape.iter().product::<i64>()).sum();
    let sides = shapes.iter().filter_map(|shape| match shape[..] {
        [.., rows, cols] => Some([rows, cols]),
        _ => None,
    });
    let sides: Vec<[i64; 2]> = sides.collect();
    let ranks: Vec<i64> = sides.iter().map(|[rows, cols]| galore.effective_rank(*rows, *cols)).collect();
    let range = match (ranks.iter().min(), ranks.iter().max()) {
        (Some(low), Some(high)) if low == high => low.to_string(),
        (Some(low), Some(high)) => format!("{low} to {high}"),
        _ => "none".to_owned(),
    };
    info!(
        "GaLore: {} target matrices with {:.1}M weights, effective rank {range}, gap {}{}, scale {}, projection {}{}",
        shapes.len(),
        elements as f64 / 1e6,
        galore.update_proj_gap,
        if galore.refresh == RefreshTiming::Staggered { " (staggered)" } else { "" },
        galore.scale,
        galore.proj_type,
        beyond_galore_torch(galore)
    );
    let full = sides.iter().zip(&ranks).filter(|(sides, rank)| sides.iter().min() == Some(rank)).count();
    if full > 0 {
        info!(
            "GaLore: rank {} is full rank for {full} of {} targets: there it is Adam in a rotated basis, with moments as \
             large as the weights, and saves no memory",
            galore.rank,
            shapes.len()
        );
    }
}
