//! One repository at one commit.

use super::cache::{RepoCache, cache_error, create_parent, is_safe_name, is_safe_path};
use super::connection::{Connection, FileInfo, delay};
use super::error::{CacheOnly, HubError, innermost};
use super::progress::FileProgress;
use super::target::Target;
use super::{Hub, RepoKind, is_repo_id};
use hf_hub::HFError;
use hf_hub::progress::Progress;
use sha2::{Digest, Sha256};
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A repository at a commit: the names of its files, and how to get them.
///
/// `Display` writes `owner/name@` and the first eight digits of the commit.
pub struct HubRepo<'h> {
    hub: &'h Hub,
    kind: RepoKind,
    repo_id: String,
    revision: String,
    commit: String,
    files: Vec<String>,
    cache: RepoCache,
    /// Where files that are not in the cache come from.
    source: Source<'h>,
}

enum Source<'h> {
    Hub(&'h Connection),
    Nowhere(CacheOnly),
}

impl fmt::Display for HubRepo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo_id, self.commit.get(..8).unwrap_or(&self.commit))
    }
}

impl fmt::Debug for HubRepo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubRepo")
            .field("kind", &self.kind)
            .field("repo_id", &self.repo_id)
            .field("revision", &self.revision)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

impl<'h> HubRepo<'h> {
    pub(super) fn open(hub: &'h Hub, kind: RepoKind, repo_id: &str, revision: &str) -> Result<Self, HubError> {
        if !is_repo_id(repo_id) {
            return Err(HubError::InvalidRepoId { repo_id: repo_id.to_owned() });
        }
        if hub.settings.cache_dir.as_os_str().is_empty() {
            return Err(HubError::NoCacheFolder);
        }
        let cache = RepoCache::new(&hub.settings.cache_dir, kind, repo_id);
        let mut repo = Self {
            hub,
            kind,
            repo_id: repo_id.to_owned(),
            revision: revision.to_owned(),
            commit: String::new(),
            files: Vec::new(),
            cache,
            source: Source::Nowhere(CacheOnly::Offline),
        };
        if hub.settings.is_offline {
            let missing = repo.not_cached(CacheOnly::Offline);
            return repo.use_cache().ok_or(missing);
        }
        let connection = hub.connection()?;
        match connection.revision_info(repo.target()) {
            Ok(info) if !is_safe_name(&info.commit) => {
                let url = hub.settings.endpoint().to_owned();
                Err(HubError::BadAnswer { url, problem: format!("a commit {:?}", info.commit) })
            }
            Ok(info) => {
                repo.cache.remember_commit(revision, &info.commit)?;
                Ok(Self { commit: info.commit, files: info.files, source: Source::Hub(connection), ..repo })
            }
            Err(error @ HubError::Unreachable { .. }) => {
                repo.source = Source::Nowhere(CacheOnly::Unreachable);
                let Some(repo) = repo.use_cache() else { return Err(error) };
                tracing::warn!(
                    repo_id,
                    revision,
                    commit = repo.commit,
                    "{error}: {}. Using commit {} of {repo_id} at {revision} from the cache, which may be outdated",
                    error.source().map(innermost).unwrap_or_default(),
                    repo.commit
                );
                Ok(repo)
            }
            Err(error) => Err(error),
        }
    }

    /// The last known commit, with the files that the cache has of it.
    fn use_cache(mut self) -> Option<Self> {
        self.commit = self.cache.known_commit(&self.revision)?;
        self.files = self.cache.files(&self.commit);
        Some(self)
    }

    /// Names of the files in the repository. Without the hub: of those in the cache.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The commit that the revision stands for, 40 hexadecimal digits.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The folder in the cache that [`fetch`](Self::fetch) puts files into.
    pub fn folder(&self) -> PathBuf {
        self.cache.snapshot(&self.commit)
    }

    /// Why the files are those of the cache. `None` if they are those of the hub.
    pub(super) fn cache_only(&self) -> Option<CacheOnly> {
        match self.source {
            Source::Hub(_) => None,
            Source::Nowhere(reason) => Some(reason),
        }
    }

