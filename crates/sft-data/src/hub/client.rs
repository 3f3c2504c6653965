//! Requests to the hub: headers, redirects, repetitions, and what a status means.

use super::config::HubConfig;
use super::error::HubError;
use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Timeout};

const USER_AGENT: &str = concat!("sft-data/", env!("CARGO_PKG_VERSION"), "; rust");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A hub may take a while to list a large repository, but not to send the next bytes of a file.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 10;
/// A hub that keeps dropping connections is not there.
const MAX_LOST_CONNECTIONS: u32 = 2;
/// Longest wait that a hub can ask for.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// How far to follow redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Wherever they lead.
    Everywhere,
    /// Within the hub: its answer about a file, not that of the store it sends on to.
    WithinHub,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
}

/// Sends requests to one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    num_retries: u32,
    retry_delay: Duration,
}

impl Client {
    pub(super) fn new(config: &HubConfig) -> Result<Self, HubError> {
        let roots = match &config.ca_bundle {
            None => RootCerts::WebPki,
            Some(path) => {
                let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| HubError::Certificates {
                    path: path.clone(),
                    source,
                };
                let pem = fs::read(path).map_err(|error| unreadable(error.into()))?;
                let mut certificates = Vec::new();
                for item in parse_pem(&pem) {
                    if let PemItem::Certificate(certificate) = item.map_err(|error| unreadable(error.into()))? {
                        certificates.push(certificate);
                    }
                }
                RootCerts::Specific(Arc::new(certificates))
            }
        };
        let agent = Agent::config_builder()
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            // Followed here, since the token must not go to another host, and the hub's own answer
            // counts.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build()
            .new_agent();
        Ok(Self {
            agent,
            endpoint: config.endpoint.clone(),
            token: config.token.clone(),
            num_retries: config.num_retries,
            retry_delay: config.retry_delay,
        })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(super) fn num_retries(&self) -> u32 {
        self.num_retries
    }

    /// Sends a request, again while the failure is a passing one.
    pub(super) fn send(
        &self,
        method: Method,
        url: &str,
        range_start: Option<u64>,
        follow: Follow,
    ) -> Result<Response<Body>, HubError> {
        let mut attempt = 0;
        loop {
            let outcome = self.follow(method, url, range_start, follow);
            let (asked_delay, retries) = match &outcome {
                Ok(response) if is_passing(response.status()) => (retry_after(response.headers()), self.num_retries),
                Err(HubError::Unreachable { source, .. }) if may_pass(source) => (None, MAX_LOST_CONNECTIONS),
                _ => return outcome,
            };
            if attempt >= retries.min(self.num_retries) {
                return outcome;
            }
            self.wait(attempt, asked_delay);
            attempt += 1;
        }
    }

    /// Waits longer each time.
    pub(super) fn wait(&self, attempt: u32, asked: Option<Duration>) {
        let delay = self.retry_delay.saturating_mul(2_u32.saturating_pow(attempt));
        std::thread::sleep(asked.unwrap_or(delay).min(MAX_DELAY));
    }

    fn follow(
        &self,
        method: Method,
        url: &str,
        range_start: Option<u64>,
        follow: Follow,
    ) -> Result<Response<Body>, HubError> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let response = self.send_once(method, &url, range_start)?;
            let location = response.headers().get("location").and_then(|location| location.to_str().ok());
            let Some(location) = location.filter(|_| response.status().is_redirection()) else { return Ok(response) };
            let Some(next) = resolve(&url, location) else {
                return Err(HubError::BadAnswer { url, problem: format!("a redirect to {location:?}") });
            };
            if follow == Follow::WithinHub && !same_host(&next, &url) {
                return Ok(response);
            }
            url = next;
        }
        Err(HubError::BadAnswer { url, problem: format!("more than {MAX_REDIRECTS} redirects") })
    }

    fn send_once(&self, method: Method, url: &str, range_start: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut request = match method {
            Method::Get => self.agent.get(url),
            Method::Head => self.agent.head(url),
        };
        // The size that is announced has to be that of the file, not of its compressed form.
        request = request.header("accept-encoding", "identity");
        if let Some(start) = range_start {
            request = request.header("range", format!("bytes={start}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| same_host(url, &self.endpoint)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|source| HubError::Unreachable { url: url.to_owned(), source: Box::new(source) })
    }
}

/// Statuses of an overloaded or restarting server.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// A connection that was lost may be made again. One that was never made will not be, and whoever
/// waits for it should soon read that there are mirrors.
fn may_pass(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
                | ErrorKind::Interrupted
        ),
        ureq::Error::Timeout(phase) => !matches!(phase, Timeout::Connect | Timeout::Resolve),
        _ => false,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_owned(), uri.authority()?.as_str().to_ascii_lowercase()))
}

fn same_host(a: &str, b: &str) -> bool {
    origin(a).is_some_and(|a| origin(b) == Some(a))
}

/// The address a `Location` header means.
fn resolve(base: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let (scheme, authority) = origin(base)?;
    if let Some(elsewhere) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{elsewhere}"));
    }
    location.starts_with('/').then(|| format!("{scheme}://{authority}{location}"))
}

/// Everything but what may stand in an address as it is, as `%XX`.
pub(super) fn percent_encode(text: &str, kept: &[u8]) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte if kept.contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
