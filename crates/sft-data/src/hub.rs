//! Files of hub repositories, through the cache that Python's `huggingface_hub` uses.
//!
//! [`snapshot`] asks the hub for the commit and the file names of a revision, fetches those that
//! are wanted and not there yet, and returns a folder with all of them:
//!
//! ```text
//!   models--owner--name/
//!     refs/main                     the commit that `main` was last seen at
//!     blobs/<etag>                  contents; `<etag>.incomplete` while they arrive, taken up again after a break
//!     snapshots/<commit>/<file>     links into blobs
//! ```
//!
//! It is written here over a plain HTTP client. Of the `hf-hub` crate, 0.5 does not know
//! `HF_HUB_OFFLINE`, `HF_TOKEN`, `HF_HUB_CACHE` or the size and checksum of what it fetches, and
//! 1.0 brings an asynchronous run-time and a transfer protocol along, which take longer to compile
//! than the rest of this crate.

mod cache;
mod client;
mod config;
mod error;
mod repo;

use crate::Error;
use std::path::PathBuf;

pub use config::{DownloadProgress, HubConfig, ProgressHook};
pub use error::HubError;
pub(crate) use repo::Repo;

/// The two kinds of hub repository that are read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// A model repository.
    Model,
    /// A dataset repository.
    Dataset,
}

/// Downloads, or finds in the cache, the files of a repository that `wanted` accepts by name, and
/// returns the folder they are in. `revision` is a branch, a tag or a commit.
///
/// A file that is in the cache is not asked for again. If the hub cannot be reached at all, what
/// the cache has of the revision is used, as `huggingface_hub` does.
///
/// # Errors
/// If the repository, the revision or every wanted file is missing, access is denied, or a transfer
/// fails for good.
pub fn snapshot(
    hub: &HubConfig,
    kind: RepoKind,
    repo_id: &str,
    revision: &str,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<PathBuf, Error> {
    let repo = Repo::open(hub, kind, repo_id, revision)?;
    let files: Vec<&String> = repo.files().iter().filter(|name| wanted(name)).collect();
    if files.is_empty() {
        return Err(repo.no_file_wanted().into());
    }
    for name in files {
        repo.fetch(name)?;
    }
    Ok(repo.folder())
}

/// Whether a name can be that of a repository: `name` or `owner/name`, of letters, digits, `-`, `_`
/// and `.`.
pub(crate) fn is_repo_id(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let is_name = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    parts.len() <= 2 && parts.into_iter().all(is_name)
}

#[cfg(test)]
mod tests;
