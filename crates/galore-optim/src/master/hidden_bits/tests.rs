use super::{join, split};
use tch::{Device, Kind, Tensor};

/// Splits and joins bit patterns. Returns weights and hidden halves.
fn round_trip(patterns: &[i32]) -> (Vec<i16>, Vec<i16>) {
    let length = patterns.len() as i64;
    let empty = |kind| Tensor::empty([length], (kind, Device::Cpu));
    let master = Tensor::from_slice(patterns).view_dtype(Kind::Float);
    let (mut weight, mut hidden, mut work) = (empty(Kind::BFloat16), empty(Kind::Int16), empty(Kind::Int));
    split(&master, &mut weight, &mut hidden, &mut work).unwrap();
    let mut joined = empty(Kind::Float);
    join(&weight, &hidden, &mut joined).unwrap();
    let joined = Vec::<i32>::try_from(joined.view_dtype(Kind::Int)).unwrap();
    for (pattern, joined) in patterns.iter().zip(&joined) {
        assert_eq!(pattern, joined, "{pattern:#010x} came back as {joined:#010x}");
    }
    (Vec::try_from(weight.view_dtype(Kind::Int16)).unwrap(), Vec::try_from(hidden).unwrap())
}

#[test]
fn lossless_over_all_low_halves_and_edge_high_halves() {
    // Both zeros, denormals, one and its neighbours, the largest values, infinities, NaNs; both
    // signs.
    for high in [
        0x0000u16, 0x8000, 0x0001, 0x8001, 0x007f, 0x807f, 0x0080, 0x8080, 0x3f7f, 0x3f80, 0xbf80, 0xbf7f, 0x7f7e,
        0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0xffc0,
    ] {
        let patterns: Vec<i32> = (0..=0xffff).map(|low: u32| ((u32::from(high) << 16) | low) as i32).collect();
        round_trip(&patterns);
    }
}

#[test]
fn lossless_over_random_patterns() {
    let mut state = 1u32;
    let patterns: Vec<i32> = (0..1_000_003)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state ^ (state >> 15)) as i32
        })
        .collect();
    round_trip(&patterns);
}

#[test]
fn the_weight_is_the_nearest_bfloat16() {
    let mut state = 7u32;
    let patterns: Vec<i32> = (0..100_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state ^ (state >> 15)) as i32
        })
        // Another test covers ties. Overflow to infinity and NaN have no nearest value.
        .filter(|pattern| pattern & 0xffff != 0x8000 && f32::from_bits(*pattern as u32).abs() < 3e38)
        .collect();
    let (weights, _) = round_trip(&patterns);
    let nearest = Tensor::from_slice(&patterns).view_dtype(Kind::Float).to_kind(Kind::BFloat16).view_dtype(Kind::Int16);
    assert_eq!(weights, Vec::<i16>::try_from(nearest).unwrap());
}

#[test]
fn ties_go_away_from_zero_and_the_hidden_half_fits() {
    // 1 + half a unit, 1 + one and a half units, and their negatives. Rounded to even, the first
    // and the third would go towards zero.
    let patterns = [0x3f80_8000u32, 0x3f81_8000, 0xbf80_8000, 0xbf81_8000].map(|pattern| pattern as i32);
    let (weights, hidden) = round_trip(&patterns);
    assert_eq!(weights.map_bits(), [0x3f81, 0x3f82, 0xbf81, 0xbf82]);
    assert_eq!(hidden, [i16::MIN; 4]);
    let (weights, hidden) = round_trip(&[0x3f80_7fff, 0x3f80_8001, 0x0000_8000, 0x8000_8000u32 as i32]);
    assert_eq!(weights.map_bits(), [0x3f80, 0x3f81, 0x0001, 0x8001]);
    assert_eq!(hidden, [i16::MAX, -0x7fff, i16::MIN, i16::MIN]);
}

#[test]
fn fresh_weights_are_their_own_masters() {
    let weight = Tensor::from_slice(&[0.1f32, -2.5, 0.0, 1e-40]).to_kind(Kind::BFloat16);
    let hidden = Tensor::zeros([4], (Kind::Int16, Device::Cpu));
    let mut master = Tensor::empty([4], (Kind::Float, Device::Cpu));
    join(&weight, &hidden, &mut master).unwrap();
    assert!(master.equal(&weight.to_kind(Kind::Float)));
}

trait MapBits {
    fn map_bits(&self) -> Vec<u16>;
}

impl MapBits for Vec<i16> {
    fn map_bits(&self) -> Vec<u16> {
        self.iter().map(|&bits| bits as u16).collect()
    }
}
