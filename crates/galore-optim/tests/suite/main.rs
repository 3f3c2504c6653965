//! Tests of the public interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy exempts test functions, not their helpers"
)]

mod against_python;
mod codecs;
mod experts;
mod finite_gradients;
mod groups;
mod narrow_moments;
mod odd_input;
mod on_gpu;
mod refresh;
mod state_files;
mod subspaces;
mod updates;
mod weight_updates;

use galore_optim::{AdamConfig, Parameter, ParameterGroup};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// A committed golden.
struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| {
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            (name.to_owned(), Tensor::f_from_data_size(view.data(), &shape, Kind::Float).unwrap())
        });
        Golden(tensors.collect())
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no golden `{name}`"))
    }
}

/// A parameter with a gradient buffer.
fn parameter(name: &str, weight: &Tensor, gradient: &Tensor) -> Parameter {
    Parameter::new(name, weight).with_gradient(gradient)
}

fn group(parameters: Vec<Parameter>, adam: AdamConfig) -> ParameterGroup {
    ParameterGroup::new(parameters, adam)
}

/// Gives each gradient the numbers of a step.
fn set_gradients(gradients: &mut [Tensor], step: i64) {
    for (gradient, seed) in gradients.iter_mut().zip(50..) {
        gradient.copy_(&(random(&gradient.size(), seed) + random(&gradient.size(), 1000 + step)));
    }
}

/// Numbers that depend only on shape and seed.
fn random(shape: &[i64], seed: i64) -> Tensor {
    // A low-discrepancy sequence through the inverse of tanh. It is bell-shaped enough, and needs
    // no global generator, which other tests would share.
    let numel: i64 = shape.iter().product();
    let values: Vec<f32> = (0..numel)
        .map(|i| {
            let u = ((i + 1) as f64 * 0.618_033_988_749_894_9 + seed as f64 * 0.754_877_666_246_692_7).fract();
            let v = ((i * i + 7 * i * (seed + 1)) as f64 * 0.324_717_957_244_746).fract();
            (0.6 * ((u * 0.998 + 0.001) * 2.0 - 1.0).atanh() + 0.8 * (v - 0.5)) as f32
        })
        .collect();
    Tensor::from_slice(&values).view(shape)
}

fn bits_equal(a: &Tensor, b: &Tensor) -> bool {
    a.kind() == b.kind() && a.size() == b.size() && bytes(a) == bytes(b)
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Largest difference, relative to the largest value.
fn relative_difference(found: &Tensor, expected: &Tensor) -> f64 {
    let scale = expected.abs().max().double_value(&[]).max(1e-30);
    (found - expected).abs().max().double_value(&[]) / scale
}
