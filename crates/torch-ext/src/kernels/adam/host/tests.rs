//! The CPU's kernels against the formula in float64, and against each other.

use super::super::{self as adam, Weight};
use super::formats::{rounded_stochastically, rounded_to_nearest};
use super::*;
use tch::Device;

const CONSTANTS: Constants = Constants {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-6,
    step: -0.01,
    moments_key: 0x0123_4567_89ab_cdef,
    root: 0.7,
    decay_before: 0.999,
    decay_after: 0.998,
};
/// Less than a range, one that ends in a range, and several.
const LENGTHS: [i64; 4] = [1, 7, CHUNK as i64, 3 * CHUNK as i64 + 5];

/// Numbers between −2 and 2 without a pattern. torch's generator is shared by the threads of tests.
fn random(numel: i64, kind: Kind, seed: i64) -> Tensor {
    let angles = Tensor::arange(numel, (Kind::Double, Device::Cpu)) * 12.9898 + seed as f64 * 78.233;
    let part = (angles.sin() * 43_758.545_3).frac();
    (part * 2.0).to_kind(Kind::Float).to_kind(kind)
}

/// One step from the same start in some format. Returns weight, hidden bits and moments.
struct Stepped {
    weight: Tensor,
    hidden: Tensor,
    first: Tensor,
    second: Tensor,
}

fn step(numel: i64, format: Option<WeightFormat<'_>>, kinds: [Kind; 2]) -> Stepped {
    let [gradient_kind, moment_kind] = kinds;
    // A bfloat16 start, so that every format begins at the same master.
    let start = random(numel, Kind::BFloat16, 1);
    let hidden = Tensor::zeros([numel], (Kind::Int16, Device::Cpu));
    let format = format.unwrap_or(WeightFormat::HiddenBits(&hidden));
    let kind = if matches!(format, WeightFormat::Float) { Kind::Float } else { Kind::BFloat16 };
    let mut weight = start.to_kind(kind).copy();
    let gradient = random(numel, gradient_kind, 2);
    let mut first = random(numel, moment_kind, 3);
    let mut second = random(numel, moment_kind, 4).square();
    let moments = Moments { first: &mut first, second: &mut second };
    adam::full(Weight { values: &mut weight, format }, &gradient, moments, &CONSTANTS).unwrap();
    Stepped { weight, hidden: hidden.shallow_clone(), first, second }
}

fn worst(ours: &Tensor, reference: &Tensor) -> f64 {
    let scale = reference.abs().clamp_min(1.0);
    ((ours.to_kind(Kind::Double) - reference).abs() / scale).max().double_value(&[])
}

#[test]
fn a_step_is_that_of_the_formula() {
    for numel in LENGTHS {
        for gradient_kind in [Kind::Float, Kind::BFloat16] {
            let ours = step(numel, Some(WeightFormat::Float), [gradient_kind, Kind::Float]);
            let wide = |tensor: Tensor| tensor.to_kind(Kind::Double);
            let gradient = wide(random(numel, gradient_kind, 2));
            let first = wide(random(numel, Kind::Float, 3)) * 0.9 + &gradient * 0.1;
            let second = wide(random(numel, Kind::Float, 4).square()) * 0.999 + gradient.square() * 0.001;
            let direction = &first / (second.sqrt() / 0.7 + 1e-6);
            let weight = (wide(random(numel, Kind::BFloat16, 1)) * 0.999 + &direction * -0.01) * 0.998;
            assert!(worst(&ours.first, &first) < 1e-6 && worst(&ours.second, &second) < 1e-6);
            assert!(worst(&ours.weight, &weight) < 1e-6, "{numel}: {}", worst(&ours.weight, &weight));

            let mut low_rank = random(numel, Kind::Float, 2);
            let (mut m, mut v) = (random(numel, Kind::Float, 3), random(numel, Kind::Float, 4).square());
            adam::direction(&mut low_rank, Moments { first: &mut m, second: &mut v }, &CONSTANTS).unwrap();
            if gradient_kind == Kind::Float {
                assert!(worst(&(low_rank / -0.01), &direction) < 1e-5);
            }
        }
    }
}

