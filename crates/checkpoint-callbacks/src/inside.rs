//! A checkpoint's files and nothing else: a checkpoint may come from a stranger, and its manifest
//! name, or its folder hold, what would lead elsewhere or never end.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};

/// Whether a path names something below the folder that it is joined to, in the one way to write
/// it: `a/b`, but not `/a`, `../a`, `a//b`, `./a`, `a/` or nothing.
pub(crate) fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    let plain: PathBuf = parts.by_ref().take_while(|part| matches!(part, Component::Normal(_))).collect();
    !path.as_os_str().is_empty() && plain.as_os_str() == path.as_os_str()
}

/// Opens a file of `folder` for reading, if it is a regular one that lies there. Links are followed
/// within the folder.
pub(crate) fn open(folder: &Path, file: &Path) -> Result<File> {
    let path = locate(folder, file)?;
    let mut options = OpenOptions::new();
    options.read(true);
    // Should a pipe have taken its place meanwhile, nobody waits for its other end.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let opened = options.open(path)?;
    if opened.metadata()?.is_file() { Ok(opened) } else { Err(not_regular()) }
}

/// The size of a file that [`open`] would open.
pub(crate) fn size(folder: &Path, file: &Path) -> Result<u64> {
    fs::metadata(locate(folder, file)?).map(|found| found.len())
}

/// Where it really is.
fn locate(folder: &Path, file: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(folder.join(file))?;
    if !path.starts_with(fs::canonicalize(folder)?) {
        return Err(Error::new(ErrorKind::PermissionDenied, "a link that leads out of the folder"));
    }
    // Looked at before it is opened: to open a device can do something already.
    if fs::metadata(&path)?.is_file() { Ok(path) } else { Err(not_regular()) }
}

fn not_regular() -> Error {
    Error::new(ErrorKind::InvalidInput, "not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_written_in_one_way() {
        for plain in ["a", "a/b", "a/b/c.json", "...", ".hidden", "a b", "模型"] {
            assert!(is_plain(Path::new(plain)), "{plain}");
        }
        for other in ["", "/", "/a", "..", "../a", "a/../b", "a/..", ".", "./a", "a/./b", "a//b", "a/", "//a"] {
            assert!(!is_plain(Path::new(other)), "{other}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn regular_files_of_the_folder_alone_are_opened() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (folder, outside) = (dir.path().join("checkpoint-1"), dir.path().join("checkpoint-10"));
        for made in [&folder, &outside] {
            fs::create_dir(made).unwrap();
            fs::write(made.join("file"), "text").unwrap();
        }
        symlink("file", folder.join("within")).unwrap();
        // Its path begins with the folder's, letter by letter.
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
        assert_eq!(outcome("up/checkpoint-1/file"), Ok(()), "it comes back");
        assert_eq!(outcome("pipe"), Err("not a regular file".to_owned()));
        assert_eq!(outcome("."), Err("not a regular file".to_owned()));
        assert!(outcome("none").is_err());
        // The folder itself may be reached by a link.
        symlink(&folder, dir.path().join("link")).unwrap();
        open(&dir.path().join("link"), Path::new("file")).unwrap();
    }
}
