//! Targets `[experts, rows, cols]`.

use crate::{bits_equal, group, parameter, random};
use galore_optim::{
    AdamConfig, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ProjectionType, RefreshTiming, SubspaceSolver,
    WeightUpdate,
};
use tch::{Kind, Tensor};

const EXPERTS: i64 = 4;

fn config() -> GaLoreConfig {
    GaLoreConfig {
        rank: 3.into(),
        update_proj_gap: 3,
        subspace: SubspaceSolver::Eigenvectors,
        ..GaLoreConfig::default()
    }
}

fn optimizer(parameters: Vec<Parameter>, config: &GaLoreConfig) -> GaLoreAdamW {
    let targets = group(parameters, AdamConfig::galore_default()).with_galore(config.clone());
    GaLoreAdamW::new(vec![targets], WeightUpdate::Exact).unwrap()
}

/// Gradients of a step. The last expert has none at first: no token was routed to it.
fn fill(gradient: &Tensor, step: i64) {
    gradient.shallow_clone().copy_(&random(&gradient.size(), 20 + step));
    if step < 4 {
        let _ = gradient.get(EXPERTS - 1).zero_();
    }
}

#[test]
fn a_stack_of_experts_is_as_many_targets() {
    for (kind, shape, proj_type, refresh) in [
        (Kind::Float, [EXPERTS, 8, 5], ProjectionType::Std, RefreshTiming::Together),
        (Kind::BFloat16, [EXPERTS, 5, 8], ProjectionType::Std, RefreshTiming::Together),
        (Kind::Half, [EXPERTS, 8, 5], ProjectionType::Full, RefreshTiming::Staggered),
        (Kind::Float, [1, 6, 6], ProjectionType::ReverseStd, RefreshTiming::Together),
    ] {
        let config = GaLoreConfig { proj_type, refresh, ..config() };
        let together = random(&shape, 0).to_kind(kind);
        let apart: Vec<Tensor> = (0..shape[0]).map(|index| together.get(index).copy()).collect();
        let gradient = together.zeros_like();
        let single = |index: i64| gradient.get(index);
        let mut one = optimizer(vec![parameter("experts", &together, &gradient)], &config);
        let several = (0..).zip(&apart).map(|(index, weight)| parameter(&format!("{index}"), weight, &single(index)));
        let mut several = optimizer(several.collect(), &config);
        for step in 0..10 {
            if shape[0] == EXPERTS {
                fill(&gradient, step);
            } else {
                gradient.shallow_clone().copy_(&random(&shape, step));
            }
            one.step(0.01).unwrap();
            several.step(0.01).unwrap();
            for (index, weight) in (0..).zip(&apart) {
                assert!(bits_equal(&together.get(index), weight), "{kind:?} {proj_type:?}, step {step}, {index}");
            }
        }
        let all = several.state().unwrap();
        for (name, tensor) in one.state().unwrap() {
            let suffix = name.strip_prefix("experts").unwrap();
            assert_eq!(tensor.size()[0], shape[0], "{name}");
            for index in 0..shape[0] {
                let wanted = &all.iter().find(|(name, _)| *name == format!("{index}{suffix}")).unwrap().1;
                assert!(bits_equal(&tensor.get(index), wanted), "{name} {index}");
            }
        }
        assert_eq!(one.state_bytes(), several.state_bytes());
    }
}

