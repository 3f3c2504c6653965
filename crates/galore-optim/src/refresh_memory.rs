//! How much memory decompositions may take on a GPU, and what one matrix needs of it.

use tch::Device;
use torch_ext::cuda::{Memory, available_memory, memory};

/// What decompositions may take together: what is allowed, or what lies idle, if that is more. A
/// step runs after forward and backward, whose memory is free by then; to use it again makes no
/// peak higher.
pub(crate) fn bytes(device: Device, allowed: u64) -> u64 {
    let Device::Cuda(index) = device else { return allowed };
    match (memory(index), available_memory(index)) {
        (Ok(memory), Ok(available)) => allowed.max(idle(memory, available)),
        // What cannot be measured is not used.
        _ => allowed,
    }
}

/// What was in use at the peak and is not now, as far as the device still has it: other processes
/// may have taken it.
fn idle(memory: Memory, available_bytes: u64) -> u64 {
    memory.peak_bytes.saturating_sub(memory.current_bytes).min(available_bytes / 10 * 9)
}

/// What a gradient `[rows, cols]` takes whose Gram matrix is `[order, order]`: first its copy in
/// float32, the matrix and a look at that; then, without the copy, the matrix, which becomes the
/// vectors, and four times as much for the solver.
fn bytes_of_one([rows, cols]: [i64; 2], order: i64) -> u64 {
    let square = order.unsigned_abs().saturating_pow(2);
    let gradient = rows.unsigned_abs().saturating_mul(cols.unsigned_abs());
    (4 * gradient + 5 * square).max(4 * 5 * square).max(1)
}

/// Matrices decomposed at a time out of `count`, 1 at least: as many as fit, in parts of nearly
/// equal size, since a few take as long as many. What a basis holds does not depend on it, but a
/// library may choose another algorithm, which rounds otherwise, for another number of products.
pub(crate) fn at_a_time(count: usize, shape: [i64; 2], order: i64, bytes: u64) -> usize {
    let fit = usize::try_from(bytes / bytes_of_one(shape, order)).unwrap_or(usize::MAX).max(1);
    count.div_ceil(count.div_ceil(fit).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_may_be_used_and_what_is_allowed_always() {
        let memory = |current_bytes, peak_bytes| Memory { current_bytes, peak_bytes };
        assert_eq!(idle(memory(4_000, 5_500), 10_000), 1_500);
        assert_eq!(idle(memory(4_000, 5_500), 1_000), 900);
        assert_eq!(idle(memory(4_000, 4_000), 10_000), 0);
        assert_eq!(bytes(Device::Cpu, 600), 600);
    }

    #[test]
    fn parts_are_of_nearly_equal_size() {
        let one = bytes_of_one([1024, 1024], 1024);
        assert_eq!(one, 20 << 20);
        assert_eq!(bytes_of_one([8192, 1024], 1024), 37 << 20);
        let parts = |count, fit: u64| at_a_time(count, [1024, 1024], 1024, fit * one);
        assert_eq!(parts(96, 28), 24);
        assert_eq!(parts(96, 1000), 96);
        assert_eq!((parts(7, 3), parts(7, 0), parts(1, 5)), (3, 1, 1));
    }
}
