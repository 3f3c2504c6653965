//! Requests to the hub: `hf-hub`'s client, and what an answer means.
//!
//! `hf-hub` sends the requests. One of them is made here: the question for a file's size and
//! checksum. The hub answers it together with a redirect to the store that holds the content, and
//! `hf-hub` loses the answer when it follows the redirect.

use super::RepoKind;
use super::error::HubError;
use super::settings::Settings;
use super::target::{Refusal, Target};
use futures_util::StreamExt;
use hf_hub::progress::Progress;
use hf_hub::repository::download::HFByteStream;
use hf_hub::{HFClient, HFError, split_id};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Url, redirect};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"), "; rust");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the next bytes. The hub needs some time to list a large repository.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;
/// Repetitions after a lost connection. A hub that keeps dropping connections is out of reach.
const MAX_LOST_CONNECTIONS: u32 = 2;
/// Longest wait that the hub can ask for.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Makes `hf-hub` send no token. Without a token it would look for one in the environment, which
/// [`Settings`] has already done; a line break cannot be part of a header, so it leaves it out.
const NO_TOKEN: &str = "\n";

/// The client for one hub. It owns the runtime that its requests run on.
pub(super) struct Connection {
    runtime: Runtime,
    pub(super) hub: HFClient,
    /// For questions about files. It follows no redirect.
    metadata: Client,
}

/// A commit and the names of its files.
pub(super) struct RevisionInfo {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// What the hub says about a file.
#[derive(Debug)]
pub(super) struct FileInfo {
    /// Tag of the content: the SHA-256 of a large file, the Git hash of a small one.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
    pub(super) is_xet: bool,
}

/// Runs `$ask` on the repository of a target. `hf-hub` has a type for each kind.
macro_rules! on_repository {
    ($connection:expr, $target:expr, $repo:ident => $ask:expr) => {{
        let (owner, name) = split_id($target.repo_id);
        match $target.kind {
            RepoKind::Model => {
                let $repo = $connection.hub.model(owner, name);
                $ask
            }
            RepoKind::Dataset => {
                let $repo = $connection.hub.dataset(owner, name);
                $ask
            }
        }
    }};
}

/// A content and how many bytes of it the server announced.
pub(super) type Content = (Option<u64>, HFByteStream);

impl Connection {
    pub(super) fn new(settings: &Settings) -> Result<Self, HubError> {
        let client_error = |source: Box<dyn std::error::Error + Send + Sync>| HubError::Client { source };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| client_error(error.into()))?;
        let redirects = redirect::Policy::custom(|attempt| match attempt.previous().len() {
            0..=MAX_REDIRECTS => attempt.follow(),
            _ => attempt.error(format!("more than {MAX_REDIRECTS} redirects")),
        });
        let certificates = certificates(settings)?;
        let client = |redirects| client_builder(&certificates).redirect(redirects).build();
        let content = client(redirects).map_err(|error| client_error(error.into()))?;
        let metadata = client(redirect::Policy::none()).map_err(|error| client_error(error.into()))?;
        let hub = HFClient::builder()
            .client(content)
            .endpoint(settings.endpoint())
            .cache_dir(&settings.cache_dir)
            .token(settings.token.as_deref().unwrap_or(NO_TOKEN))
            .user_agent(USER_AGENT)
            // `retry` repeats requests: it knows when to give up and how long the hub wants to
            // wait.
            .retry_max_attempts(0)
            .build()
            .map_err(|error| client_error(error.into()))?;
        Ok(Self { runtime, hub, metadata })
    }