    /// Checks that all files with weights are in the cache, where the hub cannot bring the others.
    /// The index names them, and so do names such as `model-00001-of-00003.safetensors`.
    pub(super) fn check_weights(&self) -> Result<(), HubError> {
        let Some(reason) = self.cache_only() else { return Ok(()) };
        let expected = self.cache.expected_weights(&self.commit, &self.files);
        let total = expected.len();
        let missing: Vec<String> = expected.into_iter().filter(|name| !self.folder().join(name).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (repo_id, revision) = (self.repo_id.clone(), self.revision.clone());
        Err(HubError::MissingShards { repo_id, revision, missing, total, reason })
    }

    /// The error for a repository that has none of the wanted files.
    pub(super) fn no_file_wanted(&self) -> HubError {
        match self.source {
            Source::Hub(_) => HubError::FileNotFound { file: self.target().file("of the kind looked for") },
            Source::Nowhere(reason) => self.not_cached(reason),
        }
    }

    fn not_cached(&self, reason: CacheOnly) -> HubError {
        HubError::NotCached {
            repo_id: self.repo_id.clone(),
            revision: self.revision.clone(),
            cache_dir: self.hub.settings.cache_dir.clone(),
            reason,
        }
    }

    fn target(&self) -> Target<'_> {
        Target { settings: &self.hub.settings, kind: self.kind, repo_id: &self.repo_id, revision: &self.revision }
    }

    /// The path of a file in the cache. The file is downloaded if it is not there yet.
    ///
    /// # Errors
    /// If the name leads out of the cache, the hub does not have the file or refuses it, the
    /// transfer fails repeatedly, size or SHA-256 are not what the hub announced, or the cache
    /// cannot be written. Offline: if the file is not in the cache.
    pub fn fetch(&self, name: &str) -> Result<PathBuf, HubError> {
        if !is_safe_path(name) {
            return Err(HubError::UnsafeName { file: self.target().file(name) });
        }
        let path = self.folder().join(name);
        if path.exists() {
            return Ok(path);
        }
        let connection = match self.source {
            Source::Hub(connection) => connection,
            Source::Nowhere(reason) => {
                let (file, folder) = (self.target().file(name), self.folder());
                return Err(HubError::FileNotCached { file, folder, reason });
            }
        };
        let info = connection.file_info(self.target(), &self.commit, name)?;
        if !is_safe_name(&info.etag) {
            let problem = format!("{name} has the tag {:?}", info.etag);
            return Err(HubError::BadAnswer { url: self.hub.settings.endpoint().to_owned(), problem });
        }
        // The Xet protocol starts over, plain HTTP continues.
        if info.is_xet && self.hub.settings.uses_xet && !self.partial(&info).exists() {
            match self.fetch_xet(connection, name, &info) {
                Ok(()) => return self.cache.link(&self.commit, name, &info.etag),
                Err(error) => tracing::warn!(
                    repo_id = self.repo_id,
                    file = name,
                    "{}: {name} cannot be fetched by the Xet protocol ({error}). Fetching it over plain HTTP instead",
                    self.repo_id
                ),
            }
        }
        if !self.cache.blob(&info.etag).exists() {
            let _lock = self.cache.lock(&info.etag)?;
            // Another process may have fetched it during the wait for the lock.
            if !self.cache.blob(&info.etag).exists() {
                self.download(connection, name, &info)?;
            }
        }
        self.cache.link(&self.commit, name, &info.etag)
    }

    /// Fetches a blob by the Xet protocol. `hf-hub` takes the lock itself, and gives up if another
    /// process holds it for more than ten seconds. The protocol writes in order, so that plain HTTP
    /// can continue what it leaves.
    fn fetch_xet(&self, connection: &Connection, name: &str, info: &FileInfo) -> Result<(), Box<dyn Error>> {
        let blob = self.cache.blob(&info.etag);
        loop {
            drop(self.cache.lock(&info.etag)?);
            if blob.exists() {
                return Ok(());
            }
            let progress = Progress::new(self.progress(name, 0, info.size));
            match connection.fetch_xet(self.target(), &self.commit, name, progress) {
                Ok(path) => {
                    let checked = self.check_content(name, info, &blob);
                    if checked.is_err() {
                        fs::remove_file(&path)?;
                    }
                    return Ok(checked?);
                }
                Err(HFError::CacheLockTimeout { .. }) => {}
                Err(error) => return Err(innermost(&error).into()),
            }
        }
    }

