use super::*;
use crate::engine::Engine;
use crate::{
    AdamConfig, GaLoreConfig, Parameter, ParameterGroup, ProjectionType, RefreshTiming, SubspaceSolver, WeightUpdate,
};
use tch::Device;

const REFRESH_BYTES: u64 = 600_000_000;

/// Parameters of these shapes, adjacent in one buffer of weights and one of gradients.
fn group(shapes: &[[i64; 2]], device: Device) -> ParameterGroup {
    let total = shapes.iter().map(|[rows, cols]| rows * cols).sum::<i64>();
    let buffer = || Tensor::zeros([total], (Kind::BFloat16, device));
    let (weights, gradients) = (buffer(), buffer());
    let mut start = 0;
    let parameters = shapes
        .iter()
        .enumerate()
        .map(|(index, [rows, cols])| {
            let view = |buffer: &Tensor| buffer.narrow(0, start, rows * cols).view([*rows, *cols]);
            let parameter =
                Parameter { name: index.to_string(), weight: view(&weights), gradient: Some(view(&gradients)) };
            start += rows * cols;
            parameter
        })
        .collect();
    ParameterGroup::new(parameters, AdamConfig::galore_default())
}

fn stacks(group: ParameterGroup, proj_type: ProjectionType) -> Vec<(usize, usize)> {
    let galore = GaLoreConfig { rank: 2.into(), proj_type, ..GaLoreConfig::default() };
    let engine = Engine::new(AdamFormula::GaLore, vec![group.with_galore(galore)], WeightUpdate::Exact).unwrap();
    engine.stacks.iter().map(|stack| (stack.members.start, stack.members.end)).collect()
}

#[test]
fn neighbours_of_one_shape_are_found_on_a_gpu_alone() {
    let shapes = [[4, 6], [4, 6], [6, 4], [5, 5], [5, 5], [5, 5]];
    assert!(stacks(group(&shapes, Device::Cpu), ProjectionType::Std).is_empty());
    if !torch_ext::cuda::load() || fused_kernels(&[&Tensor::zeros([1], (Kind::Float, Device::Cuda(0)))]).is_none() {
        return;
    }
    let device = Device::Cuda(0);
    assert_eq!(stacks(group(&shapes, device), ProjectionType::Std), [(0, 2), (3, 6)]);
    assert!(stacks(group(&shapes, device), ProjectionType::Full).is_empty());
    let mut with_gap = group(&shapes, device);
    with_gap.parameters.remove(4);
    assert_eq!(stacks(with_gap, ProjectionType::Right), [(0, 2)]);
    let mut reversed = group(&shapes, device);
    reversed.parameters.reverse();
    assert!(stacks(reversed, ProjectionType::Std).is_empty());
    let mut no_buffers = group(&shapes, device);
    no_buffers.parameters.iter_mut().for_each(|parameter| parameter.gradient = None);
    assert!(stacks(no_buffers, ProjectionType::Std).is_empty());
}

/// A stack as on a GPU. The CPU can refresh it.
fn stacked(
    config: &GaLoreConfig,
    [rows, cols]: [i64; 2],
    count: usize,
    device: Device,
) -> (Stack, Vec<ParameterState>) {
    let group = group(&vec![[rows, cols]; count], device).with_galore(config.clone());
    let mut members = Engine::new(AdamFormula::GaLore, vec![group], WeightUpdate::Nearest).unwrap().parameters;
    let stack = Stack::of(&mut members, 0).unwrap().unwrap();
    (stack, members)
}

fn fill(stack: &Stack, seed: i64) {
    let size = stack.gradients.size();
    let count: i64 = size.iter().product();
    let wave = ((Tensor::arange(count, (Kind::Double, Device::Cpu)) + seed) * 12.9898).sin() * 43_758.545;
    stack.gradients.shallow_clone().copy_(&(&wave - wave.floor() - 0.5).view(&size[..]));
}

/// The bases of 11 gradients of this shape after two refreshes, in parts that take `bytes`.
fn bases_made_with(bytes: u64, shape: [i64; 2], rank: i64, device: Device) -> (Tensor, Tensor) {
    let solver = SubspaceSolver::Eigenvectors;
    let config = GaLoreConfig { rank: rank.into(), subspace: solver, ..GaLoreConfig::default() };
    let (stack, mut members) = stacked(&config, shape, 11, device);
    for seed in [1, 2] {
        // The second refresh has a basis to take signs from.
        fill(&stack, seed);
        members.iter_mut().for_each(|member| member.num_steps = 0);
        stack.refresh_if_due(&mut members, bytes, &mut Vec::new()).unwrap();
    }
    (stack.bases, stack.gradients)
}

