//! Opens regular files only, and keeps links inside their folder.
//!
//! A pipe without a writer blocks whoever opens it, a device such as `/dev/zero` never ends, and a
//! link in a folder of a stranger can lead to any file of the user.

use super::content_size::HumanBytes;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Opens a file for reading. It returns at once, whatever the path leads to.
///
/// # Errors
/// If the file cannot be opened, or is a folder, a pipe, a socket or a device.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // To open a device can already have an effect, so the file is looked at first. Between the two
    // calls it may be replaced, so the open file is looked at again.
    check(&std::fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    // Without a writer, opening a pipe would block. For a regular file the flag means nothing.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let file = options.open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Reads a whole file of at most `max_bytes`.
///
/// # Errors
/// As for [`open`], and if the file is larger or cannot be read.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Files in `/proc` state no size, so the content is limited too.
    open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(refused(format!(
            "it is larger than {}, the most that such a file may have",
            HumanBytes(max_bytes)
        )));
    }
    Ok(bytes)
}

/// Checks that a file belongs to `folder`: links are followed, and it lies in the folder; or the
/// folder is a snapshot in the hub's cache, and the file is a blob of the same repository. The
/// folder itself may be a link.
///
/// # Errors
/// If the file does not exist, or leads out of the folder.
pub(crate) fn contained(path: &Path, folder: &Path) -> io::Result<()> {
    let (real, home) = (path.canonicalize()?, folder.canonicalize()?);
    if real.starts_with(&home) || blobs_of(&home).is_some_and(|blobs| real.starts_with(blobs)) {
        return Ok(());
    }
    Err(refused(format!("it is a link to {}, outside of its folder; put the file itself there", real.display())))
}

/// What the files of a snapshot link to: `datasets--owner--name/blobs` for
/// `datasets--owner--name/snapshots/<commit>` and its folders.
fn blobs_of(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.ancestors().skip(1).find(|folder| folder.ends_with("snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    let is_cached = ["models--", "datasets--", "spaces--"].iter().any(|kind| repository.starts_with(kind));
    is_cached.then(|| snapshots.with_file_name("blobs"))
}

fn check(metadata: &Metadata) -> io::Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(refused(format!("it is {}, not a regular file", kind(metadata.file_type())))),
    }
}

fn kind(file_type: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_fifo() {
            return "a pipe";
        }
        if file_type.is_socket() {
            return "a socket";
        }
        if file_type.is_char_device() || file_type.is_block_device() {
            return "a device";
        }
    }
    if file_type.is_dir() { "a folder" } else { "something else" }
}

fn refused(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn problem<T: std::fmt::Debug>(outcome: io::Result<T>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "text").unwrap();
        symlink("file", path("link")).unwrap();
        assert_eq!(read(&path("link"), 4).unwrap(), b"text");
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        for (name, expected) in [("pipe", "a pipe"), ("socket", "a socket"), ("zero", "a device"), ("", "a folder")] {
            assert_eq!(problem(open(&path(name))), format!("it is {expected}, not a regular file"));
        }
        assert_eq!(open(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_large_file_is_not_read_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![b'a'; (1 << 20) + 1]).unwrap();
        assert!(problem(read(&path, 1 << 20)).contains("larger than 1 MiB"));
        assert!(read(&path, (1 << 20) + 1).is_ok());
    }

    #[test]
    fn links_stay_inside_their_folder() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for folder in ["data/sub", "models--a/snapshots/1a2b/data", "models--a/blobs", "models--b/blobs"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        for file in ["data/sub/file", "models--a/blobs/99", "models--b/blobs/99", "outside"] {
            fs::write(path(file), "").unwrap();
        }
        let link = |target: &str, name: &str| symlink(target, path(name)).unwrap();
        link("sub/file", "data/inside");
        link("../outside", "data/out");
        link("..", "data/up");
        link("data", "alias");
        link("../../../blobs/99", "models--a/snapshots/1a2b/data/blob");
        link("../../../../models--b/blobs/99", "models--a/snapshots/1a2b/data/foreign");
        for (file, folder) in [
            ("data/inside", "data"),
            ("alias/inside", "alias"),
            ("models--a/snapshots/1a2b/data/blob", "models--a/snapshots/1a2b"),
            ("models--a/snapshots/1a2b/data/blob", "models--a/snapshots/1a2b/data"),
        ] {
            contained(&path(file), &path(folder)).unwrap();
        }
        for (file, folder) in [
            ("data/out", "data"),
            ("data/up/outside", "data"),
            ("alias/out", "alias"),
            ("models--a/snapshots/1a2b/data/foreign", "models--a/snapshots/1a2b"),
        ] {
            assert!(problem(contained(&path(file), &path(folder))).contains("outside of its folder"), "{file}");
        }
        assert_eq!(contained(&path("data/none"), &path("data")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
