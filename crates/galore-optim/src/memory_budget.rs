//! How much memory a refresh may take on a GPU, and how many matrices fit in it.

use crate::accelerated::{DeviceMemory, device_memory};
use tch::Device;

/// The bytes that a refresh may take: what is allowed, or what is idle, if that is more.
///
/// A step runs after forward and backward, whose memory is free by then. Using it again does not
/// raise the peak.
pub(crate) fn refresh_bytes(device: Device, allowed: u64) -> u64 {
    let Device::Cuda(index) = device else { return allowed };
    device_memory(index).map_or(allowed, |memory| allowed.max(idle(memory)))
}

/// What was in use at the peak and is not in use now, as far as the device still has it: other
/// processes may have taken it.
fn idle(memory: DeviceMemory) -> u64 {
    memory.peak.saturating_sub(memory.current).min(memory.available / 10 * 9)
}

/// The bytes that one gradient `[rows, cols]` with a Gram matrix `[order, order]` takes: the larger
/// of two moments. First there are its copy in float32, the Gram matrix, and a check of that
/// matrix. Later the copy is gone; there are the matrix, which becomes the vectors, and four times
/// as much for the solver.
fn bytes_of_one([rows, cols]: [i64; 2], order: i64) -> u64 {
    let square = order.unsigned_abs().saturating_pow(2);
    let gradient = rows.unsigned_abs().saturating_mul(cols.unsigned_abs());
    (4 * gradient + 5 * square).max(4 * 5 * square).max(1)
}

/// How many of `count` matrices to decompose at a time, at least 1: as many as fit, in parts of
/// nearly equal size, because a few take as long as many. The number does not change what a basis
/// holds, but a library may choose another algorithm for another number of products, which rounds
/// differently.
pub(crate) fn matrices_at_a_time(count: usize, shape: [i64; 2], order: i64, bytes: u64) -> usize {
    let fit = usize::try_from(bytes / bytes_of_one(shape, order)).unwrap_or(usize::MAX).max(1);
    count.div_ceil(count.div_ceil(fit).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_may_be_used_and_what_is_allowed_always() {
        let memory = |current, peak, available| DeviceMemory { current, peak, available };
        assert_eq!(idle(memory(4_000, 5_500, 10_000)), 1_500);
        assert_eq!(idle(memory(4_000, 5_500, 1_000)), 900);
        assert_eq!(idle(memory(4_000, 4_000, 10_000)), 0);
        assert_eq!(refresh_bytes(Device::Cpu, 600), 600);
    }

    #[test]
    fn parts_are_of_nearly_equal_size() {
        let one = bytes_of_one([1024, 1024], 1024);
        assert_eq!(one, 20 << 20);
        assert_eq!(bytes_of_one([8192, 1024], 1024), 37 << 20);
        let parts = |count, fit: u64| matrices_at_a_time(count, [1024, 1024], 1024, fit * one);
        assert_eq!(parts(96, 28), 24);
        assert_eq!(parts(96, 1000), 96);
        assert_eq!((parts(7, 3), parts(7, 0), parts(1, 5)), (3, 1, 1));
    }
}