/// Products in batches of another size may round differently, so the test compares the energy that
/// the bases hold, not their bits.
#[test]
fn bases_hold_the_same_however_many_are_made_at_a_time() {
    let gpu = torch_ext::cuda::load().then_some((Device::Cuda(0), 1e-4));
    for (device, bound) in [Some((Device::Cpu, 1e-5)), gpu].into_iter().flatten() {
        // Iterative and exact, on either side.
        for (shape, rank) in [([40, 24], 6), ([40, 24], 24), ([24, 40], 12), ([170, 170], 30), ([240, 96], 24)] {
            let energy = |bytes| {
                let (bases, gradients) = bases_made_with(bytes, shape, rank, device);
                let (bases, gradients) = (bases.to_kind(Kind::Float), gradients.to_kind(Kind::Float));
                let projected = match shape[0] < shape[1] {
                    true => bases.transpose(1, 2).matmul(&gradients),
                    false => gradients.matmul(&bases.transpose(1, 2)),
                };
                projected.square().sum_dim_intlist([1, 2].as_slice(), false, Kind::Double)
            };
            let one_by_one = energy(1);
            assert!(one_by_one.min().double_value(&[]) > 0.0);
            for bytes in [40_000, 3_000_000, 1_000_000_000] {
                let off = ((energy(bytes) - &one_by_one) / &one_by_one).abs().max().double_value(&[]);
                assert!(off < bound, "{device:?} {shape:?}, rank {rank}, {bytes} bytes: {off:e}");
            }
        }
    }
}

#[test]
fn a_stack_refreshes_those_that_are_due() {
    for solver in [SubspaceSolver::Eigenvectors, SubspaceSolver::Svd] {
        let refresh = RefreshTiming::Staggered;
        let config =
            GaLoreConfig { rank: 3.into(), update_proj_gap: 10, refresh, subspace: solver, ..GaLoreConfig::default() };
        let (stack, mut members) = stacked(&config, [6, 9], 5, Device::Cpu);
        for step in 0..=20 {
            fill(&stack, step);
            let before = stack.bases.copy();
            members.iter_mut().for_each(|member| member.num_steps = step);
            stack.refresh_if_due(&mut members, REFRESH_BYTES, &mut Vec::new()).unwrap();
            let changed: Vec<i64> = (0..5).filter(|&index| before.get(index) != stack.bases.get(index)).collect();
            // One of five on every other step, in order.
            let expected = match step {
                0 => (0..5).collect(),
                _ if step % 2 == 0 => vec![(step / 2 - 1) % 5],
                _ => vec![],
            };
            assert_eq!(changed, expected, "{solver:?}, step {step}");
        }
    }
}

#[test]
fn a_member_without_a_gradient_keeps_its_basis_and_tries_again() {
    let gpu = torch_ext::cuda::load().then_some(Device::Cuda(0));
    for device in [Some(Device::Cpu), gpu].into_iter().flatten() {
        for subspace in [SubspaceSolver::Eigenvectors, SubspaceSolver::Svd, SubspaceSolver::Dct] {
            let config = GaLoreConfig { rank: 3.into(), update_proj_gap: 10, subspace, ..GaLoreConfig::default() };
            let (stack, mut members) = stacked(&config, [6, 9], 4, device);
            let mut changed_at = |step, zero: &[i64]| {
                fill(&stack, step);
                zero.iter().for_each(|index| drop(stack.gradients.get(*index).zero_()));
                let before = stack.bases.copy();
                members.iter_mut().for_each(|member| member.num_steps = step);
                stack.refresh_if_due(&mut members, REFRESH_BYTES, &mut Vec::new()).unwrap();
                let changed = (0..4).filter(|&index| before.get(index) != stack.bases.get(index));
                changed.collect::<Vec<i64>>()
            };
            let all = [0, 1, 2, 3];
            assert_eq!(changed_at(0, &[1]), [0, 2, 3], "{subspace}: member 1 has no basis yet");
            assert_eq!(changed_at(1, &[1]), [0; 0]);
            assert_eq!(changed_at(2, &[]), [1]);
            assert_eq!(changed_at(10, &[0, 3]), [1, 2]);
            assert_eq!(changed_at(11, &[3]), [0]);
            assert_eq!(changed_at(20, &[]), all);
            assert_eq!(changed_at(21, &[]), [0; 0]);
        }
    }
}

#[test]
fn a_bad_gradient_names_its_member_and_keeps_all_bases() {
    let config = GaLoreConfig { rank: 3.into(), subspace: SubspaceSolver::Eigenvectors, ..GaLoreConfig::default() };
    let (stack, mut members) = stacked(&config, [6, 9], 4, Device::Cpu);
    fill(&stack, 1);
    let _ = stack.gradients.get(2).get(3).fill_(f64::NAN);
    let error = stack.refresh_if_due(&mut members, REFRESH_BYTES, &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::NonFiniteGradient { name } if name == "2"), "{error}");
    assert_eq!(stack.bases.abs().max().double_value(&[]), 0.0);
}

/// What a stack cannot do is done one by one.
#[test]
fn settings_that_change_moments_make_no_stack() {
    use crate::BasisChange;
    let config = |moments, lazy_refresh, subspace| GaLoreConfig {
        rank: 3.into(),
        moments,
        lazy_refresh,
        subspace,
        ..GaLoreConfig::default()
    };
    for (config, expected) in [
        (config(BasisChange::Keep, false, SubspaceSolver::Random), true),
        (config(BasisChange::Keep, false, SubspaceSolver::Power), false),
        (config(BasisChange::Keep, true, SubspaceSolver::Auto), false),
        (config(BasisChange::Transport, false, SubspaceSolver::Auto), false),
        (config(BasisChange::Reset, false, SubspaceSolver::Auto), false),
    ] {
        let group = group(&[[6, 9], [6, 9]], Device::Cpu).with_galore(config.clone());
        let mut members = Engine::new(AdamFormula::GaLore, vec![group], WeightUpdate::Nearest).unwrap().parameters;
        assert_eq!(Stack::of(&mut members, 0).unwrap().is_some(), expected, "{config:?}");
    }
}
