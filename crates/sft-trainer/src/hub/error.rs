//! What can go wrong with the hub.

use indicatif::{HumanBytes, HumanCount};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

/// An error of the hub or its cache. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text cannot be the name of a repository.
    #[error("{repo_id:?} is not the name of a hub repository: a name or `owner/name` is expected")]
    InvalidRepoId {
        /// The name as given.
        repo_id: String,
    },
    /// The address of the hub is malformed.
    #[error(
        "HF_ENDPOINT is {endpoint:?}: it has to be an address that starts with http:// or https://{}",
        example(endpoint)
    )]
    InvalidEndpoint {
        /// The address as given.
        endpoint: String,
    },
    /// Nothing says where the cache is.
    #[error("no folder for the hub's cache: HOME is not set; set HF_HOME to a folder, or give local paths")]
    NoCacheFolder,
    /// A model's index names files that are not in the cache, and the hub is not asked.
    #[error("{repo_id} at {revision}: {} of {total} files with weights are not in the cache ({}) and {reason}", missing.len(), first_few(missing))]
    MissingShards {
        /// The repository.
        repo_id: String,
        /// The revision asked for.
        revision: String,
        /// The files that are missing.
        missing: Vec<String>,
        /// The number of files that hold the weights.
        total: usize,
        /// Why only the cache was searched.
        reason: CacheOnly,
    },
    /// The model is neither a folder nor a name that the hub could know.
    #[error("model {name}: there is no such folder, and it is not the name of a hub repository (`owner/name`)")]
    ModelNotFound {
        /// The name as given.
        name: String,
    },
    /// The model is a file instead of a folder.
    #[error("model {name} is a file: give the folder that holds config.json")]
    ModelIsFile {
        /// The path as given.
        name: String,
    },
    /// The hub is not asked, and the cache does not have the revision.
    #[error("{repo_id} at {revision} is not in the cache {} and {reason}", cache_dir.display())]
    NotCached {
        /// The repository.
        repo_id: String,
        /// The revision asked for.
        revision: String,
        /// The cache that was searched.
        cache_dir: PathBuf,
        /// Why only the cache was searched.
        reason: CacheOnly,
    },
    /// The hub is not asked, and the cache has the repository but not the file.
    #[error("{file} at {} is not in the cached snapshot {} and {reason}", file.revision, folder.display())]
    FileNotCached {
        /// The file.
        file: HubFile,
        /// The snapshot that was searched.
        folder: PathBuf,
        /// Why only the cache was searched.
        reason: CacheOnly,
    },
    /// The hub cannot be reached.
    #[error("{url} cannot be reached: check the network, set HF_ENDPOINT to a mirror, or use a local path")]
    Unreachable {
        /// The address asked.
        url: String,
        /// What the network said.
        #[source]
        source: Box<reqwest::Error>,
    },
    /// The hub gives no access without a token.
    #[error(
        "{repo_id} does not exist or is private (status 401): if it is private, set HF_TOKEN to a token that may read it"
    )]
    TokenMissing {
        /// The repository.
        repo_id: String,
    },
    /// The hub gives no access with the token that was sent.
    #[error("{repo_id}: access denied (status {status}): the token in HF_TOKEN is not valid or may not read it")]
    TokenRefused {
        /// The repository.
        repo_id: String,
        /// The status of the answer.
        status: u16,
    },
    /// The token may not write.
    #[error("{repo_id}: access denied: set HF_TOKEN or `hub_token` to a token that may write to it")]
    PushRefused {
        /// The repository.
        repo_id: String,
    },
    /// Access has to be requested first.
    #[error("{repo_id} is gated: accept its terms at {url} and set HF_TOKEN to a token of that account")]
    Gated {
        /// The repository.
        repo_id: String,
        /// Where to request access.
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
    #[error("{} has no file {} at revision {}", file.repo_id, file.file, file.revision)]
    FileNotFound {
        /// The file, or what was looked for.
        file: HubFile,
    },
    /// The hub answered with a status that has no meaning of its own here.
    #[error("{url} answered with status {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// The address asked.
        url: String,
        /// The status of the answer.
        status: u16,
        /// What the hub said about it.
        message: String,
        /// How long the hub asks to wait.
        retry_after: Option<Duration>,
    },
    /// The answer does not have the form of a hub's answer.
    #[error("{url} did not answer as a hub does ({problem}): is HF_ENDPOINT right?")]
    BadAnswer {
        /// The address asked.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// A file name would lead out of the cache.
    #[error("{}: refusing a file named {:?}", file.repo_id, file.file)]
    UnsafeName {
        /// The file.
        file: HubFile,
    },
    /// A transfer broke off repeatedly.
    #[error(
        "{file} broke off after {} (revision {}): run the same command again to continue from there",
        HumanBytes(*bytes_done), file.revision
    )]
    BrokenTransfer {
        /// The file.
        file: HubFile,
        /// Bytes that are in the cache.
        bytes_done: u64,
        /// The last failure.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// More or fewer bytes arrived than the hub announced.
    #[error(
        "{file} has {} bytes where the hub announced {} (revision {}): fetch it again",
        HumanCount(*found), HumanCount(*expected), file.revision
    )]
    WrongSize {
        /// The file.
        file: HubFile,
        /// Bytes announced.
        expected: u64,
        /// Bytes that arrived.
        found: u64,
    },
    /// The content is not what the hub has.
    #[error(
        "{file} was damaged on the way (revision {}; its SHA-256 is not {expected}): fetch it again",
        file.revision
    )]
    Damaged {
        /// The file.
        file: HubFile,
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
    #[error("{}: cannot be read as certificates (SSL_CERT_FILE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE)", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The HTTP client cannot be made, for instance because the system has no certificates.
    #[error(
        "the hub's client cannot be started: check that certificates are installed (package ca-certificates) or set \
         SSL_CERT_FILE"
    )]
    Client {
        /// What is wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A file of a repository. `Display` writes `owner/name: file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// The repository.
    pub repo_id: String,
    /// The revision asked for.
    pub revision: String,
    /// The file's name in the repository.
    pub file: String,
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.repo_id, self.file)
    }
}

/// Why only the cache was searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOnly {
    /// The environment asks for it.
    Offline,
    /// The hub could not be reached.
    Unreachable,
}

impl fmt::Display for CacheOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "HF_HUB_OFFLINE is set: unset it, or fetch the repository first",
            Self::Unreachable => "the hub cannot be reached: check the network, or set HF_ENDPOINT to a mirror",
        })
    }
}

/// What an address without a scheme probably means.
fn example(endpoint: &str) -> String {
    let is_host = endpoint.contains('.') && !endpoint.contains([' ', '/', ':', '@']);
    if is_host { format!(", for example https://{endpoint}") } else { String::new() }
}

/// The first names of a list.
fn first_few(names: &[String]) -> String {
    const FEW: usize = 3;
    let more = if names.len() > FEW { ", …" } else { "" };
    format!("{}{more}", names.iter().take(FEW).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// The last of a chain of errors, which says what happened.
pub(super) fn innermost(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
