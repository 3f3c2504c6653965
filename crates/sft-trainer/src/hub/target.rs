//! Addresses of a repository, and what an answer other than success means.

use super::RepoKind;
use super::error::{HubError, HubFile, innermost};
use super::settings::Settings;
use hf_hub::HFError;
use reqwest::Url;
use std::time::Duration;

/// Longest part of an error page that is quoted.
const MAX_QUOTED: usize = 200;

/// What requests about one revision of a repository have in common.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) settings: &'a Settings,
    pub(super) kind: RepoKind,
    pub(super) repo_id: &'a str,
    /// As the caller named it, for messages.
    pub(super) revision: &'a str,
}

/// An answer whose status is not a success.
pub(super) struct Refusal<'a> {
    pub(super) url: String,
    pub(super) status: u16,
    /// The hub's own word for the reason.
    pub(super) code: &'a str,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl Target<'_> {
    /// A file of the target, for messages.
    pub(super) fn file(&self, file: &str) -> HubFile {
        HubFile { repo_id: self.repo_id.to_owned(), revision: self.revision.to_owned(), file: file.to_owned() }
    }

    /// An address on the hub: `before`, the repository, `after`.
    pub(super) fn url(&self, before: &[&str], after: &[&str]) -> Url {
        let mut url = self.settings.endpoint.clone();
        // An `http` address always has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(before).extend(self.repo_id.split('/')).extend(after);
        }
        url
    }

    pub(super) fn file_url(&self, commit: &str, file: &str) -> Url {
        let after: Vec<&str> = ["resolve", commit].into_iter().chain(file.split('/')).collect();
        self.url(self.kind.prefix(), &after)
    }

    /// What an error of `hf-hub` means. `file` is the file that was asked for, if any.
    pub(super) fn error(&self, error: HFError, url: &Url, file: Option<&str>) -> HubError {
        let (context, retry_after) = match error {
            HFError::Request { source, .. } => return self.request_error(source, url),
            HFError::RateLimited { context, retry_after } => (context, retry_after),
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Conflict { context }
            | HFError::RepoNotFound { context: Some(context), .. }
            | HFError::RevisionNotFound { context: Some(context), .. }
            | HFError::EntryNotFound { context: Some(context), .. } => (context, None),
            error => return HubError::BadAnswer { url: url.to_string(), problem: error.to_string() },
        };
        let message = context.server_message.unwrap_or(context.body);
        let code = context.error_code.as_deref().unwrap_or_default();
        let status = context.status.as_u16();
        self.refusal(Refusal { url: url.to_string(), status, code, message, retry_after }, file)
    }

    pub(super) fn request_error(&self, error: reqwest::Error, url: &Url) -> HubError {
        let url = url.to_string();
        if error.is_decode() || error.is_redirect() {
            let problem = innermost(&error);
            return HubError::BadAnswer { url, problem };
        }
        HubError::Unreachable { url, source: Box::new(error.without_url()) }
    }

    /// What a status that is not a success means. `file` is the file that was asked for, if any.
    pub(super) fn refusal(&self, answer: Refusal<'_>, file: Option<&str>) -> HubError {
        let repo_id = self.repo_id.to_owned();
        let revision = self.revision.to_owned();
        match (answer.status, answer.code) {
            (401 | 403, "GatedRepo") => HubError::Gated { repo_id, url: self.url(self.kind.prefix(), &[]).to_string() },
            (401, _) if self.settings.token.is_none() => HubError::TokenMissing { repo_id },
            (status @ (401 | 403), _) => HubError::TokenRefused { repo_id, status },
            (404, "RevisionNotFound") => HubError::RevisionNotFound { repo_id, revision },
            (404, code) => match file {
                Some(file) if code != "RepoNotFound" => HubError::FileNotFound { file: self.file(file) },
                _ => HubError::RepoNotFound { repo_id, endpoint: self.settings.endpoint().to_owned() },
            },
            (status, _) => {
                let message = answer.message.lines().next().unwrap_or_default().chars().take(MAX_QUOTED).collect();
                HubError::Status { url: answer.url, status, message, retry_after: answer.retry_after }
            }
        }
    }
}
