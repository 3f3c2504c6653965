//! The resident memory of the process, as the kernel counts it. It includes the memory of libtorch,
//! which Rust's allocator does not see. Always 0 on a system without this count.

use std::fs;

/// Resets the peak to the current value and returns it.
pub fn reset_peak() -> usize {
    // 5 resets only the peak of the resident set.
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        return usize::MAX;
    }
    peak()
}

/// The peak in bytes since the last reset.
pub fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kibibytes.unwrap_or(0) * 1024
}
