//! Which files of a model's folder are read: regular ones, of a bounded size, that are in the
//! folder or in the hub cache that it is a part of.

use crate::Error;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most bytes that a text file may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileLimit(u64);

impl FileLimit {
    /// config.json and generation_config.json. Real ones have a few kB.
    pub(crate) const CONFIG: Self = Self(64 << 20);
    /// An index of weight files. Real ones have up to a few MB.
    pub(crate) const INDEX: Self = Self(256 << 20);
}

/// A JSON file of a model's folder.
pub(crate) fn json(path: &Path, limit: FileLimit) -> Result<Value, Error> {
    let text = read(path, limit).map_err(Error::read(path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn read(path: &Path, FileLimit(limit): FileLimit) -> io::Result<Vec<u8>> {
    check_file(path)?;
    let mut text = Vec::new();
    // A file may grow, and some of the system's files do not state their size.
    File::open(path)?.take(limit + 1).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {} MiB", limit >> 20)));
    }
    Ok(text)
}

/// Fails unless `path` is a regular file that may be read for a model's folder. This comes before
/// the file is opened, because opening a pipe waits for its writer.
pub(crate) fn check_file(path: &Path) -> io::Result<()> {
    if let Some(target) = target_outside(path)? {
        let problem = format!("it is a link to {}, outside of the model's folder", target.display());
        return Err(io::Error::other(problem));
    }
    if std::fs::metadata(path)?.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Where a link leads, if that is neither in the link's folder nor a blob of a hub cache.
fn target_outside(path: &Path) -> io::Result<Option<PathBuf>> {
    if !std::fs::symlink_metadata(path)?.is_symlink() {
        return Ok(None);
    }
    let target = path.canonicalize()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_inside = target.starts_with(folder.canonicalize()?);
    Ok((!is_inside && !is_blob(&target)).then_some(target))
}

/// Whether a file lies in `models--owner--name/blobs`, as a hub cache keeps the content of files.
fn is_blob(file: &Path) -> bool {
    let name_of = |folder: &Path| folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut folders = file.ancestors().skip(1).map(name_of);
    let blobs = folders.next().flatten();
    let repository = folders.next().flatten();
    blobs.as_deref() == Some("blobs") && repository.is_some_and(|name| name.starts_with("models--"))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn problem(path: &Path) -> String {
        json(path, FileLimit::CONFIG).unwrap_err().to_string()
    }

    #[test]
    fn devices_pipes_and_folders_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("config.json");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            let message = problem(path);
            assert_eq!(message, format!("cannot read {}: it is not a regular file", path.display()));
        }
    }

    #[test]
    fn links_stay_in_the_folder_or_in_a_hub_cache() {
        let root = tempfile::tempdir().unwrap();
        let repository = root.path().join("models--a--b");
        let snapshot = repository.join("snapshots/main");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(repository.join("blobs")).unwrap();
        fs::write(repository.join("blobs/abc"), "{}").unwrap();
        fs::write(root.path().join("secret.json"), "{}").unwrap();
        fs::write(snapshot.join("real.json"), "{}").unwrap();
        symlink("../../blobs/abc", snapshot.join("config.json")).unwrap();
        symlink("real.json", snapshot.join("inside.json")).unwrap();
        for name in ["config.json", "inside.json"] {
            json(&snapshot.join(name), FileLimit::CONFIG).unwrap();
        }
        symlink(root.path().join("secret.json"), snapshot.join("out.json")).unwrap();
        symlink("/dev/zero", snapshot.join("zero.json")).unwrap();
        for (name, target) in [("out.json", "secret.json"), ("zero.json", "/dev/zero")] {
            let message = problem(&snapshot.join(name));
            assert!(message.contains("it is a link to") && message.contains(target), "{message}");
            assert!(message.ends_with("outside of the model's folder"), "{message}");
        }
        // A link to the whole folder is not a link out of it.
        symlink(&snapshot, root.path().join("model")).unwrap();
        json(&root.path().join("model/config.json"), FileLimit::CONFIG).unwrap();
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(problem(&path).ends_with("it has more than 64 MiB"), "{}", problem(&path));
    }
}
