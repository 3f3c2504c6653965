//! Where the hub is and where its files are kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where the hub is, where its files are kept, and how to ask for them.
#[derive(Clone)]
pub struct HubConfig {
    /// Address of the hub, without a trailing slash.
    pub endpoint: String,
    /// The cache folder, shared with Python's `huggingface_hub`.
    pub cache_dir: PathBuf,
    /// Access token for private and gated repositories.
    pub token: Option<String>,
    /// Use the cache alone, send no request.
    pub offline: bool,
    /// File with certificate authorities (PEM) in place of the built-in ones, for networks that
    /// inspect TLS.
    pub ca_bundle: Option<PathBuf>,
    /// How often a request that failed for a passing reason is repeated.
    pub num_retries: u32,
    /// Wait before the first repetition; doubled each time.
    pub retry_delay: Duration,
    /// Called as bytes arrive.
    pub on_progress: Option<ProgressHook>,
}

/// Called with the state of a running download, a few times a second at most, and once at its end.
pub type ProgressHook = Arc<dyn Fn(&DownloadProgress<'_>) + Send + Sync>;

/// State of a running download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadProgress<'a> {
    /// The repository's name.
    pub repo_id: &'a str,
    /// The file's name in its repository.
    pub file: &'a str,
    /// Bytes there already, those of an earlier attempt included.
    pub bytes_done: u64,
    /// The size of the file, if the hub says.
    pub bytes_total: Option<u64>,
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "(set)"))
            .field("offline", &self.offline)
            .field("ca_bundle", &self.ca_bundle)
            .field("num_retries", &self.num_retries)
            .field("retry_delay", &self.retry_delay)
            .finish_non_exhaustive()
    }
}

impl HubConfig {
    /// Reads the environment as `huggingface_hub` does: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE` and their older names, and for certificates
    /// `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`. Proxies (`HTTPS_PROXY` …) are
    /// honoured by the client itself.
    pub fn from_env() -> Self {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), with the variables from elsewhere.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let first = |names: &[&str]| names.iter().find_map(|name| get(name));
        let is_on = |name: &str| {
            get(name).is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
        };
        let home_folder = first(&["HOME", "USERPROFILE"]).map_or_else(|| PathBuf::from("."), PathBuf::from);
        let expand = |path: String| match path.strip_prefix("~/") {
            Some(rest) => home_folder.join(rest),
            None => PathBuf::from(path),
        };
        let hf_home = get("HF_HOME").map(expand).unwrap_or_else(|| {
            let cache = get("XDG_CACHE_HOME").map(expand).unwrap_or_else(|| home_folder.join(".cache"));
            cache.join("huggingface")
        });
        let cache_dir = first(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).map(expand);
        let token_path = get("HF_TOKEN_PATH").map(expand).unwrap_or_else(|| hf_home.join("token"));
        let token = if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(|| read_token(&token_path))
        };
        Self {
            endpoint: get("HF_ENDPOINT").map_or_else(
                || "https://huggingface.co".to_owned(),
                |endpoint| endpoint.trim_end_matches('/').to_owned(),
            ),
            cache_dir: cache_dir.unwrap_or_else(|| hf_home.join("hub")),
            token,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"].into_iter().any(is_on),
            ca_bundle: first(&["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]).map(expand),
            num_retries: 5,
            retry_delay: Duration::from_secs(1),
            on_progress: None,
        }
    }
}

fn read_token(path: &Path) -> Option<String> {
    let token = std::fs::read_to_string(path).ok()?;
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}
