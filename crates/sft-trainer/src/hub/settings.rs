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
    /// The cache folder, shared with Python's `huggingface_hub`. Empty if neither a variable nor a
    /// home folder says where it is.
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
        let home_folder = first(&["HOME", "USERPROFILE"]).map(PathBuf::from);
        // Without a home folder, nothing can be said about a path that starts there.
        let expand = |path: String| match path.strip_prefix("~/") {
            Some(rest) => home_folder.as_ref().map(|home| home.join(rest)),
            None => Some(PathBuf::from(path)),
        };
        let folder = |names: &[&str], otherwise: Option<PathBuf>| first(names).map_or(otherwise, expand);
        let user_cache = folder(&["XDG_CACHE_HOME"], home_folder.as_ref().map(|home| home.join(".cache")));
        let hf_home = folder(&["HF_HOME"], user_cache.map(|cache| cache.join("huggingface")));
        let in_hf_home = |name: &str| hf_home.as_ref().map(|folder| folder.join(name));
        let cache_dir = folder(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"], in_hf_home("hub"));
        let token_path = folder(&["HF_TOKEN_PATH"], in_hf_home("token"));
        let token = if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(|| read_token(&token_path?))
        };
        let ca_bundle = folder(&["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"], None);
        Ok(Self {
            endpoint: parse_endpoint(get("HF_ENDPOINT").as_deref().unwrap_or(DEFAULT_ENDPOINT))?,
            cache_dir: cache_dir.unwrap_or_default(),
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
