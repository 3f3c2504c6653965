//! Measures steps of the optimizers, next to libtorch's AdamW and to GaLore written with plain
//! operations, and how long a decomposition takes.
//!
//! The weights have the shapes of two layers of SmolLM2-135M and a sixth of its embedding.

use crate::table::{TIME, Work, check_close, head, line};
use anyhow::Result;
use galore_optim::{
    AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ParameterGroup, SubspaceSolver, WeightUpdate,
};
use std::path::Path;
use std::time::Duration;
use tch::nn::OptimizerConfig;
use tch::{Device, Kind, Tensor, nn};
use whole_program_tests::measure::Variant;

const LAYERS: usize = 2;
const SHAPES: [[i64; 2]; 7] = [[576, 576], [192, 576], [192, 576], [576, 576], [1536, 576], [1536, 576], [576, 1536]];
const EMBEDDING: [i64; 2] = [8192, 576];
const LEARNING_RATE: f64 = 1e-3;
/// Number of steps that are compared with the plain implementation.
const STEPS: usize = 3;
/// Both sides compute in float32 in different orders, and Adam divides by a root that is nearly 0
/// in places.
const TOLERANCE: f64 = 1e-4;

pub fn run(_: &Path) -> Result<()> {
    tch::manual_seed(0);
    let elements: i64 =
        LAYERS as i64 * SHAPES.iter().map(|[rows, cols]| rows * cols).sum::<i64>() + EMBEDDING[0] * EMBEDDING[1];
    head(&format!("optimizer steps: {:.1}M weights of {LAYERS} layers and an embedding", elements as f64 / 1e6));
    let work = Work { amount: elements as f64 / 1e6, unit: "M weights/s" };

    check_adamw()?;
    let mut plain = PlainAdamW::new(&weights(Kind::Float)?)?;
    let mut variants = vec![Variant::new("libtorch's, float32", move || plain.step())];
    for (name, kind, update) in [
        ("float32", Kind::Float, WeightUpdate::Exact),
        ("bfloat16, exact", Kind::BFloat16, WeightUpdate::Exact),
        ("bfloat16, stochastic", Kind::BFloat16, WeightUpdate::Stochastic { seed: 0 }),
        ("bfloat16, nearest", Kind::BFloat16, WeightUpdate::Nearest),
    ] {
        let group = ParameterGroup::new(weights(kind)?, AdamConfig::torch_default());
        let mut optimizer = AdamW::new(vec![group], update)?;
        variants.push(Variant::new(name, move || Ok(optimizer.step(LEARNING_RATE)?)));
    }
    line("AdamW", work, variants, 2 * TIME)?;

    for (what, rank) in [("GaLore, r = 64", 64), ("GaLore, full rank", 576)] {
        check_galore(rank)?;
        let mut plain = PlainGaLore::new(weights(Kind::Float)?, rank)?;
        let mut variants = vec![Variant::new("plain operations, float32", move || plain.step())];
        for (name, kind) in [("float32", Kind::Float), ("bfloat16, exact", Kind::BFloat16)] {
            let mut optimizer = galore(weights(kind)?, &without_refresh(rank))?;
            variants.push(Variant::new(name, move || Ok(optimizer.step(LEARNING_RATE)?)));
        }
        line(what, work, variants, 2 * TIME)?;
    }

    for (what, rank) in [("refresh of one layer, r = 64", 64), ("refresh of one layer, full rank", 576)] {
        let mut variants = Vec::new();
        for (name, solver) in [("svd", SubspaceSolver::Svd), ("eigenvectors", SubspaceSolver::Eigenvectors)] {
            let layer: Vec<Parameter> = weights(Kind::Float)?.into_iter().take(SHAPES.len()).collect();
            let config =
                GaLoreConfig { rank: rank.into(), update_proj_gap: 1, subspace: solver, ..GaLoreConfig::default() };
            let mut optimizer = galore(layer, &config)?;
            variants.push(Variant::timed_by_itself(name, move || {
                let before: Duration = optimizer.subspace_refresh_time();
                optimizer.step(LEARNING_RATE)?;
                Ok(optimizer.subspace_refresh_time() - before)
            }));
        }
        line(what, Work { amount: SHAPES.len() as f64, unit: "matrices/s" }, variants, TIME)?;
    }
    Ok(())
}

/// Layers first. Gradients are float32, as those of the model on the CPU.
fn weights(kind: Kind) -> Result<Vec<Parameter>> {
    tch::manual_seed(1);
    let shapes = std::iter::repeat_n(SHAPES, LAYERS).flatten().chain([EMBEDDING]);
    let parameter = |(index, shape): (usize, [i64; 2])| -> Result<Parameter> {
        let weight = (Tensor::f_randn(shape, (Kind::Float, Device::Cpu))? * 0.02).f_to_kind(kind)?;
        let gradient = Some(Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?);
        Ok(Parameter { name: format!("weight {index}"), weight, gradient })
    };
    shapes.enumerate().map(parameter).collect()
}

/// A configuration that never refreshes the subspace after the first step.
fn without_refresh(rank: i64) -> GaLoreConfig {
    GaLoreConfig { rank: rank.into(), update_proj_gap: i64::MAX, ..GaLoreConfig::default() }
}

fn galore(mut targets: Vec<Parameter>, config: &GaLoreConfig) -> Result<GaLoreAdamW> {
    let others = targets.iter().position(|parameter| parameter.weight.size() == EMBEDDING);
    let others = others.map_or_else(Vec::new, |index| targets.split_off(index));
    let group = |parameters| ParameterGroup::new(parameters, AdamConfig::galore_default());
    Ok(GaLoreAdamW::new(vec![group(targets).with_galore(config.clone()), group(others)], WeightUpdate::Exact)?)
}

