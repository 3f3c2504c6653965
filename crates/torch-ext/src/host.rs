//! What the system says about the memory of this machine and this process, on Linux.
//!
//! Every figure is an `Option`: it is `None` where the system does not say, and on other systems.

mod cgroup;

use std::path::Path;

/// Host memory that this process can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemoryInfo {
    /// Bytes that the process may still take.
    pub free_bytes: Option<u64>,
    /// Bytes in all.
    pub total_bytes: Option<u64>,
}

/// Returns the machine's memory, or the process's limit on its address space (`ulimit -v`) or its
/// data (`ulimit -d`) where that leaves less.
///
/// A limit on the process's control group is not included; see [`unused_cgroup_bytes`].
///
/// ```
/// let memory = torch_ext::host::memory();
/// assert!(memory.free_bytes <= memory.total_bytes);
/// ```
pub fn memory() -> HostMemoryInfo {
    memory_in(Path::new("/proc"))
}

/// Returns the most memory that this process has had resident, in bytes.
pub fn peak_resident_bytes() -> Option<u64> {
    peak_resident_bytes_in(Path::new("/proc"))
}

/// Returns what is left of the memory that a container or a batch system allows this process: the
/// least of limit minus usage over the process's control group and its ancestors. `None` if none
/// of them has a limit.
///
/// Both versions of control groups are read. File cache that was not used lately does not count as
/// usage, because the system frees it first.
pub fn unused_cgroup_bytes() -> Option<u64> {
    cgroup::unused_bytes(Path::new("/"))
}

fn memory_in(proc: &Path) -> HostMemoryInfo {
    let meminfo = |name| kibibytes(&proc.join("meminfo"), name);
    let machine = HostMemoryInfo { free_bytes: meminfo("MemAvailable:"), total_bytes: meminfo("MemTotal:") };
    // Limits of the process, and the line with what counts towards each.
    let limits = [("Max address space", "VmSize:"), ("Max data size", "VmData:")];
    let limited = limits.into_iter().filter_map(|(name, used)| {
        let limit = limit(proc, name).filter(|limit| machine.total_bytes.is_none_or(|total| *limit < total))?;
        let used = kibibytes(&proc.join("self/status"), used).unwrap_or(0);
        let free = limit.saturating_sub(used);
        Some(HostMemoryInfo {
            free_bytes: Some(free.min(machine.free_bytes.unwrap_or(free))),
            total_bytes: Some(limit),
        })
    });
    limited.min_by_key(|limited| limited.free_bytes).unwrap_or(machine)
}

fn peak_resident_bytes_in(proc: &Path) -> Option<u64> {
    kibibytes(&proc.join("self/status"), "VmHWM:")
}

/// A soft limit, in bytes. "unlimited" is not a number, so it counts as none.
fn limit(proc: &Path, name: &str) -> Option<u64> {
    first_word_after(&proc.join("self/limits"), name)?.parse().ok()
}

/// A line such as `VmSize:     2928 kB`, in bytes.
fn kibibytes(file: &Path, name: &str) -> Option<u64> {
    first_word_after(file, name)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The word that follows `name` at the beginning of a line.
fn first_word_after(file: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    const STATUS: &str = "Name:\thead\nVmPeak:\t    9000 kB\nVmSize:\t    2048 kB\nVmHWM:\t    1760 kB\n";

    fn proc(meminfo: &str, limit: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("self")).unwrap();
        fs::write(folder.path().join("meminfo"), meminfo).unwrap();
        fs::write(folder.path().join("self/status"), STATUS).unwrap();
        let limits = format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max cpu time              unlimited            unlimited            seconds   \n\
             Max address space         {limit:<20} unlimited            bytes     \n"
        );
        fs::write(folder.path().join("self/limits"), limits).unwrap();
        folder
    }

    fn info(free: u64, total: u64) -> HostMemoryInfo {
        HostMemoryInfo { free_bytes: Some(free), total_bytes: Some(total) }
    }

    #[test]
    fn the_lower_of_machine_and_limit_counts() {
        let machine = "MemTotal:        8192 kB\nMemFree:         1024 kB\nMemAvailable:    4096 kB\n";
        assert_eq!(memory_in(proc(machine, "unlimited").path()), info(4 << 20, 8 << 20));
        assert_eq!(memory_in(proc(machine, "6291456").path()), info(4 << 20, 6 << 20));
        assert_eq!(memory_in(proc(machine, "8388608").path()), info(4 << 20, 8 << 20));
        assert_eq!(memory_in(proc(machine, "1048576").path()), info(0, 1 << 20), "more is used than allowed");
        assert_eq!(memory_in(proc("", "3145728").path()), info(1 << 20, 3 << 20));
        let nothing = HostMemoryInfo { free_bytes: None, total_bytes: None };
        assert_eq!(memory_in(proc("MemTotal: many kB\n", "unlimited").path()), nothing);
        assert_eq!(memory_in(Path::new("/no such folder")), nothing);
    }

    #[test]
    fn a_limit_on_data_counts_too() {
        let folder = proc("MemTotal:  8192 kB\nMemAvailable:  4096 kB\n", "6291456");
        let write = |data: &str| {
            let limits =
                format!("Max data size   {data}  unlimited  bytes\nMax address space  6291456  unlimited  bytes\n");
            fs::write(folder.path().join("self/limits"), limits).unwrap();
        };
        fs::write(folder.path().join("self/status"), "VmSize:  2048 kB\nVmData:  1024 kB\n").unwrap();
        write("2097152");
        assert_eq!(memory_in(folder.path()), info(1 << 20, 2 << 20));
        write("unlimited");
        assert_eq!(memory_in(folder.path()), info(4 << 20, 6 << 20));
    }

    #[test]
    fn the_peak_is_the_high_water_mark() {
        assert_eq!(peak_resident_bytes_in(proc("", "unlimited").path()), Some(1760 << 10));
        assert_eq!(peak_resident_bytes_in(Path::new("/no such folder")), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_says_what_it_has() {
        let HostMemoryInfo { free_bytes, total_bytes } = memory();
        assert!(free_bytes.unwrap() <= total_bytes.unwrap());
        assert!(peak_resident_bytes().unwrap() > 1 << 20);
        // There may be no limit; if there is one, it is not all used up.
        assert!(unused_cgroup_bytes() != Some(0));
    }
}
