//! A step on a GPU against the plain float32 step on the CPU. With the feature `fused-kernels` the
//! GPU uses fused kernels and TF32 products. Without a GPU there is nothing to test.

use crate::{group, parameter, random};
use galore_optim::{
    AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, MomentDtype, Optimizer, ProjectionType, WeightUpdate,
};
use tch::{Device, Kind, Tensor};

const STEPS: i64 = 6;
const NUM_TARGETS: usize = 8;

/// Weights and gradient buffers of one optimizer.
struct Side {
    weights: Vec<Tensor>,
    gradients: Vec<Tensor>,
    optimizer: Box<dyn Optimizer>,
}

fn side(
    device: Device,
    (kind, update): (Kind, WeightUpdate),
    moments: MomentDtype,
    galore: Option<&GaLoreConfig>,
) -> Side {
    // The first ones are targets and views into one buffer, so those of one shape take their step
    // together. Odd lengths leave a remainder for the last thread, and views that are not aligned
    // to wide accesses. The matrices are larger than one block.
    let shapes: [&[i64]; NUM_TARGETS + 3] = [
        &[96, 40],
        &[96, 40],
        &[96, 40],
        &[40, 96],
        &[40, 96],
        &[21, 33],
        &[21, 33],
        &[33, 33],
        &[7],
        &[50, 21],
        &[3001],
    ];
    let total: i64 = shapes.iter().map(|shape| shape.iter().product::<i64>()).sum();
    let views = || -> Vec<Tensor> {
        let flat = Tensor::zeros([total], (kind, device));
        let mut start = 0;
        let view = |shape: &&[i64]| {
            let numel: i64 = shape.iter().product();
            start += numel;
            flat.narrow(0, start - numel, numel).view(*shape)
        };
        shapes.iter().map(view).collect()
    };
    let (mut weights, gradients) = (views(), views());
    for (weight, seed) in weights.iter_mut().zip(0..) {
        let size = weight.size();
        weight.copy_(&random(&size, seed));
    }
    let parameters = |range: std::ops::Range<usize>| {
        range.map(|index| parameter(&format!("p{index}"), &weights[index], &gradients[index])).collect()
    };
    let adam = AdamConfig { weight_decay: 0.1, moments, ..AdamConfig::galore_default() };
    let optimizer: Box<dyn Optimizer> = match galore {
        None => Box::new(AdamW::new(vec![group(parameters(0..NUM_TARGETS + 3), adam)], update).unwrap()),
        Some(galore) => {
            let others = group(parameters(NUM_TARGETS..NUM_TARGETS + 3), adam.clone());
            let targets = group(parameters(0..NUM_TARGETS), adam).with_galore(galore.clone());
            Box::new(GaLoreAdamW::new(vec![targets, others], update).unwrap())
        }
    };
    Side { weights, gradients, optimizer }
}

impl Side {
    fn step(&mut self, step: i64) {
        for (index, gradient) in self.gradients.iter_mut().enumerate() {
            let size = gradient.size();
            gradient.copy_(&(random(&size, 100 * step + index as i64) * 0.1));
        }
        self.optimizer.step(0.01).unwrap();
    }
}

#[test]
fn a_step_on_the_gpu_is_that_of_the_cpu() {
    if !torch_ext::cuda::load() {
        return;
    }
    let galore = |proj_type| {
        Some(GaLoreConfig {
            rank: 12.into(),
            update_proj_gap: 100,
            scale: 1.0.into(),
            proj_type,
            ..GaLoreConfig::default()
        })
    };
    let folder = tempfile::tempdir().unwrap();
    for (kind, update, moments) in [
        (Kind::Float, WeightUpdate::Exact, MomentDtype::Float32),
        (Kind::Float, WeightUpdate::Exact, MomentDtype::Bfloat16),
        (Kind::BFloat16, WeightUpdate::Exact, MomentDtype::Float32),
        (Kind::BFloat16, WeightUpdate::Exact, MomentDtype::Bfloat16),
        (Kind::BFloat16, WeightUpdate::Stochastic { seed: 5 }, MomentDtype::Bfloat16),
        (Kind::BFloat16, WeightUpdate::Nearest, MomentDtype::Float32),
    ] {
        for galore in
            [None, galore(ProjectionType::Std), galore(ProjectionType::ReverseStd), galore(ProjectionType::Full)]
        {
            let mut cpu = side(Device::Cpu, (kind, update), moments, galore.as_ref());
            let mut gpu = side(Device::Cuda(0), (kind, update), moments, galore.as_ref());
            // The first step, on the CPU, computes the basis. The GPU continues from there.
            cpu.step(0);
            let state = folder.path().join("state");
            cpu.optimizer.save(&state).unwrap();
            gpu.optimizer.load(&state).unwrap();
            let start: Vec<Tensor> = cpu.weights.iter().map(Tensor::copy).collect();
            for (weight, start) in gpu.weights.iter_mut().zip(&start) {
                weight.copy_(start);
            }
            for step in 1..STEPS {
                cpu.step(step);
                gpu.step(step);
            }
            for (index, ((ours, wanted), start)) in gpu.weights.iter().zip(&cpu.weights).zip(&start).enumerate() {
                let wide = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double);
                let error = (wide(ours) - wide(wanted)).norm().double_value(&[]);
                let change = (wide(wanted) - wide(start)).norm().double_value(&[]);
                // Products in TF32 are off by 5e-4, which Adam's division by small second moments
                // enlarges. About one bfloat16 weight in a hundred is near a rounding boundary and
                // is off by a unit in its last place: up to 0.004, with changes of at most 0.05.
                // Moments in bfloat16 draw other random bits where a stack takes its step together,
                // so each is off by up to 0.8 %, at random.
                let bound = match (kind, galore.is_some() && index < NUM_TARGETS) {
                    (Kind::Float, _) if moments == MomentDtype::Bfloat16 => 1e-2,
                    (Kind::Float, false) => 1e-5,
                    (Kind::Float, true) => 5e-3,
                    _ => 4e-2,
                };
                assert!(
                    error <= bound * change,
                    "{kind:?} {update:?} {moments:?} {galore:?} p{index}: {:.2e}",
                    error / change
                );
            }
        }
    }
}
