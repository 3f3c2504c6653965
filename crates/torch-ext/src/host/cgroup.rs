//! The memory limits of the process's control groups, versions 1 and 2.
//!
//! `/proc/self/cgroup` names the process's groups, one line a hierarchy (`ID:CONTROLLERS:PATH`),
//! and `/proc/self/mountinfo` says where each hierarchy is mounted. A limit of an ancestor holds
//! for its descendants, so the folders from the process's group up to the mount point are all read.

use std::fs;
use std::path::{Path, PathBuf};

/// How a version of control groups is mounted, and its files.
struct Version {
    file_system: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// The line of `memory.stat` with the file cache that was not used lately, of the group and
    /// those below it. The system frees it before it refuses memory.
    cache: &'static str,
}

const V1: Version = Version {
    file_system: "cgroup",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file",
};
const V2: Version =
    Version { file_system: "cgroup2", limit: "memory.max", usage: "memory.current", cache: "inactive_file" };

/// Version 1 writes "no limit" as the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 62;

/// The least of limit minus usage. `root` is the folder in front of all paths that are read.
pub(super) fn unused_bytes(root: &Path) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(root.join("proc/self").join(file)).ok();
    let (groups, mounts) = (read("cgroup")?, read("mountinfo")?);
    let unused = groups.lines().filter_map(|line| {
        let (version, group) = memory_group(line)?;
        // A hierarchy may be mounted several times, each time with more or less of it.
        let (showing, others): (Vec<_>, Vec<_>) = mounts
            .lines()
            .filter_map(|line| memory_mount(line, &version))
            .partition(|mount| Path::new(group).starts_with(&mount.group));
        let chosen = if showing.is_empty() { others.into_iter().take(1).collect() } else { showing };
        let folders = chosen.iter().flat_map(|mount| folders(mount, Path::new(group))).collect::<Vec<_>>();
        Some(folders.into_iter().filter_map(move |folder| unused_in(root, &folder, &version)))
    });
    unused.flatten().min()
}

/// The group of a line of `cgroup`, if its hierarchy may control memory.
fn memory_group(line: &str) -> Option<(Version, &str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    match controllers {
        "" => Some((V2, path)),
        _ => controllers.split(',').any(|controller| controller == "memory").then_some((V1, path)),
    }
}

/// Where a hierarchy is mounted, and the group whose folder that is.
struct Mount {
    point: PathBuf,
    group: PathBuf,
}

/// A line of `mountinfo`: `ID PARENT DEVICE ROOT POINT OPTIONS … - FILESYSTEM SOURCE SUPEROPTIONS`.
fn memory_mount(line: &str, version: &Version) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    if system.next() != Some(version.file_system) {
        return None;
    }
    // Version 1 mounts each set of controllers as a hierarchy of its own.
    let options = system.nth(1)?;
    if version.file_system == V1.file_system && !options.split(',').any(|option| option == "memory") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some(Mount { group: fields.next()?.into(), point: fields.next()?.into() })
}

/// The folders of a group and its ancestors as far as they are mounted. Inside a container the
/// path of the group may be the host's: the group is then what is mounted.
fn folders(mount: &Mount, group: &Path) -> Vec<PathBuf> {
    let below = group.strip_prefix(&mount.group).unwrap_or(Path::new(""));
    below.ancestors().map(|part| mount.point.join(part)).collect()
}

