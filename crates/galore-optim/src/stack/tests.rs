use super::*;
use crate::core::Core;
use crate::{AdamConfig, GaLoreConfig, Parameter, ParameterGroup, ProjectionType, WeightUpdate};
use tch::Device;

/// Parameters of these shapes, one behind the other in two buffers.
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
    ParameterGroup { parameters, adam: AdamConfig::galore_default() }
}

fn stacks(group: ParameterGroup, proj_type: ProjectionType) -> Vec<(usize, usize)> {
    let mut core = Core::new(Flavour::GaLore);
    let galore = GaLoreConfig { rank: 2, proj_type, ..GaLoreConfig::default() };
    core.add(group, Some(&galore), WeightUpdate::Exact).unwrap();
    core.stacks.iter().map(|stack| (stack.members.start, stack.members.end)).collect()
}

#[test]
fn neighbours_of_one_shape_are_found_on_a_gpu_alone() {
    let shapes = [[4, 6], [4, 6], [6, 4], [5, 5], [5, 5], [5, 5]];
    assert!(stacks(group(&shapes, Device::Cpu), ProjectionType::Std).is_empty());
    if !torch_ext::cuda::load() {
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
