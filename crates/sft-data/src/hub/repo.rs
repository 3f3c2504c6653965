//! One repository at one commit.

use super::cache::{RepoCache, cache_error, create_parent, is_safe_name, is_safe_path};
use super::client::{Client, Follow, Method, percent_encode};
use super::config::{DownloadProgress, HubConfig};
use super::error::HubError;
use super::{RepoKind, is_repo_id};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::{HeaderMap, Response};

const REPORT_EVERY: Duration = Duration::from_millis(200);
/// Longest part of an error page that is quoted.
const MAX_QUOTED: usize = 200;

/// A repository at a commit: the names of its files, and how to get them.
pub(crate) struct Repo<'a> {
    config: &'a HubConfig,
    kind: RepoKind,
    repo_id: String,
    revision: String,
    commit: String,
    files: Vec<String>,
    cache: RepoCache,
    /// `None` if only the cache is used.
    client: Option<Client>,
}

impl fmt::Display for Repo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo_id, self.commit.get(..8).unwrap_or(&self.commit))
    }
}

/// What the hub says about a revision; the rest of the answer is of no interest.
#[derive(Deserialize)]
struct RevisionInfo {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What the hub says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileInfo {
    etag: String,
    size: Option<u64>,
}

impl<'a> Repo<'a> {
    /// Asks the hub for the commit and the files of a revision, or the cache if offline or out of
    /// reach.
    pub(crate) fn open(config: &'a HubConfig, kind: RepoKind, repo_id: &str, revision: &str) -> Result<Self, HubError> {
        if !is_repo_id(repo_id) {
            return Err(HubError::InvalidRepoId { repo_id: repo_id.to_owned() });
        }
        let cache = RepoCache::new(&config.cache_dir, kind, repo_id);
        let mut repo = Self {
            config,
            kind,
            repo_id: repo_id.to_owned(),
            revision: revision.to_owned(),
            commit: String::new(),
            files: Vec::new(),
            cache,
            client: None,
        };
        let unreachable = if config.offline {
            None
        } else {
            let client = Client::new(config)?;
            match repo.ask(&client) {
                Ok(info) => {
                    repo.cache.remember_commit(revision, &info.sha)?;
                    repo.commit = info.sha;
                    repo.files = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
                    repo.client = Some(client);
                    return Ok(repo);
                }
                Err(error @ HubError::Unreachable { .. }) => Some(error),
                Err(error) => return Err(error),
            }
        };
        match (repo.cache.known_commit(revision), unreachable) {
            (Some(commit), _) => {
                repo.files = repo.cache.files(&commit);
                repo.commit = commit;
                Ok(repo)
            }
            (None, Some(error)) => Err(error),
            (None, None) => Err(HubError::NotCached {
                repo_id: repo.repo_id,
                revision: repo.revision,
                cache_dir: config.cache_dir.clone(),
            }),
        }
    }

    /// Names of the files in the repository; without the hub, of those in the cache.
    pub(crate) fn files(&self) -> &[String] {
        &self.files
    }

    /// The folder that [`fetch`](Self::fetch) puts files into.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cache.snapshot(&self.commit)
    }

    /// The error for a repository that has none of the files looked for.
    pub(crate) fn no_file_wanted(&self) -> HubError {
        match self.client {
            Some(_) => {
                HubError::FileNotFound { repo_id: self.repo_id.clone(), file: "of the kind looked for".to_owned() }
            }
            None => HubError::NotCached {
                repo_id: self.repo_id.clone(),
                revision: self.revision.clone(),
                cache_dir: self.config.cache_dir.clone(),
            },
        }
    }

    /// The path of a file, downloaded unless it is there.
    pub(crate) fn fetch(&self, name: &str) -> Result<PathBuf, HubError> {
        if !is_safe_path(name) {
            return Err(HubError::UnsafeName { repo_id: self.repo_id.clone(), file: name.to_owned() });
        }
        let path = self.folder().join(name);
        if path.exists() {
            return Ok(path);
        }
        let Some(client) = &self.client else {
            let (repo_id, file) = (self.repo_id.clone(), name.to_owned());
            return Err(HubError::FileNotCached { repo_id, file, folder: self.folder() });
        };
        let url = format!(
            "{}/{}{}/resolve/{}/{}",
            client.endpoint(),
            self.url_prefix(),
            self.repo_id,
            self.commit,
            percent_encode(name, b"/")
        );
        let info = self.file_info(client, &url, name)?;
        if !self.cache.blob(&info.etag).exists() {
            let _lock = self.cache.lock(&info.etag)?;
            // Another process may have fetched it while this one waited.
            if !self.cache.blob(&info.etag).exists() {
                self.download(client, &url, name, &info)?;
            }
        }
        self.cache.link(&self.commit, name, &info.etag)
    }

