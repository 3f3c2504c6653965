//! How bfloat16 and float16 weights take updates.

use crate::{bits_equal, group, parameter, random};
use galore_optim::{AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, Optimizer, WeightUpdate};
use tch::{Kind, Tensor};

const LEARNING_RATE: f64 = 1e-5;
const STEPS: i64 = 200;

/// 200 steps at a small learning rate on a target and a bias.
struct Run {
    start: [Tensor; 2],
    weights: [Tensor; 2],
    masters: [Tensor; 2],
}

fn run(kind: Kind, update: WeightUpdate) -> Run {
    // Starts on bfloat16 values, so that all types start from the same point.
    let start =
        [(random(&[24, 40], 0) * 0.05).to_kind(Kind::BFloat16), (random(&[64], 1) * 0.05).to_kind(Kind::BFloat16)];
    let weights = start.each_ref().map(|start| start.to_kind(kind).copy());
    let gradients = start.each_ref().map(|start| Tensor::zeros(start.size(), (Kind::Float, tch::Device::Cpu)));
    let galore = GaLoreConfig { rank: 8.into(), update_proj_gap: 50, scale: 1.8.into(), ..GaLoreConfig::default() };
    let targets = group(vec![parameter("target", &weights[0], &gradients[0])], AdamConfig::galore_default());
    let others = group(vec![parameter("bias", &weights[1], &gradients[1])], AdamConfig::galore_default());
    let mut optimizer = GaLoreAdamW::new(vec![targets.with_galore(galore), others], update).unwrap();
    for step in 0..STEPS {
        for (index, gradient) in gradients.iter().enumerate() {
            let fixed = random(&gradient.size(), 100 + index as i64);
            gradient.shallow_clone().copy_(&(fixed + random(&gradient.size(), 1000 + step)));
        }
        optimizer.step(LEARNING_RATE).unwrap();
    }
    let state = optimizer.state().unwrap();
    let masters = ["target", "bias"].map(|name| {
        let weight = &weights[usize::from(name == "bias")];
        match state.iter().find(|(key, _)| *key == format!("{name}.hidden_bits")) {
            Some((_, hidden)) => {
                let high = weight.view_dtype(Kind::Int16).to_kind(Kind::Int).bitwise_left_shift_tensor_scalar(16);
                (high + hidden.to_kind(Kind::Int)).view_dtype(Kind::Float)
            }
            None => match state.iter().find(|(key, _)| *key == format!("{name}.master")) {
                Some((_, master)) => master.copy(),
                None => weight.to_kind(Kind::Float),
            },
        }
    });
    Run { start: start.map(|start| start.to_kind(Kind::Float)), weights, masters }
}

/// Share of the float32 run's update that another run made, from 0 to 1.
fn share(run: &Run, reference: &Run, index: usize) -> f64 {
    let wanted = &reference.masters[index] - &reference.start[index];
    let made = &run.masters[index] - &run.start[index];
    ((&made * &wanted).sum(Kind::Double) / (&wanted * &wanted).sum(Kind::Double)).double_value(&[])
}

#[test]
fn exact_equals_float32_where_nearest_loses_most() {
    let reference = run(Kind::Float, WeightUpdate::Exact);
    let exact = run(Kind::BFloat16, WeightUpdate::Exact);
    let nearest = run(Kind::BFloat16, WeightUpdate::Nearest);
    for index in 0..2 {
        assert!(bits_equal(&exact.masters[index], &reference.masters[index]), "parameter {index}: master");
        // The weight is the rounded master. Ties do not occur here.
        let rounded = reference.masters[index].to_kind(Kind::BFloat16);
        assert!(bits_equal(&exact.weights[index], &rounded), "parameter {index}: weight");
        assert!(share(&nearest, &reference, index) < 0.35, "parameter {index}: {}", share(&nearest, &reference, index));
    }
}

#[test]
fn float16_keeps_its_master_too() {
    let reference = run(Kind::Float, WeightUpdate::Exact);
    let exact = run(Kind::Half, WeightUpdate::Exact);
    for index in 0..2 {
        // A bfloat16 start is exact in float16 unless it is a denormal there, so the masters may
        // differ slightly.
        let share = share(&exact, &reference, index);
        assert!((share - 1.0).abs() < 0.01, "parameter {index}: {share}");
        assert!(bits_equal(&exact.weights[index], &exact.masters[index].to_kind(Kind::Half)));
    }
}