#[test]
fn their_state_is_one_parameter_and_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let shape = [EXPERTS, 8, 5];
    let start = || (random(&shape, 0).to_kind(Kind::BFloat16), Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu)));
    let (weight, gradient) = start();
    let mut straight = optimizer(vec![parameter("experts", &weight, &gradient)], &config());
    let mut kept = None;
    for step in 0..12 {
        // At step 3 a refresh is overdue, and one expert has no basis yet.
        if step == 3 {
            straight.save(&file).unwrap();
            kept = Some(weight.copy());
        }
        fill(&gradient, step);
        straight.step(0.01).unwrap();
    }
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("experts.exp_avg").unwrap().shape(), [4, 8, 3]);
    assert_eq!(tensors.tensor("experts.basis_right").unwrap().shape(), [4, 3, 5]);
    assert_eq!(tensors.tensor("experts.hidden_bits").unwrap().shape(), [4, 8, 5]);
    assert_eq!(tensors.tensor("experts.step").unwrap().data(), [3i64; 4].map(i64::to_le_bytes).concat());

    let (_, gradient) = start();
    let resumed_weight = kept.unwrap();
    let mut resumed = optimizer(vec![parameter("experts", &resumed_weight, &gradient)], &config());
    resumed.load(&file).unwrap();
    for step in 3..12 {
        fill(&gradient, step);
        resumed.step(0.01).unwrap();
    }
    assert!(bits_equal(&resumed_weight, &weight));
    let (a, b) = (straight.state().unwrap(), resumed.state().unwrap());
    assert!(a.iter().zip(&b).all(|((name, a), (other, b))| name == other && bits_equal(a, b)));
}

#[test]
fn gradients_may_come_from_autograd_and_bad_ones_name_the_expert() {
    let weight = random(&[2, 6, 4], 0).set_requires_grad(true);
    let mut optimizer = optimizer(vec![Parameter::new("experts", &weight)], &config());
    optimizer.step(0.1).unwrap();
    weight.square().sum(Kind::Float).backward();
    optimizer.step(0.1).unwrap();
    assert!((0..2).all(|index| !bits_equal(&weight.get(index).detach(), &random(&[2, 6, 4], 0).get(index))));
    let _ = weight.grad().get(1).get(2).fill_(f64::NAN);
    let error = optimizer.step(0.1).unwrap_err().to_string();
    assert!(error.contains("gradient of `experts[1]` holds NaN"), "{error}");
    let small = random(&[2, 6, 3], 0);
    let mut wrong = self::optimizer(vec![parameter("experts", &random(&[2, 6, 4], 0), &small)], &config());
    let error = wrong.step(0.1).unwrap_err().to_string();
    assert_eq!(error, "gradient of `experts` has shape [2, 6, 3], its weight [2, 6, 4]");
}

/// On a GPU the matrices are adjacent in memory, so they take their step together.
#[test]
fn experts_on_the_gpu_go_where_those_on_the_cpu_go() {
    if !torch_ext::cuda::load() {
        return;
    }
    for moments in ["keep", "transport", "reset"] {
        for subspace in ["eigenvectors", "power", "dct", "random"] {
            let args = format!("rank=6, scale=auto, update_proj_gap=4, subspace={subspace}, moments={moments}");
            let config = galore_optim::parse_optim_args(&args).unwrap();
            // Singular values far apart, so that rounding does not decide about the basis.
            let falling = (Tensor::arange(24, (Kind::Float, tch::Device::Cpu)) * -0.3).exp();
            let weights = [tch::Device::Cpu, tch::Device::Cuda(0)].map(|device| {
                let weight = random(&[EXPERTS, 40, 24], 0).to_device(device);
                let gradient = weight.zeros_like();
                let mut optimizer = optimizer(vec![parameter("experts", &weight, &gradient)], &config);
                for step in 0..10 {
                    let noise = random(&[EXPERTS, 40, 24], 30 + step) * 0.3;
                    let drawn = (random(&[EXPERTS, 40, 24], 7) + noise) * &falling;
                    gradient.shallow_clone().copy_(&drawn);
                    if step < 3 {
                        let _ = gradient.get(EXPERTS - 1).zero_();
                    }
                    optimizer.step(1e-3).unwrap();
                }
                weight.to_device(tch::Device::Cpu).to_kind(Kind::Double)
            });
            let change = (&weights[0] - random(&[EXPERTS, 40, 24], 0)).norm().double_value(&[]);
            let off = (&weights[0] - &weights[1]).norm().double_value(&[]) / change;
            eprintln!("{moments} {subspace}: {off:e}");
            assert!(off < 2e-2, "{moments} {subspace}: {off:e}");
        }
    }
}
