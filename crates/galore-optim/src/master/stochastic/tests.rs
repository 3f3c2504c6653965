use super::Noise;
use tch::{Device, Kind, Tensor};

const LENGTH: i64 = 100_000;

fn draw(noise: &Noise, step: i64, start: i64, length: i64) -> Vec<i32> {
    let empty = || Tensor::empty([length], (Kind::Int, Device::Cpu));
    let (mut hash, mut work) = (empty(), empty());
    noise.fill(step, start, &mut hash, &mut work).unwrap();
    Vec::try_from(hash).unwrap()
}

#[test]
fn the_hash_is_murmur3s_finaliser() {
    // The same in wrapping Rust arithmetic. libtorch's integers must wrap and shift like these.
    let noise = Noise::new(5, "w");
    let key = super::mix(5 ^ super::mix(noise.parameter ^ super::mix(9)));
    let expected: Vec<i32> = (40..1000u32)
        .map(|index| {
            let mut x = index ^ key as u32;
            x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b) ^ (key >> 32) as u32;
            x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
            (x ^ (x >> 16)) as i32
        })
        .collect();
    assert_eq!(draw(&noise, 9, 40, 960), expected);
}

#[test]
fn every_bit_is_even_and_streams_are_apart() {
    let streams = [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1)]
        .map(|(seed, name, step)| draw(&Noise::new(seed, name), step, 0, LENGTH));
    for stream in &streams {
        for bit in 0..16 {
            let ones = stream.iter().filter(|&&value| value >> bit & 1 == 1).count() as i64;
            // Six standard deviations.
            assert!((ones - LENGTH / 2).abs() < 950, "bit {bit}: {ones}");
        }
    }
    for (i, a) in streams.iter().enumerate() {
        for b in &streams[..i] {
            let equal = a.iter().zip(b).filter(|(a, b)| (*a & 0xff) == (*b & 0xff)).count();
            assert!((280..500).contains(&equal), "{equal} of about 390");
        }
    }
}

#[test]
fn ranges_do_not_matter() {
    let noise = Noise::new(1, "a");
    let whole = draw(&noise, 3, 0, 1000);
    assert_eq!(whole[..300], draw(&noise, 3, 0, 300));
    assert_eq!(whole[300..], draw(&noise, 3, 300, 700));
}

#[test]
fn values_that_bfloat16_holds_stay_and_infinity_does() {
    let noise = Noise::new(1, "a");
    let values = [1.0f32, -0.5, 0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 3.0e-39, -7.0]
        .map(|value| f32::from_bits(value.to_bits() & 0xffff_0000));
    let master = Tensor::from_slice(&values);
    let mut weight = Tensor::empty([8], (Kind::BFloat16, Device::Cpu));
    let (mut hash, mut work) = (weight.to_kind(Kind::Int), weight.to_kind(Kind::Int));
    for step in 0..50 {
        noise.round(&master, &mut weight, (step, 0), [&mut hash, &mut work]).unwrap();
        let found: Vec<f32> = Vec::try_from(weight.to_kind(Kind::Float)).unwrap();
        assert_eq!(found.map_bits(), values.to_vec().map_bits());
    }
}

trait MapBits {
    fn map_bits(&self) -> Vec<u32>;
}

impl MapBits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|value| value.to_bits()).collect()
    }
}

/// A run may continue on a machine without kernels, and a stack takes one launch: the bits are the
/// same.
#[test]
fn a_kernel_draws_the_same_bits() {
    let noise = Noise::new(3, "a");
    let master = Tensor::randn([LENGTH], (Kind::Float, Device::Cpu));
    let empty = |kind| Tensor::empty([LENGTH], (kind, Device::Cpu));
    let (mut plain, fused) = (empty(Kind::BFloat16), empty(Kind::BFloat16));
    noise.round(&master, &mut plain, (5, 0), [&mut empty(Kind::Int), &mut empty(Kind::Int)]).unwrap();
    let Some(kernels) = crate::accelerated::fused_kernels(&[&master]) else { return };
    let stored = crate::accelerated::StoredWeight::Stochastic { key: noise.key(5) };
    kernels.write_master(&master, (&fused, stored), 1.0).unwrap();
    assert_eq!(plain, fused);
}
