//! Files of hub repositories, through the cache that Python's `huggingface_hub` uses.
//!
//! [`Hub::open`] asks the hub for the commit and the file names of a revision. [`HubRepo::fetch`]
//! downloads one of the files unless the cache has it. [`Hub::snapshot`] does both for all wanted
//! files and returns the folder that holds them:
//!
//! ```text
//!   models--owner--name/
//!     refs/main                     the last known commit of `main`
//!     blobs/<etag>                  contents; `<etag>.incomplete` while a content arrives
//!     snapshots/<commit>/<file>     links into blobs
//! ```
//!
//! Crate `hf-hub` speaks with the hub. What it lacks is here: a broken transfer continues where it
//! ended, size and SHA-256 of a file are checked, the cache stands in for a hub that cannot be
//! reached, and errors say what to do.
//!
//! ```no_run
//! use sft_trainer::hub::{Hub, RepoKind};
//!
//! let hub = Hub::from_env()?;
//! let model = hub.model_dir("HuggingFaceTB/SmolLM2-135M", "main")?;
//! let rows = hub.open(RepoKind::Dataset, "owner/name", "main")?.fetch("train.jsonl")?;
//! # Ok::<(), sft_trainer::hub::HubError>(())
//! ```

mod cache;
mod connection;
mod datasets;
mod error;
mod health;
mod progress;
mod push;
mod repo;
mod settings;
mod target;

use connection::Connection;
use indicatif::MultiProgress;
use settings::Settings;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use error::{CacheOnly, HubError, HubFile};
pub use health::{HubHealth, TokenState};
pub use push::Push;
pub use repo::HubRepo;

/// The kinds of hub repository that are read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// A model repository.
    Model,
    /// A dataset repository.
    Dataset,
}

impl RepoKind {
    /// The kind as it is part of addresses and folder names.
    fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What stands before the repository in the address of a file.
    fn prefix(self) -> &'static [&'static str] {
        match self {
            Self::Model => &[],
            Self::Dataset => &["datasets"],
        }
    }
}

/// The hub, its cache, and how to ask for files. Threads can share it.
pub struct Hub {
    settings: Settings,
    bars: Option<MultiProgress>,
    /// Made for the first request.
    connection: OnceLock<Connection>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hub").field(&self.settings).finish()
    }
}

impl Hub {
    /// Reads the environment as `huggingface_hub` does: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`, `HF_HUB_DISABLE_XET`
    /// and their older names, and for certificates `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` or
    /// `CURL_CA_BUNDLE`. The client itself reads the variables for proxies (`HTTPS_PROXY`,
    /// `HTTP_PROXY`, `NO_PROXY`).
    ///
    /// The Xet client, which large files come through, reads variables of its own. It reports the
    /// speed of transfers to the hub unless `HF_HUB_DISABLE_TELEMETRY` is set.
    ///
    /// No client is made and no request is sent before the first file is asked for.
    ///
    /// # Errors
    /// If `HF_ENDPOINT` is not an `http` or `https` address.
    pub fn from_env() -> Result<Self, HubError> {
        // Without HOME, the system knows the user's home folder, as Python does.
        let home = || std::env::home_dir().map(|home| home.to_string_lossy().into_owned());
        Self::from_variables(&|name| {
            std::env::var(name)
                .ok()
                .filter(|value| name != "HOME" || !value.is_empty())
                .or_else(|| if name == "HOME" { home() } else { None })
        })
    }

