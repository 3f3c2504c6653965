//! What the environment says about the hub.

use super::error::HubError;
use reqwest::Url;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is, where its files are kept, and how to ask for them.
pub(super) struct Settings {
    /// Address of the hub, without a trailing slash.
    pub(super) endpoint: Url,
    /// The cache folder, shared with Python's `huggingface_hub`.
    pub(super) cache_dir: PathBuf,
    pub(super) token: Option<String>,
    /// Use only the cache, send no request.
    pub(super) is_offline: bool,
    /// File with the certificate authorities (PEM) to trust in place of the system's, for networks
    /// that inspect TLS.
    pub(super) ca_bundle: Option<PathBuf>,
    /// Whether files in Xet storage are fetched by its own protocol.
    pub(super) uses_xet: bool,
    /// How often a request is repeated after a temporary failure.
    pub(super) num_retries: u32,
    /// Wait before the first repetition. It doubles each time.
    pub(super) retry_delay: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint.as_str())
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "(set)"))
            .field("is_offline", &self.is_offline)
            .field("ca_bundle", &self.ca_bundle)
            .finish_non_exhaustive()
    }
}

impl Settings {
    pub(super) fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, HubError> {
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
        let ca_bundle = first(&["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]).map(expand);
        Ok(Self {
            endpoint: parse_endpoint(get("HF_ENDPOINT").as_deref().unwrap_or(DEFAULT_ENDPOINT))?,
            cache_dir: cache_dir.unwrap_or_else(|| hf_home.join("hub")),
            token,
            is_offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"].into_iter().any(is_on),
            // The Xet client knows the system's certificates and `SSL_CERT_FILE` only.
            uses_xet: !is_on("HF_HUB_DISABLE_XET") && (ca_bundle.is_none() || get("SSL_CERT_FILE").is_some()),
            ca_bundle,
            num_retries: 5,
            retry_delay: Duration::from_secs(1),
        })
    }

    /// The endpoint as it is joined with paths.
    pub(super) fn endpoint(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }
}

fn parse_endpoint(endpoint: &str) -> Result<Url, HubError> {
    match Url::parse(endpoint) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err(HubError::InvalidEndpoint { endpoint: endpoint.to_owned() }),
    }
}

fn read_token(path: &Path) -> Option<String> {
    let token = std::fs::read_to_string(path).ok()?;
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}
