//! Guards against hostile checkpoints.
//!
//! A checkpoint may come from a stranger. Its manifest may list paths outside of the checkpoint,
//! and its folder may hold links, pipes or devices that lead a reader elsewhere or never end. The
//! checks here run before any such file is opened.

use crate::manifest::{FileEntry, Manifest};
use crate::{Error, Result, durable};
use std::collections::HashSet;
use std::path::Path;

pub(crate) mod contained_path;

/// Checks that a manifest lists only paths inside of `checkpoint`, each once.
///
/// # Errors
/// [`Error::ManifestName`] for the first path that is not.
pub(crate) fn check_names(checkpoint: &Path, manifest: &Manifest) -> Result<()> {
    let mut names = HashSet::new();
    for FileEntry { path, .. } in &manifest.files {
        let refused = |problem| Error::ManifestName { path: checkpoint.to_owned(), file: path.clone(), problem };
        if !contained_path::is_contained(path) {
            return Err(refused("a path outside of it"));
        }
        if !names.insert(path) {
            return Err(refused("more than once"));
        }
    }
    Ok(())
}

/// Checks that everything in `checkpoint`, listed or not, is a regular file inside of it.
///
/// # Errors
/// [`Error::ForeignFile`] for the first entry that is not; [`Error::File`] when a folder cannot be
/// listed.
pub(crate) fn check_entries(checkpoint: &Path) -> Result<()> {
    for file in durable::files_under(checkpoint)? {
        if let Err(source) = contained_path::size(checkpoint, &file) {
            return Err(Error::ForeignFile { path: checkpoint.to_owned(), file, source });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::testing::checkpoint;
    use crate::{MANIFEST_FILE_NAME, verify};
    use std::fs;
    use std::path::PathBuf;

    /// The names in a manifest are checked before any file is opened.
    #[test]
    fn a_manifest_lists_each_file_of_its_checkpoint_once() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint-12");
        fs::create_dir_all(checkpoint.join("sub")).unwrap();
        for file in [dir.path().join("outside"), checkpoint.join("model"), checkpoint.join("sub/model")] {
            fs::write(file, "weights").unwrap();
        }
        let (size, sha256) = durable::digest(&checkpoint, Path::new("model")).unwrap();
        let check = |paths: &[&str]| {
            let entry = |path: &&str| FileEntry { path: path.into(), size, sha256: sha256.clone() };
            let manifest = Manifest { global_step: 12, files: paths.iter().map(entry).collect() };
            manifest.write(&RealDisk, &checkpoint).unwrap();
            verify(&checkpoint)
        };
        check(&["model", "sub/model"]).unwrap();
        let outside = dir.path().join("outside");
        for path in [outside.to_str().unwrap(), "../outside", "sub/../model", "./model", "sub//model", "model/", ""] {
            let error = check(&["sub/model", path]).unwrap_err();
            assert!(matches!(&error, Error::ManifestName { file, .. } if file == Path::new(path)), "{path}: {error}");
            assert!(error.to_string().contains("a path outside of it"), "{error}");
        }
        let error = check(&["model", "sub/model", "model"]).unwrap_err();
        assert!(error.to_string().contains(r#"lists "model", more than once"#), "{error}");
    }

    /// A reader would wait forever on a pipe, and never reach the end of `/dev/zero`.
    #[cfg(unix)]
    #[test]
    fn a_checkpoint_with_links_or_pipes_is_refused() {
        use std::os::unix::fs::symlink;
        let pipe = |path: PathBuf| {
            let mode = rustix::fs::Mode::from(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        };
        // In place of a listed file, in place of the manifest, and as a file that is not listed
        // but that a resumed run might read.
        for name in ["model.safetensors", "trainer_state.json", MANIFEST_FILE_NAME] {
            for is_link in [true, false] {
                let dir = checkpoint();
                let path = dir.path().join(name);
                let _ = fs::remove_file(&path);
                if is_link {
                    symlink("/dev/zero", path).unwrap()
                } else {
                    pipe(path)
                }
                let message = verify(dir.path()).unwrap_err().to_string();
                let expected = if is_link { "a link that leads out of the folder" } else { "not a regular file" };
                assert!(message.contains(name) && message.contains(expected), "{message}");
            }
        }
        let dir = checkpoint();
        fs::rename(dir.path().join("sub"), dir.path().join("moved")).unwrap();
        symlink("moved", dir.path().join("sub")).unwrap();
        let message = verify(dir.path()).unwrap_err().to_string();
        assert!(message.contains("sub is not a regular file"), "{message}");
    }
}
