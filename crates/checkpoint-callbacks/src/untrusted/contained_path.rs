//! Paths that stay inside a folder.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};

/// Whether `path` names something below the folder that it is joined to, in its one canonical
/// spelling: `a/b`, but not `/a`, `../a`, `a//b`, `./a`, `a/` or the empty path.
pub(crate) fn is_contained(path: &Path) -> bool {
    let mut parts = path.components();
    let plain: PathBuf = parts.by_ref().take_while(|part| matches!(part, Component::Normal(_))).collect();
    !path.as_os_str().is_empty() && plain.as_os_str() == path.as_os_str()
}

/// Opens a regular file of `folder` for reading. Links are followed as long as they stay in the
/// folder.
///
/// # Errors
/// When the file leads out of the folder, is not a regular file, or cannot be opened.
pub(crate) fn open(folder: &Path, file: &Path) -> Result<File> {
    let path = locate(folder, file)?;
    let mut options = OpenOptions::new();
    options.read(true);
    // If a pipe took the file's place after the check, opening it must not wait for a writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let opened = options.open(path)?;
    if opened.metadata()?.is_file() { Ok(opened) } else { Err(not_regular()) }
}

/// The size in bytes of a file that [`open`] would open.
///
/// # Errors
/// As [`open`].
pub(crate) fn size(folder: &Path, file: &Path) -> Result<u64> {
    fs::metadata(locate(folder, file)?).map(|found| found.len())
}

/// The path of a regular file of `folder`, with all links resolved.
fn locate(folder: &Path, file: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(folder.join(file))?;
    if !path.starts_with(fs::canonicalize(folder)?) {
        return Err(Error::new(ErrorKind::PermissionDenied, "a link that leads out of the folder"));
    }
    // Checked before opening, because opening a device can already have an effect.
    if fs::metadata(&path)?.is_file() { Ok(path) } else { Err(not_regular()) }
}

fn not_regular() -> Error {
    Error::new(ErrorKind::InvalidInput, "not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contained_paths_have_one_spelling() {
        for contained in ["a", "a/b", "a/b/c.json", "...", ".hidden", "a b", "模型"] {
            assert!(is_contained(Path::new(contained)), "{contained}");
        }
        for other in ["", "/", "/a", "..", "../a", "a/../b", "a/..", ".", "./a", "a/./b", "a//b", "a/", "//a"] {
            assert!(!is_contained(Path::new(other)), "{other}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_of_the_folder_are_opened() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (folder, outside) = (dir.path().join("checkpoint-1"), dir.path().join("checkpoint-10"));
        for made in [&folder, &outside] {
            fs::create_dir(made).unwrap();
            fs::write(made.join("file"), "text").unwrap();
        }
        symlink("file", folder.join("within")).unwrap();
        // Its path starts with the same letters as the path of the folder.
        symlink(outside.join("file"), folder.join("out")).unwrap();
        symlink("/dev/zero", folder.join("device")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();

        let outcome = |file: &str| open(&folder, Path::new(file)).map(drop).map_err(|error| error.to_string());
        for file in ["file", "within"] {
            assert_eq!(outcome(file), Ok(()));
            assert_eq!(size(&folder, Path::new(file)).unwrap(), 4);
        }
        let leads_out = "a link that leads out of the folder".to_owned();
        for file in ["out", "device", "up/checkpoint-10/file"] {
            assert_eq!(outcome(file), Err(leads_out.clone()), "{file}");
        }
        assert_eq!(outcome("up/checkpoint-1/file"), Ok(()), "the path comes back into the folder");
        assert_eq!(outcome("pipe"), Err("not a regular file".to_owned()));
        assert_eq!(outcome("."), Err("not a regular file".to_owned()));
        assert!(outcome("none").is_err());
        // The folder itself may be a link.
        symlink(&folder, dir.path().join("link")).unwrap();
        open(&dir.path().join("link"), Path::new("file")).unwrap();
    }
}
