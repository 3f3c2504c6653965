//! Errors of this crate.

use std::path::PathBuf;

/// What can be wrong with reports. A [`Reports`](crate::Reports) callback turns those that come
/// while a run goes on into warnings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `report_to` names what is not here.
    #[error("report_to is {names}: {}", .problems.join("; "))]
    Destination {
        /// What was asked for.
        names: String,
        /// What is wrong with each name, and what to do.
        problems: Vec<String>,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder is not that of a run.
    #[error("{}: {problem}", .path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What is missing, and what to do.
        problem: String,
    },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
