//! Rows set aside for evaluation: the same rows that `Dataset.train_test_split(test_size, seed)` of
//! the `datasets` library sets aside.
//!
//! The library permutes the rows with `numpy.random.default_rng(seed)`. The generator is PCG64;
//! NumPy's seeding and shuffle are implemented here.

use crate::Error;
use crate::error::grouped;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// Splits rows at random into `(train, test)`. `test_size` is the size of `test`: a fraction below
/// 1, or a whole number of rows.
pub(super) fn train_test_split<T>(rows: Vec<T>, test_size: f64, seed: u64) -> Result<(Vec<T>, Vec<T>), Error> {
    let num_test = num_test_rows(rows.len(), test_size)?;
    let order = permutation(rows.len(), seed);
    let mut rows: Vec<Option<T>> = rows.into_iter().map(Some).collect();
    let mut take = |indices: &[usize]| indices.iter().filter_map(|&index| rows[index].take()).collect::<Vec<T>>();
    let test = take(&order[..num_test]);
    Ok((take(&order[num_test..]), test))
}

fn num_test_rows(num_rows: usize, test_size: f64) -> Result<usize, Error> {
    let wrong = |fix: String| Error::config("test_size", test_size, fix);
    let num_test = if test_size > 0.0 && test_size < 1.0 {
        (test_size * num_rows as f64).ceil() as usize
    } else if test_size >= 1.0 && test_size.fract() == 0.0 {
        test_size as usize
    } else {
        return Err(wrong("a fraction between 0 and 1, or a whole number of rows".to_owned()));
    };
    if num_rows == 1 {
        return Err(wrong("the split has only one row, which is needed to train on: use more rows".to_owned()));
    }
    if num_test >= num_rows {
        let rows = grouped(num_rows as u64);
        return Err(wrong(format!("less than the {rows} rows of the split, so that at least one is left to train on")));
    }
    Ok(num_test)
}

/// `numpy.random.default_rng(seed).permutation(length)`.
fn permutation(length: usize, seed: u64) -> Vec<usize> {
    let mut generator = Generator::new(seed);
    let mut order: Vec<usize> = (0..length).collect();
    for i in (1..length).rev() {
        let j = generator.up_to(i as u64) as usize;
        order.swap(i, j);
    }
    order
}

/// NumPy's default generator.
struct Generator {
    pcg: Pcg64,
    /// The upper half of the last 64 bits drawn, which the next draw of 32 bits returns.
    spare: Option<u32>,
}

impl Generator {
    fn new(seed: u64) -> Self {
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

    /// Draws a number from 0 to `last`, each equally likely: draws as many bits as `last` has until
    /// they are not above `last`.
    fn up_to(&mut self, last: u64) -> u64 {
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

#[cfg(test)]
mod tests;
