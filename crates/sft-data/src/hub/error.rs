//! What can go wrong with the hub.

use std::io;
use std::path::PathBuf;

/// What went wrong with the hub. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not the name of a repository.
    #[error("{repo_id:?} is no hub repository: a name or `owner/name` is expected")]
    InvalidRepoId {
        /// The name as given.
        repo_id: String,
    },
    /// Offline, or the hub is out of reach, and the cache does not have it.
    #[error(
        "{repo_id} at {revision} is not in the cache {} and HF_HUB_OFFLINE is set: unset it, or fetch the repository \
         first",
        cache_dir.display()
    )]
    NotCached {
        /// The repository.
        repo_id: String,
        /// The revision asked for.
        revision: String,
        /// The cache that was searched.
        cache_dir: PathBuf,
    },
    /// The cache has the repository, but not the file.
    #[error("{repo_id}: {file} is not in the cached snapshot {} and HF_HUB_OFFLINE is set", folder.display())]
    FileNotCached {
        /// The repository.
        repo_id: String,
        /// The file.
        file: String,
        /// The snapshot that was searched.
        folder: PathBuf,
    },
    /// The hub cannot be reached.
    #[error("{url} cannot be reached: check the network, set HF_ENDPOINT to a mirror, or use a local path")]
    Unreachable {
        /// The address asked.
        url: String,
        /// What the network said.
        #[source]
        source: Box<ureq::Error>,
    },
    /// No access without a token.
    #[error(
        "{repo_id} does not exist or is private (status 401): if it is private, set HF_TOKEN to a token that may read it"
    )]
    TokenMissing {
        /// The repository.
        repo_id: String,
    },
    /// No access with the token that was sent.
    #[error("{repo_id}: access denied (status {status}): the token in HF_TOKEN is not valid or may not read it")]
    TokenRefused {
        /// The repository.
        repo_id: String,
        /// The status of the answer.
        status: u16,
    },
    /// Access has to be asked for first.
    #[error("{repo_id} is gated: accept its terms at {url} and set HF_TOKEN to a token of that account")]
    Gated {
        /// The repository.
        repo_id: String,
        /// Where to ask.
        url: String,
    },
    /// There is no such repository.
    #[error("{repo_id} does not exist at {endpoint} (status 404): check the name, or give a local path")]
    RepoNotFound {
        /// The repository.
        repo_id: String,
        /// The hub asked.
        endpoint: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repo_id} has no revision {revision:?} (status 404)")]
    RevisionNotFound {
        /// The repository.
        repo_id: String,
        /// The revision asked for.
        revision: String,
    },
    /// The repository has no such file.
    #[error("{repo_id} has no file {file}")]
    FileNotFound {
        /// The repository.
        repo_id: String,
        /// The file, or what was looked for.
        file: String,
    },
    /// An answer that nothing can be made of.
    #[error("{url} answered with status {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// The address asked.
        url: String,
        /// The status of the answer.
        status: u16,
        /// What the hub said about it.
        message: String,
    },
    /// The list of files cannot be understood.
    #[error("{url} did not answer as a hub does ({problem}): is HF_ENDPOINT right?")]
    BadAnswer {
        /// The address asked.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// A file name that would lead out of the cache.
    #[error("{repo_id}: refusing a file named {file:?}")]
    UnsafeName {
        /// The repository.
        repo_id: String,
        /// The name.
        file: String,
    },
    /// A transfer broke off again and again.
    #[error("{repo_id}: {file} broke off after {bytes_done} bytes: run it again, it goes on from there")]
    BrokenTransfer {
        /// The repository.
        repo_id: String,
        /// The file.
        file: String,
        /// Bytes that are there.
        bytes_done: u64,
        /// The last failure.
        #[source]
        source: io::Error,
    },
    /// More or fewer bytes than the hub announced.
    #[error("{repo_id}: {file} has {found} bytes where the hub announced {expected}: fetched again, it may be whole")]
    WrongSize {
        /// The repository.
        repo_id: String,
        /// The file.
        file: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The contents are not those that the hub has.
    #[error("{repo_id}: {file} was damaged on the way (its SHA-256 is not {expected}): fetch it again")]
    Damaged {
        /// The repository.
        repo_id: String,
        /// The file.
        file: String,
        /// The checksum announced.
        expected: String,
    },
    /// The cache cannot be read or written.
    #[error("cache {}: cannot be read or written; HF_HOME moves it elsewhere", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file of certificates cannot be read.
    #[error("{}: cannot be read as certificates (SSL_CERT_FILE or REQUESTS_CA_BUNDLE)", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
