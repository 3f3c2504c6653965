//! How a program gives this crate access to a hub. This crate itself never uses the network.

use crate::BoxError;
use std::fmt::Display;
use std::path::PathBuf;

/// A repository of dataset files on a hub, opened at one revision.
///
/// [`Display`] names the repository in messages and in [`Splits::source`](crate::Splits::source),
/// for example as `owner/name@1a2b3c4d`.
pub trait Repository: Display {
    /// Names of all files, relative to the repository's root, with `/` between folders.
    fn files(&self) -> &[String];

    /// Whether files may be missing from [`files`](Self::files), because only a cache of the
    /// repository can be reached. False by default.
    fn is_partial(&self) -> bool {
        false
    }

    /// Returns the path of a local copy of one file. It is called once for each file that is read.
    ///
    /// # Errors
    /// If the file cannot be downloaded. The error is passed on as [`Error::Repository`].
    ///
    /// [`Error::Repository`]: crate::Error::Repository
    fn fetch(&self, name: &str) -> Result<PathBuf, BoxError>;
}

/// Opens a dataset whose name is neither a file nor a folder.
pub trait OpenRepository {
    /// Opens the repository `name` at `revision` (a branch, a tag or a commit). `Ok(None)` means
    /// that the name cannot be the name of a repository.
    ///
    /// # Errors
    /// If the repository does not exist or cannot be reached. The error is passed on as
    /// [`Error::Repository`].
    ///
    /// [`Error::Repository`]: crate::Error::Repository
    fn open(&self, name: &str, revision: &str) -> Result<Option<Box<dyn Repository + '_>>, BoxError>;
}

/// Opens no repository: for programs that read local files only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalFiles;

impl OpenRepository for LocalFiles {
    fn open(&self, _name: &str, _revision: &str) -> Result<Option<Box<dyn Repository + '_>>, BoxError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
