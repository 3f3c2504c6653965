//! Compiled kernels on disk.

use std::fs::Permissions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::Builder;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Keeps compiled kernels in `folder` from now on, so that another run need not compile them. The
/// folder is made when the first kernel is written.
///
/// The first call in a process decides. Without a call, each process compiles its kernels itself,
/// which takes a few seconds.
pub fn keep_compiled_in(folder: PathBuf) {
    // A second folder would not have the kernels of the first.
    let _ = FOLDER.set(folder);
}

/// Where the code under this name is kept, if code is kept.
pub(super) fn file(name: &str) -> Option<PathBuf> {
    FOLDER.get().map(|folder| folder.join(name))
}

/// The code in a file, if its length and hash are those in the file's header.
pub(super) fn read(file: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(file).ok()?;
    let (found, code) = bytes.split_at_checked(16)?;
    (found == header(code)).then(|| code.to_vec())
}

/// Writes a temporary file and renames it, so that another process never sees part of a file.
pub(super) fn write(file: &Path, code: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // The permissions of any new file. A temporary file would be for its owner only.
    let mut beside = Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    beside.write_all(&header(code))?;
    beside.write_all(code)?;
    beside.persist(file)?;
    Ok(())
}

fn header(code: &[u8]) -> [u8; 16] {
    let mut hasher = DefaultHasher::new();
    code.hash(&mut hasher);
    let mut header = [0; 16];
    header[..8].copy_from_slice(&(code.len() as u64).to_le_bytes());
    header[8..].copy_from_slice(&hasher.finish().to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kernels/x-sm_90");
        assert!(read(&file).is_none());
        write(&file, b"machine code").unwrap();
        assert_eq!(read(&file).unwrap(), b"machine code");
        let bytes = std::fs::read(&file).unwrap();
        for cut in [0, 15, 20] {
            std::fs::write(&file, &bytes[..cut]).unwrap();
            assert!(read(&file).is_none(), "{cut}");
        }
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_and_has_ordinary_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let (file, ordinary) = (folder.path().join("x-sm_90"), folder.path().join("ordinary"));
        std::fs::write(&ordinary, "").unwrap();
        write(&file, b"old").unwrap();
        write(&file, b"new").unwrap();
        assert_eq!(read(&file).unwrap(), b"new");
        let mode = |file: &Path| std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode(&file), mode(&ordinary));
    }
}
