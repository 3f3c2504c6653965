//! Moments of one byte a number.

use crate::{Golden, bits_equal, group, parameter, relative_difference};
use galore_optim::{AdamConfig, AdamW8bit, Error, MomentDtype, Optimizer, WeightUpdate};
use tch::{Device, Kind, Tensor};

const CASES: [(&str, MomentDtype); 2] = [("8bit", MomentDtype::Blockwise8bit), ("compact", MomentDtype::Compact)];

fn adam(moments: MomentDtype) -> AdamConfig {
    AdamConfig { moments, weight_decay: 0.1, ..AdamConfig::torch_default() }
}

#[test]
fn steps_follow_the_equations() {
    let golden = Golden::read("states.safetensors");
    for (name, moments) in CASES {
        let weight = golden.get("weight").copy();
        let mut gradient = weight.zeros_like();
        let groups = vec![group(vec![parameter("w", &weight, &gradient)], adam(moments))];
        let mut optimizer = AdamW8bit::new(groups, WeightUpdate::Exact).unwrap();
        let gradients = golden.get("gradients");
        let steps = gradients.size()[0];
        for step in 0..steps {
            gradient.copy_(&gradients.get(step));
            optimizer.step(0.01).unwrap();
            let Some(row) = [0, 1, steps - 1].iter().position(|&kept| kept == step) else { continue };
            let expected = golden.get(&format!("{name}.after")).get(row as i64);
            // A code that differs by one moves its weight a little more or less.
            let far = (&weight - &expected).abs().gt(1e-6).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
            assert!(far < 2e-3, "{name}: {far} of the weights differ after step {step}");
            assert!(relative_difference(&weight, &expected) < 1e-2, "{name}, step {step}");
        }
        for (suffix, found) in optimizer.state().unwrap() {
            let suffix = suffix.trim_start_matches("w.");
            if suffix == "step" {
                continue;
            }
            let expected = golden.get(&format!("{name}.{suffix}"));
            let difference = (found.to_kind(Kind::Float) - expected).abs();
            if suffix.ends_with("scales") {
                assert!(relative_difference(&found, expected) < 1e-3, "{name}.{suffix}");
            } else {
                assert!(difference.max().double_value(&[]) <= 1.0, "{name}.{suffix}");
                assert!(difference.mean(Kind::Float).double_value(&[]) < 2e-3, "{name}.{suffix}");
            }
        }
    }
}

#[test]
fn small_tensors_stay_in_float32_as_in_bitsandbytes() {
    for (numel, kind) in [(4095, Kind::Float), (4096, Kind::Uint8)] {
        let weight = Tensor::zeros([numel], (Kind::Float, Device::Cpu));
        let groups = vec![group(vec![parameter("w", &weight, &weight)], adam(MomentDtype::Blockwise8bit))];
        let optimizer = AdamW8bit::new(groups, WeightUpdate::Exact).unwrap();
        let state = optimizer.state().unwrap();
        let (_, first) = state.iter().find(|(name, _)| name == "w.exp_avg").unwrap();
        assert_eq!(first.kind(), kind);
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_no_code() {
    for (_, moments) in CASES {
        let weight = Tensor::ones([64, 80], (Kind::Float, Device::Cpu));
        let mut gradient = weight.full_like(0.1);
        let groups = vec![group(vec![parameter("w", &weight, &gradient)], adam(moments))];
        let mut optimizer = AdamW8bit::new(groups, WeightUpdate::Exact).unwrap();
        optimizer.step(0.01).unwrap();
        let kept: Vec<_> = optimizer.state().unwrap().into_iter().map(|(_, tensor)| tensor.copy()).collect();
        let kept_weight = weight.copy();
        let _ = gradient.view([-1]).get(5000).fill_(f64::NAN);
        assert!(matches!(optimizer.step(0.01), Err(Error::NonFiniteGradient { name }) if name == "w"));
        assert!(bits_equal(&weight, &kept_weight));
        for ((name, tensor), kept) in optimizer.state().unwrap().iter().zip(&kept) {
            assert!(bits_equal(tensor, kept), "{name}");
        }
        let _ = gradient.fill_(0.1);
        optimizer.step(0.01).unwrap();
    }
}
