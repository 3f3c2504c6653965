//! Compares an operation with autograd of its reference, in float64 and in the types of training.

use tch::{Device, Kind, Tensor};

/// The GPU if there is one, so that its kernels are compared with the same references.
pub(crate) fn device() -> Device {
    if torch_ext::cuda::load() { Device::Cuda(0) } else { Device::Cpu }
}

thread_local! { static SEED: std::cell::Cell<i64> = const { std::cell::Cell::new(1) }; }

/// Standard normal values, the same in every run. They are rounded to bfloat16, so that they are
/// exact in every type.
pub(crate) fn random(shape: &[i64], kind: Kind) -> Tensor {
    let seed = SEED.with(|seed| seed.replace(seed.get() + 1));
    // A multiplicative hash, because tests in other threads share torch's generator.
    let numel: i64 = shape.iter().product();
    let uniform = |index: i64| {
        let mut bits =
            (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (seed as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let values: Vec<f64> = (0..numel)
        .map(|index| {
            (-2.0 * (1.0 - uniform(2 * index)).ln()).sqrt()
                * (2.0 * std::f64::consts::PI * uniform(2 * index + 1)).cos()
        })
        .collect();
    Tensor::from_slice(&values).view(shape).to_kind(Kind::BFloat16).to_kind(kind).to_device(device())
}

/// Runs a check in float64, float32 and bfloat16, with the same seeds.
pub(crate) fn each_precision(check: impl Fn(Kind)) {
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
        SEED.with(|seed| seed.set(1));
        check(kind);
    }
}

/// The largest difference allowed, relative to the largest value. Float64 must agree to 1e-9.
/// Float32 and bfloat16 round at 6e-8 and 4e-3, and sums over the shapes used here collect a few
/// such errors.
pub(crate) fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::Double => 1e-9,
        Kind::Float => 5e-6,
        _ => 3e-2,
    }
}

/// The reference's output and gradients, computed in float64 whatever type is tested.
pub(crate) struct Check {
    kind: Kind,
    output: Tensor,
    gradients: Vec<Tensor>,
}

impl Check {
    pub(crate) fn of(inputs: &[&Tensor], dy: &Tensor, reference: impl Fn(&[Tensor]) -> Tensor) -> Self {
        let leaves: Vec<Tensor> =
            inputs.iter().map(|input| input.to_kind(Kind::Double).detach().copy().set_requires_grad(true)).collect();
        let output = reference(&leaves);
        let scalar = (&output * dy.to_kind(Kind::Double)).sum(Kind::Double);
        let used: Vec<&Tensor> = leaves.iter().collect();
        scalar.backward();
        let gradients =
            used.iter().map(|leaf| if leaf.grad().defined() { leaf.grad() } else { leaf.zeros_like() }).collect();
        Self { kind: inputs[0].kind(), output: output.detach(), gradients }
    }

    pub(crate) fn forward(&mut self, ours: &Tensor) {
        assert_close(ours, &self.output, self.kind, "output");
    }

    pub(crate) fn gradient(&mut self, input: usize, ours: &Tensor) {
        assert_close(ours, &self.gradients[input], self.kind, &format!("gradient {input}"));
    }
}

pub(crate) fn assert_close(ours: &Tensor, reference: &Tensor, kind: Kind, what: &str) {
    assert_eq!(ours.size(), reference.size(), "{what}");
    let reference = reference.to_device(Device::Cpu).to_kind(Kind::Double);
    let difference = (ours.to_device(Device::Cpu).to_kind(Kind::Double) - &reference).abs().max().double_value(&[]);
    let scale = reference.abs().max().double_value(&[]).max(1e-30);
    assert!(
        difference <= tolerance(kind) * scale,
        "{what} in {kind:?}: off by {:.2e} of the largest",
        difference / scale
    );
}
