//! Puts files into a prefix. A program that is running keeps the files that it has open, and what
//! an interrupted installation leaves behind is never half a file under its final name.
//!
//! Folders and files get the modes that `install` gives them, whatever the umask, because others
//! should be able to use them.

use crate::setup;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::ops::AddAssign;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

pub const EXECUTABLE: u32 = 0o755;
const LIBRARY: u32 = 0o644;
const FOLDER: u32 = 0o755;

/// Bytes that were placed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Placed {
    copied: u64,
    /// In files that have a second name elsewhere, and so take no space of their own.
    linked: u64,
}

impl AddAssign for Placed {
    fn add_assign(&mut self, other: Self) {
        self.copied += other.copied;
        self.linked += other.linked;
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} MB", (self.copied + self.linked) as f64 / 1e6)?;
        if self.linked > 0 {
            write!(f, ", {:.0} MB of them shared with the set-up by hard links", self.linked as f64 / 1e6)?;
        }
        Ok(())
    }
}

/// Makes `folder` and the folders above it that are missing, and fails if nothing can be written
/// there.
pub fn prepare_folder(folder: &Path) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        let made = fs::DirBuilder::new().mode(FOLDER).create(folder);
        made.and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER)))
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let probe = staging(&folder.join("probe"))?;
    fs::write(&probe, "").with_context(|| format!("cannot write to {}", folder.display()))?;
    setup::remove(&probe)
}

/// Copies `source` to `target`.
pub fn copy(source: &Path, target: &Path, mode: u32) -> Result<()> {
    place(target, |staging| {
        fs::copy(source, staging)?;
        fs::set_permissions(staging, fs::Permissions::from_mode(mode))
    })
}

/// Gives the library `source` a second name `target` if that is safe and possible, and copies it
/// otherwise. `source` is no link.
///
/// It is safe if the file belongs to the one who installs, all may read it and nobody else may
/// change it. Otherwise another user could change what runs in all users' names.
pub fn link_or_copy(source: &Path, target: &Path) -> Result<Placed> {
    let found = fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
    let linked = Placed { linked: found.len(), ..Placed::default() };
    if fs::symlink_metadata(target).is_ok_and(|there| (there.dev(), there.ino()) == (found.dev(), found.ino())) {
        return Ok(linked);
    }
    let is_own = target.parent().and_then(|folder| fs::metadata(folder).ok()).is_some_and(|f| f.uid() == found.uid());
    let is_safe = is_own && found.mode() & 0o444 == 0o444 && found.mode() & 0o022 == 0;
    // Across file systems, and on some of them, there are no second names.
    if is_safe && place(target, |staging| fs::hard_link(source, staging)).is_ok() {
        return Ok(linked);
    }
    copy(source, target, LIBRARY)?;
    Ok(Placed { copied: found.len(), ..Placed::default() })
}

/// Makes the file under a name beside `target`, and renames it.
fn place(target: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    if target.is_dir() {
        bail!("{} is a folder: move it away", target.display());
    }
    let staging = staging(target)?;
    setup::remove(&staging)?;
    let made = make(&staging).and_then(|()| fs::rename(&staging, target));
    if made.is_err() {
        setup::remove(&staging)?;
    }
    made.with_context(|| format!("cannot write {}", target.display()))
}

fn staging(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().and_then(OsStr::to_str).context("the target has no name")?;
    Ok(target.with_file_name(format!(".{name}.part")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mode(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_library_that_only_its_owner_may_change_gets_a_second_name() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source.so"), folder.path().join("target.so"));
        with_mode(&source, "library", 0o644);
        fs::write(&target, "old").unwrap();
        let linked = Placed { linked: 7, copied: 0 };
        assert_eq!(link_or_copy(&source, &target).unwrap(), linked);
        // And once more: the two names are one file now, and no third name is left.
        assert_eq!(link_or_copy(&source, &target).unwrap(), linked);
        assert_eq!(fs::metadata(&source).unwrap().nlink(), 2);
        assert_eq!(fs::read_to_string(&target).unwrap(), "library");
    }

    #[test]
    fn a_library_that_others_may_change_or_cannot_read_is_copied() {
        for unsafe_mode in [0o664, 0o646, 0o600] {
            let folder = tempfile::tempdir().unwrap();
            let (source, target) = (folder.path().join("source.so"), folder.path().join("target.so"));
            with_mode(&source, "library", unsafe_mode);
            assert_eq!(link_or_copy(&source, &target).unwrap(), Placed { linked: 0, copied: 7 });
            assert_eq!((mode(&source), mode(&target)), (unsafe_mode, 0o644));
        }
    }

    #[test]
    fn what_is_replaced_stays_whole_for_those_who_have_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        with_mode(&source, "new", 0o700);
        with_mode(&target, "old", 0o500);
        let mut open = fs::File::open(&target).unwrap();
        copy(&source, &target, EXECUTABLE).unwrap();
        assert_eq!(io::read_to_string(&mut open).unwrap(), "old");
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), mode(&target)), ("new", 0o755));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn new_folders_are_open_to_all_and_old_ones_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let old = mode(folder.path());
        let lib = folder.path().join("usr/lib/train_and_save");
        prepare_folder(&lib).unwrap();
        prepare_folder(&lib).unwrap();
        assert_eq!([mode(&lib), mode(lib.parent().unwrap()), mode(folder.path())], [0o755, 0o755, old]);
        assert_eq!(fs::read_dir(&lib).unwrap().count(), 0);
        fs::write(folder.path().join("file"), "").unwrap();
        let error = prepare_folder(&folder.path().join("file/bin")).unwrap_err();
        assert!(error.to_string().contains("cannot make"), "{error:#}");
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::write(&source, "").unwrap();
        fs::create_dir(&target).unwrap();
        let error = copy(&source, &target, EXECUTABLE).unwrap_err();
        assert!(error.to_string().ends_with("target is a folder: move it away"), "{error}");
    }

    #[test]
    fn the_size_is_told() {
        assert_eq!(Placed { copied: 458_000_000, linked: 0 }.to_string(), "458 MB");
        let linked = Placed { copied: 1_000_000, linked: 457_000_000 };
        assert_eq!(linked.to_string(), "458 MB, 457 MB of them shared with the set-up by hard links");
    }
}
