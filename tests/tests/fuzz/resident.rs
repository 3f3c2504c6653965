//! Pages that the process has in memory, by the kernel's account: what libtorch takes is in them,
//! which Rust's allocator does not see. Always 0 where there is no such account.

use std::fs;

/// Starts the peak anew at what there is now, which is returned.
pub fn reset_peak() -> usize {
    // 5: the peak of the resident set, nothing else.
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        return usize::MAX;
    }
    peak()
}

/// Most bytes since the last reset.
pub fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kibibytes.unwrap_or(0) * 1024
}
