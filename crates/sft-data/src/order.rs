//! The order in which the rows of an epoch are visited. It equals PyTorch's.
//!
//! Hugging Face's trainer shuffles with `torch.randperm(n, generator=g)`, where `g` is a CPU
//! generator seeded with `seed + epoch`: the Mersenne Twister MT19937. The Fisher-Yates shuffle
//! here draws from it as PyTorch does, so a seed gives the same order in both.

use rand_mt::Mt;

/// `torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))`.
///
/// The caller passes `seed + epoch`. Only the low 32 bits of the sum are used, as in PyTorch.
///
/// ```
/// assert_eq!(sft_data::epoch_order(5, 42), [2, 4, 3, 0, 1]);
/// ```
pub fn epoch_order(num_rows: usize, seed: u64) -> Vec<usize> {
    permutation(num_rows, &mut Mt::new(seed as u32))
}

/// `torch.randperm(num_rows)` with a generator that others draw from too.
pub(crate) fn permutation(num_rows: usize, generator: &mut Mt) -> Vec<usize> {
    let mut draw_u32 = || u64::from(generator.next_u32());
    let mut order: Vec<usize> = (0..num_rows).collect();
    // PyTorch draws 64 bits if the modulo bias of 32 bits would be noticeable. The high half comes
    // first.
    let wide = num_rows >= (u32::MAX / 20) as usize;
    for i in 0..num_rows.saturating_sub(1) {
        let left = (num_rows - i) as u64;
        let draw = if wide { (draw_u32() << 32) | draw_u32() } else { draw_u32() };
        order.swap(i, i + (draw % left) as usize);
    }
    order
}

#[cfg(test)]
mod tests;
