//! The cache folder of one repository, in the layout of `huggingface_hub`.

use super::RepoKind;
use super::error::HubError;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The file that names the shards of a model.
const INDEX: &str = "model.safetensors.index.json";
/// More than the index of any model.
const MAX_INDEX_BYTES: u64 = 256 << 20;

/// The folders of one repository in the cache.
#[derive(Debug)]
pub(super) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

/// Held while a file is downloaded. It keeps out other processes, including Python's.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl RepoCache {
    pub(super) fn new(cache_dir: &Path, kind: RepoKind, repo_id: &str) -> Self {
        let name = format!("{}--{}", kind.plural(), repo_id.replace('/', "--"));
        Self { root: cache_dir.join(&name), locks: cache_dir.join(".locks").join(name) }
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Where the content with this tag is kept.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// The last known commit of a revision, if its snapshot is in the cache.
    pub(super) fn known_commit(&self, revision: &str) -> Option<String> {
        let commit = match fs::read_to_string(self.root.join("refs").join(revision)) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => revision.to_owned(),
        };
        (is_safe_name(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    pub(super) fn remember_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit || !is_safe_path(revision) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        create_parent(&path)?;
        appear(&path, |sibling| fs::write(sibling, commit))
    }

    pub(super) fn lock(&self, etag: &str) -> Result<Lock, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file =
            File::options().create(true).append(true).open(&path).map_err(|source| cache_error(&path, source))?;
        match file.lock() {
            // Some network file systems have no locks. A single process does not need one.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(cache_error(&path, error)),
            _ => Ok(Lock { _file: file }),
        }
    }

    /// Links a file name in a snapshot to its blob.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot(commit).join(name);
        if path.exists() {
            return Ok(path);
        }
        create_parent(&path)?;
        let up = "../".repeat(2 + name.matches('/').count());
        let target = format!("{up}blobs/{etag}");
        appear(&path, |sibling| {
            // Windows and some network disks have no links: copy.
            symlink(Path::new(&target), sibling).or_else(|_| fs::copy(self.blob(etag), sibling).map(|_| ()))
        })?;
        Ok(path)
    }

    /// The files that hold the weights of a model in shards, as far as the `files` of its snapshot
    /// tell. They need not be there.
    pub(super) fn expected_weights(&self, commit: &str, files: &[String]) -> BTreeSet<String> {
        let index = File::open(self.snapshot(commit).join(INDEX)).and_then(|file| {
            let mut text = String::new();
            file.take(MAX_INDEX_BYTES).read_to_string(&mut text).map(|_| text)
        });
        let index: Option<Value> = index.ok().and_then(|text| serde_json::from_str(&text).ok());
        let files_of = |index: &Value| {
            let map = index.get("weight_map")?.as_object()?;
            Some(map.values().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        // The loader says what is wrong with an index that cannot be read.
        let mut expected: BTreeSet<String> = index.as_ref().and_then(files_of).unwrap_or_default();
        for (before, total) in files.iter().filter_map(|name| shards_of(name)) {
            expected.extend((1..=total).map(|number| format!("{before}-{number:05}-of-{total:05}.safetensors")));
        }
        // Names with folders in them are those of other formats.
        expected.retain(|name| is_safe_name(name));
        expected
    }

    /// Sorted names of the files in a snapshot.
    pub(super) fn files(&self, commit: &str) -> Vec<String> {
        let mut names = Vec::new();
        list(&self.snapshot(commit), "", &mut names);
        names.sort_unstable();
        names
    }
}

/// What comes before the number in the name of a shard of weights, and how many shards there are.
fn shards_of(name: &str) -> Option<(&str, u32)> {
    let (before, total) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (before, number) = before.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(number) || !is_number(total) {
        return None;
    }
    Some((before, total.parse().ok()?))
}

/// Writes a sibling file and renames it, so that a reader sees the old content or the new content,
/// never a part of it.
fn appear(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), HubError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut sibling = path.to_owned().into_os_string();
    sibling.push(format!(".{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let sibling = PathBuf::from(sibling);
    make(&sibling).and_then(|()| fs::rename(&sibling, path)).map_err(|source| {
        // Best effort: the sibling may not exist.
        let _ = fs::remove_file(&sibling);
        cache_error(path, source)
    })
}

/// Whether a relative path stays inside the folder that it is joined to.
pub(super) fn is_safe_path(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', '\0'])
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

pub(super) fn is_safe_name(name: &str) -> bool {
    is_safe_path(name) && !name.contains('/')
}

pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|source| cache_error(parent, source))
}

pub(super) fn cache_error(path: &Path, source: io::Error) -> HubError {
    HubError::Cache { path: path.to_owned(), source }
}

/// Collects the files. A link without its blob counts: to leave it out would hide that the content
/// is missing.
fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            list(&path, &format!("{name}/"), names);
        } else {
            names.push(name);
        }
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