#[test]
fn every_format_rounds_the_same_master() {
    for numel in LENGTHS {
        let reference = step(numel, Some(WeightFormat::Float), [Kind::BFloat16, Kind::Float]);
        let exact = step(numel, None, [Kind::BFloat16, Kind::Float]);
        let joined = exact.weight.view_dtype(Kind::Int16).to_kind(Kind::Int) * 65_536 + exact.hidden.to_kind(Kind::Int);
        assert_eq!(joined, reference.weight.view_dtype(Kind::Int), "{numel}: master");
        let mut master = Tensor::empty([numel], (Kind::Float, Device::Cpu));
        adam::read_master(&exact.weight, WeightFormat::HiddenBits(&exact.hidden), 1.0, &mut master).unwrap();
        assert_eq!(master, reference.weight, "{numel}: master read back");

        let nearest = step(numel, Some(WeightFormat::Nearest), [Kind::BFloat16, Kind::Float]);
        assert_eq!(nearest.weight, reference.weight.to_kind(Kind::BFloat16), "{numel}: nearest");

        let key = 0xfeed_beef_0bad_cafe;
        let rounded = step(numel, Some(WeightFormat::Stochastic { key }), [Kind::BFloat16, Kind::Float]);
        let masters = Vec::<f32>::try_from(&reference.weight).unwrap();
        let found = Vec::<f32>::try_from(rounded.weight.to_kind(Kind::Float)).unwrap();
        for (index, (master, found)) in masters.iter().zip(&found).enumerate() {
            let bits = u32::from(rounded_stochastically(*master, noise(index, key))) << 16;
            assert_eq!(found.to_bits(), bits, "{numel}: element {index}");
        }
    }
}

#[test]
fn values_that_are_not_finite_stay_what_they_are() {
    for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        for bits in [rounded_stochastically(value, 0xffff), rounded_to_nearest(value)] {
            let back = bits.widen();
            assert!(back == value || back.is_nan() && value.is_nan(), "{value}: {back}");
        }
    }
}

#[test]
fn narrow_moments_are_right_on_average() {
    let numel = 4 * CHUNK as i64;
    let reference = step(numel, Some(WeightFormat::Float), [Kind::Float, Kind::Float]);
    let narrow = step(numel, Some(WeightFormat::Float), [Kind::Float, Kind::BFloat16]);
    for (narrow, reference) in [(&narrow.first, &reference.first), (&narrow.second, &reference.second)] {
        let relative = (narrow.to_kind(Kind::Double) - reference) / reference.abs().clamp_min(1e-3);
        // A unit in the last place is at most 2⁻⁷ of a value. The moments began as rounded values.
        assert!(relative.abs().median().double_value(&[]) < 0.006);
        assert!(relative.mean(Kind::Double).double_value(&[]).abs() < 2e-3);
    }
}

#[test]
fn both_versions_of_a_loop_give_the_same_bits() {
    let numel = 1003;
    let run = |wide: bool| {
        let (weight, hidden) = (random(numel, Kind::BFloat16, 1), Tensor::zeros([numel], (Kind::Int16, Device::Cpu)));
        let gradient = random(numel, Kind::BFloat16, 2);
        let (first, second) = (random(numel, Kind::BFloat16, 3), random(numel, Kind::BFloat16, 4).square());
        let format = WeightFormat::HiddenBits(&hidden);
        let pass = Full::<HiddenBits, u16, u16>(Step::new(&CONSTANTS, format), PhantomData);
        let operands = Operands {
            weight: bytes(&weight),
            hidden: super::hidden(format),
            gradient: bytes(&gradient),
            first: bytes(&first),
            second: bytes(&second),
            ..Operands::NONE
        };
        // SAFETY: all tensors have `numel` elements of the types above and nothing else uses them.
        unsafe {
            if wide { widest(&pass, operands, 0, numel as usize) } else { pass.range(operands, 0, numel as usize) }
        }
        [weight.view_dtype(Kind::Int16), hidden, first.view_dtype(Kind::Int16), second.view_dtype(Kind::Int16)]
    };
    assert_eq!(run(true), run(false));
}
