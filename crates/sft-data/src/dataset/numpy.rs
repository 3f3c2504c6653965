//! NumPy's default generator: PCG64 with NumPy's seeding.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// NumPy's default generator.
pub(super) struct Generator {
    pcg: Pcg64,
    /// The upper half of the last 64 bits drawn, which the next draw of 32 bits returns.
    spare: Option<u32>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        let [a, b, c, d] = seed_sequence(seed);
        let wide = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        Self { pcg: Pcg64::new(wide(a, b), wide(c, d)), spare: None }
    }

    fn next_u32(&mut self) -> u32 {
        self.spare.take().unwrap_or_else(|| {
            let both = self.pcg.next_u64();
            self.spare = Some((both >> 32) as u32);
            both as u32
        })
    }

    /// A number from 0 to below 1.
    pub(super) fn next_f64(&mut self) -> f64 {
        (self.pcg.next_u64() >> 11) as f64 * 2f64.powi(-53)
    }

    /// Draws a number from 0 to `last`, each equally likely: draws as many bits as `last` has until
    /// they are not above `last`.
    pub(super) fn up_to(&mut self, last: u64) -> u64 {
        let mask = u64::MAX >> last.leading_zeros();
        loop {
            let draw = if last <= u64::from(u32::MAX) { u64::from(self.next_u32()) } else { self.pcg.next_u64() };
            if draw & mask <= last {
                return draw & mask;
            }
        }
    }
}

/// `numpy.random.SeedSequence(seed).generate_state(4, numpy.uint64)`.
fn seed_sequence(seed: u64) -> [u64; 4] {
    const POOL_SIZE: usize = 4;
    const SHIFT: u32 = 16;
    let (mut hash_constant, hash_multiplier) = (0x43b0_d7e5_u32, 0x931e_8875_u32);
    let mut hash = |value: u32| {
        let mut value = value ^ hash_constant;
        hash_constant = hash_constant.wrapping_mul(hash_multiplier);
        value = value.wrapping_mul(hash_constant);
        value ^ (value >> SHIFT)
    };
    let mix = |x: u32, y: u32| {
        let mixed = 0xca01_f9dd_u32.wrapping_mul(x).wrapping_sub(0x4973_f715_u32.wrapping_mul(y));
        mixed ^ (mixed >> SHIFT)
    };
    let mut pool = [hash(seed as u32), hash((seed >> 32) as u32), hash(0), hash(0)];
    for source in 0..POOL_SIZE {
        for target in 0..POOL_SIZE {
            if source != target {
                pool[target] = mix(pool[target], hash(pool[source]));
            }
        }
    }
    let (mut hash_constant, hash_multiplier) = (0x8b51_f9dd_u32, 0x58f3_8ded_u32);
    let words: Vec<u32> = (0..2 * POOL_SIZE)
        .map(|i| {
            let mut value = pool[i % POOL_SIZE] ^ hash_constant;
            hash_constant = hash_constant.wrapping_mul(hash_multiplier);
            value = value.wrapping_mul(hash_constant);
            value ^ (value >> SHIFT)
        })
        .collect();
    std::array::from_fn(|i| u64::from(words[2 * i]) | (u64::from(words[2 * i + 1]) << 32))
}
