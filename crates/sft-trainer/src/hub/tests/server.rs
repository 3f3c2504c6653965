//! A hub on the loopback interface for tests: lists, files, redirects to a store, and failures on
//! demand. It also plays a proxy.

use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the server has and does.
#[derive(Default)]
pub(super) struct State {
    /// `{kind}/{repo}` → revision → commit.
    revisions: HashMap<String, HashMap<String, String>>,
    /// `{commit}/{name}` → content.
    files: HashMap<String, Vec<u8>>,
    /// Names in the order they were added.
    names: HashMap<String, Vec<String>>,
    /// Failures by path. Each is the answer to one request.
    failures: HashMap<String, VecDeque<Failure>>,
    /// Address of the store of large files, if it is another server.
    pub(super) store: Option<String>,
    /// Files behind `/store/`.
    stored: HashMap<String, Vec<u8>>,
    /// Files that are in Xet storage.
    pub(super) xet: Vec<String>,
    pub(super) requests: Vec<Request>,
    /// What was committed: path and body of the request.
    pub(super) commits: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// The address, if the request was sent to a proxy.
    pub(super) proxied: Option<String>,
    pub(super) range: Option<String>,
    pub(super) authorization: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// A status with headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// The connection breaks off after so many bytes of the body.
    CutAfter(usize),
    /// The whole file even if a range was asked for.
    NoRanges,
    /// A file with this content, with the length announced that it has.
    Content(&'static [u8]),
    /// A page that is not a hub's.
    Page(&'static str),
    /// No answer: the connection is closed.
    HangUp,
    /// A redirect to another path of the same server.
    MovedTo(String),
}

pub(super) struct Server {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &shared);
            }
        });
        Self { address, state }
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a file. `kind` is `models` or `datasets`.
    pub(super) fn add(&self, kind: &str, repo: &str, name: &str, content: impl Into<Vec<u8>>) {
        let commit = commit_of(repo);
        let mut state = self.state();
        let revisions = state.revisions.entry(format!("{kind}/{repo}")).or_default();
        revisions.insert("main".to_owned(), commit.clone());
        revisions.insert(commit.clone(), commit.clone());
        revisions.insert("refs/convert/parquet".to_owned(), commit.clone());
        state.names.entry(commit.clone()).or_default().push(name.to_owned());
        state.files.insert(format!("{commit}/{name}"), content.into());
    }

    pub(super) fn store_content(&self, content: &[u8]) {
        self.state().stored.insert(sha256(content), content.to_vec());
    }

    pub(super) fn fail(&self, path: &str, failure: Failure) {
        self.state().failures.entry(path.to_owned()).or_default().push_back(failure);
    }

    /// The requests since the last call, as `GET path`.
    pub(super) fn take_requests(&self) -> Vec<String> {
        let requests = std::mem::take(&mut self.state().requests);
        requests.into_iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

pub(super) fn commit_of(repo: &str) -> String {
    sha256(repo.as_bytes())[..40].to_owned()
}

pub(super) fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(stream: TcpStream, shared: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut parts = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (parts.next(), parts.next()) else { return Ok(()) };
    let (proxied, path) = match path.strip_prefix("http://") {
        Some(address) => (Some(path.clone()), format!("/{}", address.split_once('/').map_or("", |(_, path)| path))),
        None => (None, path),
    };
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = Request {
        method: method.clone(),
        path: path.clone(),
        proxied,
        range: headers.get("range").cloned(),
        authorization: headers.get("authorization").cloned(),
    };
    let mut state = shared.lock().unwrap();
    // A `HEAD` asks about a file; failures are for what is sent, unless they are a status.
    let failure = match state.failures.get_mut(&path) {
        Some(failures)
            if method == "GET" || matches!(failures.front(), Some(Failure::Status(..) | Failure::MovedTo(_))) =>
        {
            failures.pop_front()
        }
        _ => None,
    };
    let reply = match failure {
        None if method == "POST" => pushed(&mut state, &path, &body),
        _ => reply(&state, &request, failure.as_ref()),
    };
    state.requests.push(request);
    drop(state);
    if matches!(failure, Some(Failure::HangUp)) {
        return Ok(());
    }
    let mut stream = stream;
    let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if method != "HEAD" {
        stream.write_all(&reply.body[..reply.sent.unwrap_or(reply.body.len()).min(reply.body.len())])?;
    }
    stream.flush()
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    sent: Option<usize>,
}

/// The answers to what a push asks for.
fn pushed(state: &mut State, path: &str, body: &[u8]) -> Reply {
    let json = |status, body: serde_json::Value| Reply {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes(),
        sent: None,
    };
    let asked: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if path == "/api/repos/create" {
        let owner = asked["organization"].as_str().unwrap_or("me");
        return json(
            200,
            serde_json::json!({ "url": format!("http://hub/{owner}/{}", asked["name"].as_str().unwrap()) }),
        );
    }
    if path.contains("/preupload/") {
        let files = asked["files"].as_array().unwrap().iter();
        let files: Vec<_> =
            files.map(|file| serde_json::json!({ "path": file["path"], "uploadMode": "regular" })).collect();
        return json(200, serde_json::json!({ "files": files }));
    }
    if path.contains("/branch/") {
        return json(200, serde_json::json!({}));
    }
    if path.contains("/commit/") {
        state.commits.push((path.to_owned(), String::from_utf8(body.to_vec()).unwrap()));
        return json(200, serde_json::json!({ "commitOid": "0".repeat(40) }));
    }
    json(404, serde_json::json!({ "error": "no such route" }))
}

fn reply(state: &State, request: &Request, failure: Option<&Failure>) -> Reply {
    let plain = |status: u16, headers: &[(&str, &str)], body: Vec<u8>| Reply {
        status,
        headers: headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body,
        sent: None,
    };
    match failure {
        Some(Failure::Status(status, headers)) => return plain(*status, headers, b"{\"error\":\"no\"}".to_vec()),
        Some(Failure::Page(page)) => return plain(200, &[], page.as_bytes().to_vec()),
        Some(Failure::MovedTo(path)) => return plain(307, &[("location", path)], Vec::new()),
        _ => {}
    }
    if let Some(hash) = request.path.strip_prefix("/store/") {
        let Some(content) = state.stored.get(hash) else { return plain(404, &[], Vec::new()) };
        return content_reply(content, request, failure, Vec::new());
    }
    if let Some(rest) = request.path.strip_prefix("/api/") {
        let Some((repo, revision)) = rest.split_once("/revision/") else { return plain(404, &[], Vec::new()) };
        let Some(revisions) = state.revisions.get(repo) else {
            return plain(404, &[("x-error-code", "RepoNotFound")], Vec::new());
        };
        let Some(commit) = revisions.get(&revision.replace("%2F", "/")) else {
            return plain(404, &[("x-error-code", "RevisionNotFound")], Vec::new());
        };
        let siblings: Vec<_> = state.names[commit].iter().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"id": repo, "sha": commit, "private": false, "siblings": siblings});
        return plain(200, &[("content-type", "application/json")], body.to_string().into_bytes());
    }
    let Some((_, file)) = request.path.split_once("/resolve/") else { return plain(404, &[], Vec::new()) };
    let Some(content) = state.files.get(&file.replace("%20", " ")) else {
        return plain(404, &[("x-error-code", "EntryNotFound")], Vec::new());
    };
    let hash = sha256(content);
    let commit = file.split('/').next().unwrap_or_default();
    let about = |size: &str, etag: &str| {
        let xet = state.xet.contains(&file.replace("%20", " ")).then(|| ("x-xet-hash".to_owned(), "0".repeat(64)));
        let mut headers = vec![
            ("x-repo-commit".to_owned(), commit.to_owned()),
            (size.to_owned(), content.len().to_string()),
            (etag.to_owned(), format!("\"{hash}\"")),
        ];
        headers.extend(xet);
        headers
    };
    match &state.store {
        Some(store) => {
            let mut headers = about("x-linked-size", "x-linked-etag");
            headers.push(("location".to_owned(), format!("{store}/store/{hash}")));
            Reply { status: 302, headers, body: Vec::new(), sent: None }
        }
        None => content_reply(content, request, failure, about("x-size", "etag")),
    }
}

fn content_reply(
    content: &[u8],
    request: &Request,
    failure: Option<&Failure>,
    mut headers: Vec<(String, String)>,
) -> Reply {
    let content = match failure {
        Some(Failure::Content(other)) => other,
        _ => content,
    };
    let start = match (&request.range, failure) {
        (Some(range), failure) if !matches!(failure, Some(Failure::NoRanges)) => {
            let (start, _) = range.trim_start_matches("bytes=").split_once('-').unwrap();
            start.parse().unwrap()
        }
        _ => 0,
    };
    let sent = match failure {
        Some(Failure::CutAfter(length)) => Some(*length),
        _ => None,
    };
    if start > 0 && start >= content.len() {
        return Reply { status: 416, headers, body: Vec::new(), sent };
    }
    if start > 0 {
        headers.push(("content-range".to_owned(), format!("bytes {start}-{}/{}", content.len() - 1, content.len())));
    }
    Reply { status: if start > 0 { 206 } else { 200 }, headers, body: content[start..].to_vec(), sent }
}