fn check_adamw() -> Result<()> {
    let (ours, reference) = (weights(Kind::Float)?, weights(Kind::Float)?);
    let mut plain = PlainAdamW::new(&reference)?;
    let group = ParameterGroup::new(shared(&ours), AdamConfig::torch_default());
    let mut optimizer = AdamW::new(vec![group], WeightUpdate::Exact)?;
    for _ in 0..STEPS {
        plain.step()?;
        optimizer.step(LEARNING_RATE)?;
    }
    ours.iter()
        .zip(&plain.weights)
        .try_for_each(|(ours, plain)| check_close(&format!("AdamW: {}", ours.name), &ours.weight, plain, TOLERANCE))
}

fn check_galore(rank: i64) -> Result<()> {
    let (ours, mut plain) = (weights(Kind::Float)?, PlainGaLore::new(weights(Kind::Float)?, rank)?);
    let mut optimizer = galore(shared(&ours), &without_refresh(rank))?;
    for _ in 0..STEPS {
        plain.step()?;
        optimizer.step(LEARNING_RATE)?;
    }
    ours.iter().zip(&plain.parameters).try_for_each(|(ours, plain)| {
        check_close(&format!("GaLore, rank {rank}: {}", ours.name), &ours.weight, &plain.weight, TOLERANCE)
    })
}

fn shared(parameters: &[Parameter]) -> Vec<Parameter> {
    let share = |parameter: &Parameter| Parameter {
        name: parameter.name.clone(),
        weight: parameter.weight.shallow_clone(),
        gradient: parameter.gradient.as_ref().map(Tensor::shallow_clone),
    };
    parameters.iter().map(share).collect()
}

/// AdamW of libtorch.
struct PlainAdamW {
    optimizer: nn::Optimizer,
    weights: Vec<Tensor>,
}

impl PlainAdamW {
    fn new(parameters: &[Parameter]) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let variable = |parameter: &Parameter| -> Result<Tensor> {
            let weight = store.root().f_var_copy(&parameter.name.replace(' ', "_"), &parameter.weight)?;
            if let Some(gradient) = &parameter.gradient {
                weight.f_mul(gradient)?.f_sum(Kind::Float)?.f_backward()?;
            }
            Ok(weight)
        };
        let weights = parameters.iter().map(variable).collect::<Result<Vec<_>>>()?;
        Ok(Self { optimizer: nn::adamw(0.9, 0.999, 0.0).build(&store, LEARNING_RATE)?, weights })
    }

    fn step(&mut self) -> Result<()> {
        self.optimizer.step();
        Ok(())
    }
}

/// GaLore as in galore-torch, with a temporary tensor for each operation.
struct PlainGaLore {
    parameters: Vec<Parameter>,
    /// Moments, and the basis if the parameter is a target.
    state: Vec<(Tensor, Tensor, Option<Tensor>)>,
    steps: i32,
}

impl PlainGaLore {
    fn new(parameters: Vec<Parameter>, rank: i64) -> Result<Self> {
        let state = |parameter: &Parameter| -> Result<(Tensor, Tensor, Option<Tensor>)> {
            let (rows, cols) = parameter.weight.size2()?;
            let options = (Kind::Float, Device::Cpu);
            if parameter.weight.size() == EMBEDDING {
                return Ok((Tensor::f_zeros([rows, cols], options)?, Tensor::f_zeros([rows, cols], options)?, None));
            }
            let (left, _, right) = gradient(parameter)?.f_svd(true, true)?;
            let rank = rank.min(rows).min(cols);
            let tall = rows >= cols;
            let basis = if tall { right } else { left }.f_narrow(1, 0, rank)?.f_contiguous()?;
            let shape = if tall { [rows, rank] } else { [rank, cols] };
            Ok((Tensor::f_zeros(shape, options)?, Tensor::f_zeros(shape, options)?, Some(basis)))
        };
        let state = parameters.iter().map(state).collect::<Result<Vec<_>>>()?;
        Ok(Self { parameters, state, steps: 0 })
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        let [beta1, beta2, epsilon, scale] = [0.9, 0.999, 1e-6, GaLoreConfig::default().effective_scale(1, 1)];
        let step = LEARNING_RATE * (1.0 - f64::powi(beta2, self.steps)).sqrt() / (1.0 - f64::powi(beta1, self.steps));
        for (parameter, (first, second, basis)) in self.parameters.iter_mut().zip(&mut self.state) {
            let gradient = gradient(parameter)?;
            let (rows, cols) = gradient.size2()?;
            let low_rank = match basis {
                None => gradient.shallow_clone(),
                Some(basis) if rows >= cols => gradient.f_matmul(basis)?,
                Some(basis) => basis.f_tr()?.f_matmul(gradient)?,
            };
            *first = &*first * beta1 + &low_rank * (1.0 - beta1);
            *second = &*second * beta2 + low_rank.f_square()? * (1.0 - beta2);
            let direction = &*first / (second.f_sqrt()? + epsilon);
            let update = match basis {
                None => direction,
                Some(basis) if rows >= cols => direction.f_matmul(&basis.f_tr()?)? * scale,
                Some(basis) => basis.f_matmul(&direction)? * scale,
            };
            let _ = parameter.weight.f_sub_(&(update * step))?;
        }
        Ok(())
    }
}

fn gradient(parameter: &Parameter) -> Result<&Tensor> {
    parameter.gradient.as_ref().ok_or_else(|| anyhow::anyhow!("{} has no gradient", parameter.name))
}