    fn ask(&self, client: &Client) -> Result<RevisionInfo, HubError> {
        let kind = match self.kind {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        };
        let revision = percent_encode(&self.revision, b"");
        let url = format!("{}/api/{kind}/{}/revision/{revision}", client.endpoint(), self.repo_id);
        let response = client.send(Method::Get, &url, None, Follow::Everywhere)?;
        let mut response = self.check_status(client, &url, response, None)?;
        let bad = |problem: String| HubError::BadAnswer { url: url.clone(), problem };
        // Lists of large repositories are longer than what the client reads by default.
        let text = response.body_mut().with_config().limit(1 << 28).read_to_string();
        let text = text.map_err(|source| HubError::Unreachable { url: url.clone(), source: Box::new(source) })?;
        let info: RevisionInfo = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if !is_safe_name(&info.sha) {
            return Err(bad(format!("a commit {:?}", info.sha)));
        }
        Ok(info)
    }

    fn file_info(&self, client: &Client, url: &str, name: &str) -> Result<FileInfo, HubError> {
        let response = client.send(Method::Head, url, None, Follow::WithinHub)?;
        let response = match response.status().is_redirection() {
            // To the store where large files are; what counts is in the hub's own answer.
            true => response,
            false => self.check_status(client, url, response, Some(name))?,
        };
        let headers = response.headers();
        let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag")).map(bare_etag);
        let Some(etag) = etag.filter(|etag| is_safe_name(etag)) else {
            return Err(HubError::BadAnswer { url: url.to_owned(), problem: "no usable ETag".to_owned() });
        };
        let size = match response.status().is_redirection() {
            true => header(headers, "x-linked-size"),
            false => header(headers, "x-linked-size").or_else(|| header(headers, "content-length")),
        };
        Ok(FileInfo { etag: etag.to_owned(), size: size.and_then(|size| size.parse().ok()) })
    }

    /// Downloads into a file beside the blob, from where an earlier attempt ended, and checks what
    /// came.
    fn download(&self, client: &Client, url: &str, name: &str, info: &FileInfo) -> Result<(), HubError> {
        let blob = self.cache.blob(&info.etag);
        let partial = self.cache.blob(&format!("{}.incomplete", info.etag));
        create_parent(&partial)?;
        let mut attempt = 0;
        loop {
            let mut done = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
            if info.size.is_some_and(|size| done > size) {
                fs::remove_file(&partial).map_err(|source| cache_error(&partial, source))?;
                done = 0;
            }
            if info.size == Some(done) && done > 0 {
                break;
            }
            let before = done;
            match self.transfer(client, url, name, info, &partial, done)? {
                Transfer::Complete => break,
                Transfer::Broken { bytes_done, source } => {
                    // Only attempts that bring nothing count, so that a slow line gets there in the
                    // end.
                    attempt = if bytes_done > before { 0 } else { attempt + 1 };
                    if attempt > client.num_retries() {
                        let (repo_id, file) = (self.repo_id.clone(), name.to_owned());
                        return Err(HubError::BrokenTransfer { repo_id, file, bytes_done, source });
                    }
                    client.wait(attempt, None);
                }
            }
        }
        self.check_content(name, info, &partial)?;
        fs::rename(&partial, &blob).map_err(|source| cache_error(&blob, source))
    }