#[test]
fn stochastic_keeps_the_mean_and_repeats() {
    let reference = run(Kind::Float, WeightUpdate::Exact);
    let first = run(Kind::BFloat16, WeightUpdate::Stochastic { seed: 3 });
    let again = run(Kind::BFloat16, WeightUpdate::Stochastic { seed: 3 });
    let other = run(Kind::BFloat16, WeightUpdate::Stochastic { seed: 4 });
    let share = share(&first, &reference, 0);
    assert!((share - 1.0).abs() < 0.15, "{share}");
    assert!(bits_equal(&first.weights[0], &again.weights[0]));
    assert!(!bits_equal(&first.weights[0], &other.weights[0]));
}

#[test]
fn stochastic_rounding_is_unbiased() {
    // One step of plain AdamW moves every weight by lr·g/(|g| + ε): by a tenth of a bfloat16 unit
    // in the last place.
    let numel = 200_000;
    let weight = Tensor::ones([numel], (Kind::BFloat16, tch::Device::Cpu));
    let gradient = -Tensor::ones([numel], (Kind::Float, tch::Device::Cpu));
    let groups = vec![group(vec![parameter("w", &weight, &gradient)], AdamConfig::torch_default())];
    let mut optimizer = AdamW::new(groups, WeightUpdate::Stochastic { seed: 1 }).unwrap();
    let unit = 2f64.powi(-7);
    optimizer.step(0.1 * unit).unwrap();
    let steps_up = (weight.to_kind(Kind::Double) - 1.0) / unit;
    let mean = steps_up.mean(Kind::Double).double_value(&[]);
    // Standard deviation of the mean: sqrt(0.1 · 0.9 / 200,000) = 0.00067.
    assert!((mean - 0.1).abs() < 0.003, "{mean}");
    assert_eq!(steps_up.max().double_value(&[]), 1.0);
    assert_eq!(steps_up.min().double_value(&[]), 0.0);
    // Neighbours are independent: both go up in one case of a hundred.
    let both =
        (steps_up.narrow(0, 1, numel - 1) * steps_up.narrow(0, 0, numel - 1)).mean(Kind::Double).double_value(&[]);
    assert!((both - 0.01).abs() < 0.002, "{both}");
}

#[test]
fn low_precision_gradients_are_taken_in_float32() {
    let start = random(&[24, 40], 0) * 0.05;
    let results = [Kind::Float, Kind::BFloat16].map(|gradient_kind| {
        let weight = start.to_kind(Kind::BFloat16);
        let bias = random(&[64], 1).to_kind(Kind::BFloat16);
        // Values that are exact in both types.
        let gradient = random(&[24, 40], 5).to_kind(Kind::BFloat16).to_kind(gradient_kind);
        let bias_gradient = random(&[64], 6).to_kind(Kind::BFloat16).to_kind(gradient_kind);
        let galore = GaLoreConfig { rank: 8.into(), ..GaLoreConfig::default() };
        let targets = group(vec![parameter("w", &weight, &gradient)], AdamConfig::galore_default());
        let others = group(vec![parameter("b", &bias, &bias_gradient)], AdamConfig::galore_default());
        let mut optimizer = GaLoreAdamW::new(vec![targets.with_galore(galore), others], WeightUpdate::Exact).unwrap();
        (0..3).for_each(|_| optimizer.step(1e-3).unwrap());
        [weight, bias]
    });
    assert!(bits_equal(&results[0][0], &results[1][0]));
    assert!(bits_equal(&results[0][1], &results[1][1]));
}

#[test]
fn views_into_one_buffer_are_updated_in_place_in_ranges() {
    // Longer than one range of work on the CPU, at an odd offset in a larger buffer.
    let numel = 3 * 128 * 1024 * i64::from(tch::get_num_threads()) + 5;
    let buffer = random(&[numel + 20], 0);
    let alone = buffer.narrow(0, 7, numel).copy();
    let before = buffer.copy();
    let gradient = random(&[numel], 1);
    let mut optimizers = [buffer.narrow(0, 7, numel), alone.shallow_clone()].map(|weight| {
        let groups = vec![group(vec![parameter("w", &weight, &gradient)], AdamConfig::torch_default())];
        AdamW::new(groups, WeightUpdate::Exact).unwrap()
    });
    optimizers.iter_mut().for_each(|optimizer| optimizer.step(1e-3).unwrap());
    // Against the formula of the first step.
    let expected = before.narrow(0, 7, numel) - &gradient / (gradient.abs() + 1e-8) * 1e-3;
    assert!((buffer.narrow(0, 7, numel) - expected).abs().max().double_value(&[]) < 1e-6);
    assert!((buffer.narrow(0, 7, numel) - &alone).abs().max().double_value(&[]) < 1e-7);
    for (start, length) in [(0, 7), (numel + 7, 13)] {
        assert!(bits_equal(&buffer.narrow(0, start, length), &before.narrow(0, start, length)));
    }
}
