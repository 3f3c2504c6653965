use crate::Error;
use std::fs::File;
use std::path::Path;

/// A file's content as a read-only memory map. The system reads a page on first access.
#[derive(Debug)]
pub struct MappedFile(Option<memmap2::Mmap>);

impl MappedFile {
    /// Maps the whole of `path`.
    ///
    /// The file must not be truncated while it is mapped: a read past the new end kills the process
    /// with SIGBUS.
    ///
    /// # Errors
    /// [`Error::Map`] when the file cannot be opened, is not a regular file, or cannot be mapped.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Map { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(std::io::Error::other("not a regular file")));
        }
        if metadata.len() == 0 {
            return Ok(Self(None)); // mmap refuses an empty range
        }
        // SAFETY: the map is read-only, and the documentation demands that the file is not
        // truncated.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Ok(Self(Some(map)))
    }
}

impl std::ops::Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_content_empty_files_and_reports_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"weights").unwrap();
        assert_eq!(&*MappedFile::open(&path).unwrap(), b"weights");
        std::fs::write(&path, b"").unwrap();
        assert!(MappedFile::open(&path).unwrap().is_empty());
        for bad in [folder.path().join("absent"), folder.path().to_owned()] {
            let message = MappedFile::open(&bad).unwrap_err().to_string();
            assert!(message.contains(&bad.display().to_string()), "{message}");
        }
    }
}
