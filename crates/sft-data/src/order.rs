//! The order in which rows are visited, equal to PyTorch's.
//!
//! Hugging Face's trainer shuffles with `torch.randperm(n, generator=g)` where `g` is a CPU
//! generator seeded with `seed + epoch`. That is the 32-bit Mersenne twister and a Fisher-Yates
//! pass, written out here so that one seed gives one order in both worlds.

/// `torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))`.
///
/// The caller passes `seed + epoch`. Only the low 32 bits of the seed matter, as in PyTorch.
///
/// ```
/// assert_eq!(sft_data::epoch_order(5, 42), [2, 4, 3, 0, 1]);
/// ```
pub fn epoch_order(num_rows: usize, seed: u64) -> Vec<usize> {
    let mut generator = MersenneTwister::new(seed as u32);
    let mut order: Vec<usize> = (0..num_rows).collect();
    // PyTorch draws 64 bits once the modulo bias of 32 would be felt.
    let wide = num_rows >= (u32::MAX / 20) as usize;
    for i in 0..num_rows.saturating_sub(1) {
        let left = (num_rows - i) as u64;
        let draw = if wide { generator.next_u64() } else { u64::from(generator.next_u32()) };
        order.swap(i, i + (draw % left) as usize);
    }
    order
}

const STATE_SIZE: usize = 624;
const SHIFT: usize = 397;

/// MT19937 (Matsumoto and Nishimura, 1998), seeded as `std::mt19937` and PyTorch do.
struct MersenneTwister {
    state: [u32; STATE_SIZE],
    next: usize,
}

impl MersenneTwister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; STATE_SIZE];
        for i in 1..STATE_SIZE {
            let previous = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: STATE_SIZE }
    }

    fn refill(&mut self) {
        for i in 0..STATE_SIZE {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE_SIZE] & 0x7fff_ffff);
            let twisted = (y >> 1) ^ if y & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + SHIFT) % STATE_SIZE] ^ twisted;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == STATE_SIZE {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.next_u32());
        (high << 32) | u64::from(self.next_u32())
    }
}

#[cfg(test)]
mod tests;
