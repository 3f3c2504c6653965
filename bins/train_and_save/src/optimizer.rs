//! Which parameter goes to which part of the optimizer.

use crate::settings::{OptimizerKind, OptimizerSettings};
use anyhow::Result;
use causal_lm::{CausalLm, ParameterKind};
use galore_optim::{
    AdamConfig, AdamW, GaLoreAdamW, MomentDtype, Optimizer, Parameter, ParameterGroup, RefreshTiming, WeightUpdate,
    select_targets,
};
use std::collections::HashSet;
use tch::{Device, Kind};

/// The optimizer's state in a checkpoint.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// The optimizer, and what there is to say about it.
pub struct Built {
    pub optimizer: Box<dyn Optimizer>,
    /// Type of its moments.
    pub moments: MomentDtype,
    pub summary: Vec<String>,
}

/// Puts the model's parameters into groups: GaLore's targets, what decays, and what does not
/// (biases and norms, as in Hugging Face).
///
/// # Errors
/// When no module matches the target names, or the settings do not fit the weights' type.
pub fn build(model: &mut CausalLm, settings: &OptimizerSettings) -> Result<Built> {
    let specs = model.parameters().specs().to_vec();
    let is_linear = |kind| matches!(kind, ParameterKind::Linear | ParameterKind::Head);
    let mut targets = HashSet::new();
    if let OptimizerKind::GaLoreAdamW { targets: patterns, .. } = &settings.kind {
        let modules: Vec<&str> = specs
            .iter()
            .filter(|spec| is_linear(spec.kind))
            .filter_map(|spec| spec.name.strip_suffix(".weight"))
            .collect();
        targets.extend(select_targets(&modules, patterns)?.into_iter().map(|module| format!("{module}.weight")));
    }

    let gradients: Vec<_> = model.parameters_mut().gradients()?.iter().map(tch::Tensor::shallow_clone).collect();
    let mut galore_group = Vec::new();
    let (mut decayed, mut not_decayed) = (Vec::new(), Vec::new());
    for ((spec, weight), gradient) in specs.iter().zip(model.parameters().weights()).zip(gradients) {
        let parameter = Parameter { name: spec.name.clone(), weight: weight.shallow_clone(), gradient: Some(gradient) };
        if targets.contains(&spec.name) {
            galore_group.push(parameter);
        } else if matches!(spec.kind, ParameterKind::Norm | ParameterKind::Bias) {
            not_decayed.push(parameter);
        } else {
            decayed.push(parameter);
        }
    }
    let flat_weights = model.parameters().flat_weights();
    let moments = settings.moments.unwrap_or(match (flat_weights.device(), flat_weights.kind()) {
        // As wide as the weights, as in torch. The host has memory, and rounding there would cost
        // more than it saves.
        (Device::Cuda(_), Kind::BFloat16) => MomentDtype::Bfloat16,
        _ => MomentDtype::Float32,
    });
    let adam = &AdamConfig { moments, ..settings.adam.clone() };
    let others = vec![
        ParameterGroup { parameters: decayed, adam: adam.clone() },
        ParameterGroup { parameters: not_decayed, adam: AdamConfig { weight_decay: 0.0, ..adam.clone() } },
    ];
    let kept = match moments {
        MomentDtype::Float32 => "float32",
        MomentDtype::Bfloat16 => "bfloat16, rounded stochastically",
    };
    let mut constants = format!(
        "betas ({}, {}), epsilon {:e}, weight decay {}, moments in {kept}",
        adam.beta1, adam.beta2, adam.epsilon, adam.weight_decay
    );
    if model.parameters().flat_weights().kind() != Kind::Float {
        constants += match settings.weight_update {
            WeightUpdate::Exact => ", exact weight updates (16 hidden bits a weight)",
            WeightUpdate::Stochastic { .. } => ", weights rounded stochastically",
            WeightUpdate::Nearest => ", weights rounded to nearest (most of a small learning rate's updates are lost)",
        };
    }
    match &settings.kind {
        OptimizerKind::AdamW => {
            let optimizer = Box::new(AdamW::new(others, settings.weight_update)?);
            Ok(Built { optimizer, moments, summary: vec![format!("adamw_torch: {constants}")] })
        }
        OptimizerKind::GaLoreAdamW { galore, .. } => {
            let shapes: Vec<Vec<i64>> = galore_group.iter().map(|parameter| parameter.weight.size()).collect();
            let elements: i64 = shapes.iter().map(|shape| shape.iter().product::<i64>()).sum();
            let ranks: Vec<i64> = shapes.iter().map(|shape| galore.effective_rank(shape[0], shape[1])).collect();
            let full = shapes.iter().zip(&ranks).filter(|(shape, rank)| shape.iter().min() == Some(rank)).count();
            let range = match (ranks.iter().min(), ranks.iter().max()) {
                (Some(low), Some(high)) if low == high => low.to_string(),
                (Some(low), Some(high)) => format!("{low} to {high}"),
                _ => "none".to_owned(),
            };
            let mut summary = vec![
                format!("galore_adamw: {constants}"),
                format!(
                    "GaLore: {} target matrices with {:.1}M weights, effective rank {range}, gap {}{}, scale {}, {:?}",
                    shapes.len(),
                    elements as f64 / 1e6,
                    galore.update_proj_gap,
                    if galore.refresh == RefreshTiming::Staggered { " (staggered)" } else { "" },
                    galore.scale,
                    galore.proj_type
                ),
            ];
            if full > 0 {
                summary.push(format!(
                    "GaLore: rank {} is full rank for {full} of {} targets: there it is Adam in a rotated basis, with moments as large \
                     as the weights, and saves no memory",
                    galore.rank,
                    shapes.len()
                ));
            }
            let targets = ParameterGroup { parameters: galore_group, adam: adam.clone() };
            Ok(Built {
                optimizer: Box::new(GaLoreAdamW::new(targets, others, galore, settings.weight_update)?),
                moments,
                summary,
            })
        }
    }
}
