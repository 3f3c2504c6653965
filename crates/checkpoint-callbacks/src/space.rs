//! Whether a disk has room for what a run will write, found out before it trains.

use crate::{Error, Result, durable, find_checkpoints};
use std::path::Path;

/// How much a run writes into its output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceNeeded {
    /// Size of a checkpoint.
    pub checkpoint_bytes: u64,
    /// Checkpoints that lie beside one another at most, the one that is being written included.
    pub num_checkpoints: u64,
    /// Size of the model that the run leaves in the output folder, and of copies on their way
    /// there.
    pub model_bytes: u64,
}

impl SpaceNeeded {
    /// Of `num_saves` checkpoints, of which rotation keeps `limit` (all: `None`) and the best
    /// besides.
    #[must_use]
    pub fn with_rotation(self, num_saves: u64, limit: Option<usize>) -> Self {
        // The newest ones, the best one, and the next before an older one goes.
        let at_once = limit.map_or(u64::MAX, |limit| (limit.max(1) as u64).saturating_add(2));
        Self { num_checkpoints: num_saves.min(at_once), ..self }
    }

    fn bytes(&self) -> u64 {
        self.checkpoint_bytes.saturating_mul(self.num_checkpoints).saturating_add(self.model_bytes)
    }
}

/// Checks that the file system of `output_dir` has room for `needed`. Checkpoints that are there
/// already count as room: they are among those that rotation keeps. Quotas and other writers are
/// not known of; nothing is checked where the system does not say what is free.
pub fn check_space(output_dir: &Path, needed: &SpaceNeeded) -> Result<()> {
    let Some(free) = free_bytes(output_dir) else { return Ok(()) };
    let taken: u64 = find_checkpoints(output_dir)?.iter().map(|found| size(&found.path)).sum();
    let missing = needed.bytes().saturating_sub(taken);
    if missing <= free {
        return Ok(());
    }
    Err(Error::OutputDirFull {
        path: output_dir.to_owned(),
        needed: missing,
        free,
        num_checkpoints: needed.num_checkpoints,
        checkpoint_bytes: needed.checkpoint_bytes,
    })
}

/// What the files of a folder take; what cannot be looked at takes nothing.
fn size(folder: &Path) -> u64 {
    let size_of = |path| folder.join(path).metadata().map_or(0, |found| found.len());
    durable::files_under(folder).unwrap_or_default().into_iter().map(size_of).sum()
}

/// What this user may still write to the file system that a path, or the nearest folder above it,
/// lies on.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let here = Path::new(".");
    let above = path.ancestors().map(|path| if path.as_os_str().is_empty() { here } else { path });
    let found = above.into_iter().find_map(|path| rustix::fs::statvfs(path).ok())?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirectoryStore;
    use crate::testing::save;

    #[test]
    fn rotation_decides_how_many_lie_beside_one_another() {
        let needed = SpaceNeeded { checkpoint_bytes: 100, num_checkpoints: 0, model_bytes: 7 };
        let bytes = |num_saves, limit| needed.with_rotation(num_saves, limit).bytes();
        assert_eq!(bytes(0, Some(1)), 7);
        assert_eq!(bytes(2, Some(1)), 207, "no more than are made");
        assert_eq!(bytes(1000, Some(1)), 307, "the newest, the best, and the next");
        assert_eq!(bytes(1000, Some(4)), 607);
        assert_eq!(bytes(1000, None), 100_007);
        assert_eq!(bytes(u64::MAX, None), u64::MAX);
    }

    #[test]
    fn too_little_room_is_refused_with_figures() {
        let dir = tempfile::tempdir().unwrap();
        let room = |num_checkpoints| SpaceNeeded { checkpoint_bytes: 1 << 50, num_checkpoints, model_bytes: 10 };
        let output_dir = dir.path().join("new/out");
        check_space(&output_dir, &room(0)).unwrap();
        let message = check_space(&output_dir, &room(2)).unwrap_err().to_string();
        assert!(
            message.contains("2251799813685258 bytes are needed") && message.contains("bytes are free"),
            "{message}"
        );

        let mut store = DirectoryStore::open(dir.path()).unwrap();
        save(&mut store, 7, "some weights").unwrap();
        let free = free_bytes(dir.path()).unwrap();
        let needed = |model_bytes| SpaceNeeded { checkpoint_bytes: 12, num_checkpoints: 1, model_bytes };
        check_space(dir.path(), &needed(free / 2)).unwrap();
        assert!(check_space(dir.path(), &needed(2 * free)).is_err());
    }
}