    /// Downloads into a file beside the blob, from where an earlier attempt ended, and checks the
    /// content.
    fn download(&self, connection: &Connection, name: &str, info: &FileInfo) -> Result<(), HubError> {
        let settings = &self.hub.settings;
        let partial = self.partial(info);
        create_parent(&partial)?;
        let num_bytes = || fs::metadata(&partial).map_or(0, |metadata| metadata.len());
        let leftover = num_bytes();
        let progress = self.progress(name, leftover, info.size);
        let mut attempt = 0;
        loop {
            let mut done = num_bytes();
            // Without a size there is no telling whether the file is complete.
            if info.size.is_none_or(|size| done > size) && done > 0 {
                fs::remove_file(&partial).map_err(|source| cache_error(&partial, source))?;
                done = 0;
            }
            if info.size == Some(done) && done > 0 {
                break;
            }
            let Err(source) = self.transfer(connection, name, info, &progress)? else { break };
            // Only attempts that bring nothing count, so that a slow line succeeds in the end.
            let bytes_done = num_bytes();
            attempt = if bytes_done > done { 0 } else { attempt + 1 };
            if attempt > settings.num_retries {
                return Err(HubError::BrokenTransfer { file: self.target().file(name), bytes_done, source });
            }
            std::thread::sleep(delay(settings, attempt));
        }
        match self.check_content(name, info, &partial) {
            // What an earlier run left may be damaged. The check has removed it.
            Err(HubError::WrongSize { .. } | HubError::Damaged { .. }) if leftover > 0 => {
                self.download(connection, name, info)
            }
            Err(error) => Err(error),
            Ok(()) => {
                let blob = self.cache.blob(&info.etag);
                fs::rename(&partial, &blob).map_err(|source| cache_error(&blob, source))
            }
        }
    }

    /// Adds to the partial file until the content ends. The inner result is the reason if the
    /// transfer broke off.
    fn transfer(
        &self,
        connection: &Connection,
        name: &str,
        info: &FileInfo,
        progress: &FileProgress,
    ) -> Result<Result<(), Box<dyn Error + Send + Sync>>, HubError> {
        let partial = self.partial(info);
        let target = self.target();
        let mut done = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
        let rest = info.size.filter(|size| done > 0 && done < *size);
        let (announced, mut content) = connection.content(target, &self.commit, name, rest.map(|size| done..size))?;
        // A server that does not know ranges announces, and sends, the whole file.
        if rest.is_some_and(|size| announced != Some(size - done)) {
            (_, content) = connection.content(target, &self.commit, name, None)?;
            done = 0;
        }
        let file = File::options().create(true).append(true).open(&partial);
        let mut file = file.map_err(|source| cache_error(&partial, source))?;
        file.set_len(done).map_err(|source| cache_error(&partial, source))?;
        let outcome = connection.read(&mut content, |bytes| {
            file.write_all(bytes).map_err(|source| cache_error(&partial, source))?;
            done += bytes.len() as u64;
            progress.set(done);
            Ok(())
        })?;
        if let Err(error) = outcome {
            return Ok(Err(error.into()));
        }
        file.sync_all().map_err(|source| cache_error(&partial, source))?;
        match info.size {
            Some(size) if done < size => Ok(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            _ => Ok(Ok(())),
        }
    }

    /// Compares a downloaded file with what the hub announced, and removes it if it differs.
    fn check_content(&self, name: &str, info: &FileInfo, path: &Path) -> Result<(), HubError> {
        let found = fs::metadata(path).map_err(|source| cache_error(path, source))?.len();
        let file = self.target().file(name);
        let problem = match info.size {
            Some(expected) if expected != found => HubError::WrongSize { file, expected, found },
            // The tag of a large file is its SHA-256, that of a small one a Git hash.
            _ if info.etag.len() == 64 && sha256(path)? != info.etag.to_ascii_lowercase() => {
                HubError::Damaged { file, expected: info.etag.clone() }
            }
            _ => return Ok(()),
        };
        fs::remove_file(path).map_err(|source| cache_error(path, source))?;
        Err(problem)
    }

    /// Where a content is kept while it arrives.
    fn partial(&self, info: &FileInfo) -> PathBuf {
        self.cache.blob(&format!("{}.incomplete", info.etag))
    }

    fn progress(&self, name: &str, bytes_done: u64, bytes_total: Option<u64>) -> FileProgress {
        let label = format!("{}: {name}", self.repo_id);
        FileProgress::start(self.hub.bars.as_ref(), label, bytes_done, bytes_total)
    }
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