    /// Asks the hub whose token it got, once. `None`: the hub answers, and there is no token, or it
    /// does not accept it.
    pub(super) fn user(&self) -> Result<Option<String>, HFError> {
        match self.runtime.block_on(self.hub.whoami().send()) {
            Ok(user) => Ok(Some(user.username)),
            Err(HFError::AuthRequired { .. } | HFError::Forbidden { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The commit and the files of the target's revision.
    pub(super) fn revision_info(&self, target: Target<'_>) -> Result<RevisionInfo, HubError> {
        let url = target.url(&["api", target.kind.plural()], &["revision", target.revision]);
        // The rest of the answer is long and of no use here.
        let expand = ["sha", "siblings"].map(str::to_owned);
        let (commit, files) = self.retry(target, async || {
            let (sha, siblings) = on_repository!(self, target, repo => {
                let info = repo.info().revision(target.revision).expand(expand.to_vec()).send().await;
                info.map(|info| (info.sha, info.siblings))
            })
            .map_err(|error| target.error(error, &url, None))?;
            let missing = |what: &str| HubError::BadAnswer { url: url.to_string(), problem: format!("no {what}") };
            Ok((sha.ok_or_else(|| missing("commit"))?, siblings.ok_or_else(|| missing("list of files"))?))
        })?;
        let files = files.into_iter().map(|file| file.rfilename).collect();
        Ok(RevisionInfo { commit, files })
    }

    /// Size and tag of a file.
    pub(super) fn file_info(&self, target: Target<'_>, commit: &str, file: &str) -> Result<FileInfo, HubError> {
        let url = target.file_url(commit, file);
        self.retry(target, async || {
            let headers = self.head(target, &url, file).await?;
            let text = |name: &str| headers.get(name)?.to_str().ok();
            let etag = text("x-linked-etag").or_else(|| text("etag"));
            let Some(etag) = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned()) else {
                return Err(HubError::BadAnswer { url: url.to_string(), problem: "no ETag".to_owned() });
            };
            let size = text("x-linked-size").or_else(|| text("content-length"));
            let is_xet = headers.contains_key("x-xet-hash");
            Ok(FileInfo { etag, size: size.and_then(|size| size.parse().ok()), is_xet })
        })
    }

    /// Asks about a file, and follows redirects until an answer is about the content. Only the hub
    /// sees the token.
    async fn head(&self, target: Target<'_>, url: &Url, file: &str) -> Result<HeaderMap, HubError> {
        let mut next = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.metadata.head(next.clone());
            if next.origin() == target.settings.endpoint.origin()
                && let Some(token) = &target.settings.token
            {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.send().await.map_err(|error| target.request_error(error, url))?;
            let (status, headers) = (response.status(), response.headers());
            let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if status.is_redirection() && !headers.contains_key("x-linked-etag") {
                let location = text(LOCATION.as_str());
                let problem = format!("a redirect to {location:?}");
                let bad = |_| HubError::BadAnswer { url: url.to_string(), problem };
                next = next.join(location).map_err(bad)?;
                continue;
            }
            if status.is_success() || status.is_redirection() {
                return Ok(headers.clone());
            }
            let retry_after = text(RETRY_AFTER.as_str()).parse().ok().map(Duration::from_secs);
            let (code, message) = (text("x-error-code"), text("x-error-message").to_owned());
            let answer = Refusal { url: url.to_string(), status: status.as_u16(), code, message, retry_after };
            return Err(target.refusal(answer, Some(file)));
        }
        let problem = format!("more than {MAX_REDIRECTS} redirects");
        Err(HubError::BadAnswer { url: url.to_string(), problem })
    }

    /// Asks for the content of a file, or for a part of it.
    pub(super) fn content(
        &self,
        target: Target<'_>,
        commit: &str,
        file: &str,
        range: Option<Range<u64>>,
    ) -> Result<Content, HubError> {
        let url = target.file_url(commit, file);
        self.retry(target, async || {
            on_repository!(self, target, repo => {
                repo.download_file_stream().filename(file).revision(commit).maybe_range(range.clone()).send().await
            })
            .map_err(|error| target.error(error, &url, Some(file)))
        })
    }

    /// Hands each piece of a content to `write`. The result tells whether `write` failed or the
    /// transfer broke off.
    pub(super) fn read(
        &self,
        content: &mut HFByteStream,
        mut write: impl FnMut(&[u8]) -> Result<(), HubError>,
    ) -> Result<Result<(), HFError>, HubError> {
        self.runtime.block_on(async {
            while let Some(piece) = content.next().await {
                match piece {
                    Ok(bytes) => write(&bytes)?,
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(()))
        })
    }

    /// Fetches a file into the cache by the Xet protocol.
    pub(super) fn fetch_xet(
        &self,
        target: Target<'_>,
        commit: &str,
        file: &str,
        progress: Progress,
    ) -> Result<PathBuf, HFError> {
        self.runtime.block_on(async {
            on_repository!(self, target, repo => {
                repo.download_file().filename(file).revision(commit).progress(progress).send().await
            })
        })
    }

    /// Repeats a request while its failure is a temporary one.
    pub(super) fn retry<T>(
        &self,
        target: Target<'_>,
        mut ask: impl AsyncFnMut() -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        self.runtime.block_on(async {
            let mut attempt = 0;
            loop {
                let outcome = ask().await;
                let (retries, asked) = match &outcome {
                    Err(HubError::Status { status: 408 | 429 | 500 | 502 | 503 | 504, retry_after, .. }) => {
                        (target.settings.num_retries, *retry_after)
                    }
                    Err(HubError::Unreachable { source, .. }) if is_lost_connection(source) => {
                        (target.settings.num_retries.min(MAX_LOST_CONNECTIONS), None)
                    }
                    _ => return outcome,
                };
                if attempt >= retries {
                    return outcome;
                }
                tokio::time::sleep(asked.unwrap_or_else(|| delay(target.settings, attempt)).min(MAX_DELAY)).await;
                attempt += 1;
            }
        })
    }
}

/// The wait before a repetition: longer each time.
pub(super) fn delay(settings: &Settings, attempt: u32) -> Duration {
    settings.retry_delay.saturating_mul(2_u32.saturating_pow(attempt)).min(MAX_DELAY)
}

/// A connection that was lost can be made again. A connection that was never made is not tried
/// again, so that the user soon reads that the hub is out of reach.
fn is_lost_connection(error: &reqwest::Error) -> bool {
    !error.is_connect() && !error.is_builder() && (error.is_timeout() || error.is_request() || error.is_body())
}

fn client_builder(certificates: &Option<Vec<Certificate>>) -> ClientBuilder {
    // The announced size has to be that of the file, not of its compressed form.
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    match certificates {
        Some(certificates) => builder.tls_certs_only(certificates.iter().cloned()),
        None => builder,
    }
}

fn certificates(settings: &Settings) -> Result<Option<Vec<Certificate>>, HubError> {
    let Some(path) = &settings.ca_bundle else { return Ok(None) };
    let unreadable =
        |source: Box<dyn std::error::Error + Send + Sync>| HubError::Certificates { path: path.clone(), source };
    let pem = fs::read(path).map_err(|error| unreadable(error.into()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(error.into()))?;
    if certificates.is_empty() {
        return Err(unreadable("it holds no certificate".into()));
    }
    Ok(Some(certificates))
}