    fn transfer(
        &self,
        client: &Client,
        url: &str,
        name: &str,
        info: &FileInfo,
        partial: &Path,
        done: u64,
    ) -> Result<Transfer, HubError> {
        let response = client.send(Method::Get, url, (done > 0).then_some(done), Follow::Everywhere)?;
        let response = self.check_status(client, url, response, Some(name))?;
        // A server that does not know ranges sends the whole file with status 200.
        let is_continued = response.status() == 206
            && header(response.headers(), "content-range")
                .is_none_or(|range| range.trim_start_matches("bytes ").starts_with(&format!("{done}-")));
        let mut bytes_done = if is_continued { done } else { 0 };
        let mut options = File::options();
        let file = match is_continued {
            true => options.append(true),
            false => options.create(true).write(true).truncate(true),
        };
        let mut file = file.open(partial).map_err(|source| cache_error(partial, source))?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        let mut reported = Instant::now();
        loop {
            let length = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Ok(Transfer::Broken { bytes_done, source }),
            };
            file.write_all(&buffer[..length]).map_err(|source| cache_error(partial, source))?;
            bytes_done += length as u64;
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                self.report(name, bytes_done, info.size);
            }
        }
        file.sync_all().map_err(|source| cache_error(partial, source))?;
        self.report(name, bytes_done, info.size);
        match info.size {
            Some(size) if bytes_done < size => {
                Ok(Transfer::Broken { bytes_done, source: io::ErrorKind::UnexpectedEof.into() })
            }
            _ => Ok(Transfer::Complete),
        }
    }

    fn check_content(&self, name: &str, info: &FileInfo, partial: &Path) -> Result<(), HubError> {
        let found = fs::metadata(partial).map_err(|source| cache_error(partial, source))?.len();
        let (repo_id, file) = (self.repo_id.clone(), name.to_owned());
        let problem = match info.size {
            Some(expected) if expected != found => HubError::WrongSize { repo_id, file, expected, found },
            // Large files have their SHA-256 as tag, small ones a Git hash.
            _ if info.etag.len() == 64 && sha256(partial)? != info.etag.to_ascii_lowercase() => {
                HubError::Damaged { repo_id, file, expected: info.etag.clone() }
            }
            _ => return Ok(()),
        };
        fs::remove_file(partial).map_err(|source| cache_error(partial, source))?;
        Err(problem)
    }

    fn report(&self, file: &str, bytes_done: u64, bytes_total: Option<u64>) {
        if let Some(hook) = &self.config.on_progress {
            hook(&DownloadProgress { repo_id: &self.repo_id, file, bytes_done, bytes_total });
        }
    }

    /// Turns a status that is no success into what it means. `file` is what was asked for, if not
    /// the list.
    fn check_status(
        &self,
        client: &Client,
        url: &str,
        mut response: Response<Body>,
        file: Option<&str>,
    ) -> Result<Response<Body>, HubError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let repo_id = self.repo_id.clone();
        let code = header(response.headers(), "x-error-code").unwrap_or_default().to_owned();
        Err(match (status.as_u16(), code.as_str()) {
            (401 | 403, "GatedRepo") => {
                let page = format!("{}/{}{}", client.endpoint(), self.url_prefix(), self.repo_id);
                HubError::Gated { repo_id, url: page }
            }
            (401, _) if !client.has_token() => HubError::TokenMissing { repo_id },
            (status @ (401 | 403), _) => HubError::TokenRefused { repo_id, status },
            (404, "RevisionNotFound") => HubError::RevisionNotFound { repo_id, revision: self.revision.clone() },
            (404, "EntryNotFound") => {
                HubError::FileNotFound { repo_id, file: file.unwrap_or("of that name").to_owned() }
            }
            (404, code) => match file {
                Some(file) if code != "RepoNotFound" => HubError::FileNotFound { repo_id, file: file.to_owned() },
                _ => HubError::RepoNotFound { repo_id, endpoint: client.endpoint().to_owned() },
            },
            (status, _) => {
                let message = header(response.headers(), "x-error-message").map(str::to_owned);
                let message = message.or_else(|| response.body_mut().read_to_string().ok()).unwrap_or_default();
                let message = message.lines().next().unwrap_or_default().chars().take(MAX_QUOTED).collect();
                HubError::Status { url: url.to_owned(), status, message }
            }
        })
    }

    fn url_prefix(&self) -> &'static str {
        match self.kind {
            RepoKind::Model => "",
            RepoKind::Dataset => "datasets/",
        }
    }
}

/// How a transfer ended.
enum Transfer {
    Complete,
    Broken { bytes_done: u64, source: io::Error },
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn bare_etag(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

fn sha256(path: &Path) -> Result<String, HubError> {
    let mut file = File::open(path).map_err(|source| cache_error(path, source))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).map_err(|source| cache_error(path, source))?;
        if length == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..length]);
    }
}