    /// Like [`from_env`](Self::from_env), with the variables from elsewhere. Only the proxies still
    /// come from the environment.
    ///
    /// # Errors
    /// As for [`from_env`](Self::from_env).
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        Ok(Self { settings: Settings::from_variables(variable)?, bars: None, connection: OnceLock::new() })
    }

    /// Shows a bar for each file that is transferred, with its size and the time left. Without
    /// this, or if the bars are hidden because there is no terminal, the start of a transfer and
    /// then its state every 30 seconds are `tracing` events of level `INFO`.
    pub fn with_progress(self, bars: MultiProgress) -> Self {
        Self { bars: Some(bars), ..self }
    }

    /// Asks the hub for the commit and the files of a revision: a branch, a tag or a commit.
    ///
    /// Offline, the last known commit comes from the cache. The same happens with a warning if the
    /// hub cannot be reached.
    ///
    /// # Errors
    /// If the repository or the revision does not exist, access is denied, or neither the hub can
    /// be reached nor the cache has the revision.
    pub fn open(&self, kind: RepoKind, repo_id: &str, revision: &str) -> Result<HubRepo<'_>, HubError> {
        HubRepo::open(self, kind, repo_id, revision)
    }

    /// Downloads, or finds in the cache, the files of a repository whose names `wanted` accepts,
    /// and returns the folder that holds them. `revision` is a branch, a tag or a commit.
    ///
    /// # Errors
    /// As for [`open`](Self::open) and [`HubRepo::fetch`], and if no file is wanted.
    pub fn snapshot(
        &self,
        kind: RepoKind,
        repo_id: &str,
        revision: &str,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<PathBuf, HubError> {
        self.fetch_all(&self.open(kind, repo_id, revision)?, wanted)
    }

    fn fetch_all(&self, repo: &HubRepo<'_>, wanted: &dyn Fn(&str) -> bool) -> Result<PathBuf, HubError> {
        let files: Vec<&String> = repo.files().iter().filter(|name| wanted(name)).collect();
        if files.is_empty() {
            return Err(repo.no_file_wanted());
        }
        for name in files {
            repo.fetch(name)?;
        }
        Ok(repo.folder())
    }

    /// The folder of a model: `name` itself if it is a folder, otherwise the snapshot of the hub
    /// repository of that name with configuration, tokenizer, chat template and weights as
    /// safetensors.
    ///
    /// # Errors
    /// If `name` is neither a folder nor the name of a repository, the hub is not asked and the
    /// cache lacks some of the files with weights, and as for [`snapshot`](Self::snapshot).
    pub fn model_dir(&self, name: &str, revision: &str) -> Result<PathBuf, HubError> {
        let path = Path::new(name);
        if path.is_dir() {
            return Ok(path.to_owned());
        }
        if path.exists() {
            return Err(HubError::ModelIsFile { name: name.to_owned() });
        }
        if !is_repo_id(name) {
            return Err(HubError::ModelNotFound { name: name.to_owned() });
        }
        let repo = self.open(RepoKind::Model, name, revision)?;
        repo.check_weights()?;
        self.fetch_all(&repo, &is_model_file)
    }

    /// The folder of a model without its weights: as [`model_dir`](Self::model_dir), but only small
    /// files are fetched, so that they can be judged before the large ones come. The folder of a
    /// repository is named by its commit.
    ///
    /// # Errors
    /// As [`model_dir`](Self::model_dir).
    pub fn model_config_dir(&self, name: &str, revision: &str) -> Result<PathBuf, HubError> {
        if Path::new(name).exists() || !is_repo_id(name) {
            return self.model_dir(name, revision);
        }
        let repo = self.open(RepoKind::Model, name, revision)?;
        repo.check_weights()?;
        self.fetch_all(&repo, &|file| is_model_file(file) && !file.ends_with(".safetensors"))
    }

    fn connection(&self) -> Result<&Connection, HubError> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection);
        }
        let connection = Connection::new(&self.settings)?;
        Ok(self.connection.get_or_init(|| connection))
    }
}

/// Whether a name can be that of a repository: `name` or `owner/name`, of letters, digits, `-`, `_`
/// and `.`, where a part neither starts nor ends with `-` or `.` and has neither `--` nor `..` in
/// it.
pub fn is_repo_id(name: &str) -> bool {
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

/// Configuration, tokenizer and weights as safetensors; not the same weights in other formats.
fn is_model_file(file: &str) -> bool {
    !file.contains('/')
        && (file.ends_with(".json")
            || file.ends_with(".safetensors")
            || file.ends_with(".jinja")
            || file == "merges.txt")
}

#[cfg(test)]
mod tests;