fn unused_in(root: &Path, folder: &Path, version: &Version) -> Option<u64> {
    let folder = root.join(folder.strip_prefix("/").unwrap_or(folder));
    let number = |file| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    // Version 2 writes "max" for no limit, which is not a number.
    let limit = number(version.limit).filter(|limit| *limit < NO_LIMIT)?;
    let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = statistics.lines().find_map(|line| line.strip_prefix(version.cache)?.trim().parse::<u64>().ok());
    let used = number(version.usage)?.saturating_sub(cache.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const V2_MOUNT: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const UNLIMITED: &str = "9223372036854771712";

    /// A tree with the two files of the process and a limit and usage for each folder.
    fn tree(cgroup: &str, mountinfo: &str, version: &Version, groups: &[(&str, &str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |file: PathBuf, text: &str| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write(root.path().join("proc/self/cgroup"), cgroup);
        let others = "22 27 0:21 / /proc rw,relatime - proc proc rw\nno mount\n";
        write(root.path().join("proc/self/mountinfo"), &format!("{others}{mountinfo}"));
        for (folder, limit, usage) in groups {
            let folder = root.path().join("sys/fs/cgroup").join(folder);
            write(folder.join(version.limit), &format!("{limit}\n"));
            write(folder.join(version.usage), &format!("{usage}\n"));
        }
        root
    }

    #[test]
    fn the_tightest_ancestor_counts() {
        let unused = |groups: &[(&str, &str, &str)]| unused_bytes(tree("0::/job/step\n", V2_MOUNT, &V2, groups).path());
        assert_eq!(unused(&[("job", "1000", "400"), ("job/step", "max", "300")]), Some(600));
        assert_eq!(unused(&[("job", "1000", "400"), ("job/step", "500", "300")]), Some(200));
        assert_eq!(unused(&[("job", "1000", "900"), ("job/step", "500", "300")]), Some(100));
        assert_eq!(unused(&[("job", "max", "400"), ("job/step", "max", "300")]), None);
        assert_eq!(unused(&[("job/step", "200", "300")]), Some(0), "the limit was lowered");
        assert_eq!(unused(&[("other", "10", "5"), ("job/step/below", "10", "5")]), None, "not this process's");
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let groups = [("", "1000", "400")];
        assert_eq!(unused_bytes(tree("0::/\n", V2_MOUNT, &V2, &groups).path()), Some(600));
        // Docker without a namespace: the mount shows the container's group, under the host's name.
        let mount = "31 30 0:27 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        for path in ["0::/docker/abc\n", "0::/../elsewhere\n"] {
            assert_eq!(unused_bytes(tree(path, mount, &V2, &groups).path()), Some(600), "{path}");
        }
        let below = [("", "1000", "400"), ("step", "700", "300")];
        assert_eq!(unused_bytes(tree("0::/docker/abc/step\n", mount, &V2, &below).path()), Some(400));
    }

    #[test]
    fn version_one_is_read_from_the_hierarchy_of_memory() {
        let cgroup = "9:name=systemd:/\n5:cpu,cpuacct:/a\n4:hugetlb,memory:/a/b\n0::/\n";
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,hugetlb,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let unused = |groups: &[(&str, &str, &str)]| unused_bytes(tree(cgroup, mounts, &V1, groups).path());
        let outer = ("memory", UNLIMITED, "5000");
        assert_eq!(unused(&[outer, ("memory/a", "1000", "400"), ("memory/a/b", UNLIMITED, "300")]), Some(600));
        assert_eq!(unused(&[outer, ("memory/a", "1000", "400"), ("memory/a/b", "350", "300")]), Some(50));
        assert_eq!(unused(&[outer, ("cpu/a", "10", "1"), ("unified", "10", "1")]), None);
    }

    #[test]
    fn file_cache_that_the_system_would_free_is_not_used_memory() {
        let write = |root: &TempDir, folder: &str, text: &str| {
            fs::write(root.path().join("sys/fs/cgroup").join(folder).join("memory.stat"), text).unwrap();
        };
        let root = tree("0::/job\n", V2_MOUNT, &V2, &[("job", "1000", "900")]);
        write(&root, "job", "anon 200\ninactive_anon 10\nactive_file 100\ninactive_file 600\n");
        assert_eq!(unused_bytes(root.path()), Some(700));
        let mount = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let root = tree("4:memory:/a\n", mount, &V1, &[("memory/a", "1000", "900")]);
        write(&root, "memory/a", "cache 650\ninactive_file 50\ntotal_cache 650\ntotal_inactive_file 600\n");
        assert_eq!(unused_bytes(root.path()), Some(700));
        write(&root, "memory/a", "total_inactive_file much\n");
        assert_eq!(unused_bytes(root.path()), Some(100));
    }

    #[test]
    fn the_tightest_of_several_mounts_counts() {
        let mounts = format!("{V2_MOUNT}31 24 0:26 /other /mnt rw - cgroup2 cgroup2 rw\n");
        let root = tree("0::/job\n", &mounts, &V2, &[("job", "1000", "400")]);
        assert_eq!(unused_bytes(root.path()), Some(600));
        let mounts = format!("29 24 0:26 /other /sys/fs/cgroup/other rw - cgroup2 cgroup2 rw\n{V2_MOUNT}");
        let root = tree("0::/job\n", &mounts, &V2, &[("job", "1000", "400"), ("other", "10", "5")]);
        assert_eq!(unused_bytes(root.path()), Some(600), "the first mount does not show the group");
    }

    #[test]
    fn what_is_absent_or_malformed_is_no_limit() {
        let groups = [("", "1000", "400")];
        assert_eq!(unused_bytes(Path::new("/no such folder")), None);
        for (cgroup, mounts) in
            [("", V2_MOUNT), ("0::/\n", ""), ("nonsense\n", V2_MOUNT), ("0::/\n", "a b - cgroup2\n")]
        {
            assert_eq!(unused_bytes(tree(cgroup, mounts, &V2, &groups).path()), None, "{cgroup}{mounts}");
        }
        assert_eq!(unused_bytes(tree("0::/\n", V2_MOUNT, &V2, &[("", "much", "400")]).path()), None);
        assert_eq!(unused_bytes(tree("0::/\n", V2_MOUNT, &V2, &[("", "1000", "some")]).path()), None);
    }
}
