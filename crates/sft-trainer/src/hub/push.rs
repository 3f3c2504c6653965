//! Pushing files to a model repository: one commit.

use super::target::Target;
use super::{Hub, HubError, RepoKind};
use hf_hub::repository::CommitOperation;
use hf_hub::{RepoTypeModel, split_id};
use std::path::PathBuf;

/// What to push, and where.
#[derive(Clone, Debug)]
pub struct Push {
    /// `owner/name`, or a name, whose owner is the token's.
    pub repo_id: String,
    /// Whether the repository is private if it has to be made. `None`: the hub decides.
    pub is_private: Option<bool>,
    /// The branch, which is made if it is not there.
    pub branch: String,
    /// What the commit is for.
    pub message: String,
    /// Names in the repository, and the files.
    pub files: Vec<(String, PathBuf)>,
}

impl Hub {
    /// Sends requests with this token in place of the environment's.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<Option<String>>) -> Self {
        if let Some(token) = token.into() {
            self.settings.token = Some(token);
        }
        self
    }

    /// Whether the environment forbids requests.
    pub fn is_offline(&self) -> bool {
        self.settings.is_offline
    }

    /// Pushes files in one commit, and returns the repository's address. The repository and the
    /// branch are made if they are not there. Temporary failures of the hub are tried again.
    ///
    /// # Errors
    /// [`HubError::PushRefused`] without a token that may write, and what else a request can end
    /// with.
    pub fn push(&self, push: &Push) -> Result<String, HubError> {
        let target = |repo_id| Target {
            settings: &self.settings,
            kind: RepoKind::Model,
            repo_id,
            revision: push.branch.as_str(),
        };
        let refused = |error| match error {
            HubError::TokenMissing { .. } | HubError::TokenRefused { .. } | HubError::Gated { .. } => {
                HubError::PushRefused { repo_id: push.repo_id.clone() }
            }
            other => other,
        };
        let address = self.make_repository(target(&push.repo_id), push.is_private).map_err(refused)?;
        // The hub's answer has the owner too.
        let parts: Vec<&str> = address.trim_end_matches('/').rsplit('/').take(2).collect();
        let repo_id = match (push.repo_id.contains('/'), parts.as_slice()) {
            (false, [name, owner]) => format!("{owner}/{name}"),
            _ => push.repo_id.clone(),
        };
        let target = target(&repo_id);
        if push.branch != "main" {
            self.make_branch(target).map_err(refused)?;
        }
        self.commit(target, push).map_err(refused)?;
        Ok(address)
    }

    fn make_repository(&self, target: Target<'_>, is_private: Option<bool>) -> Result<String, HubError> {
        let mut url = target.settings.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "repos", "create"]);
        }
        let connection = self.connection()?;
        connection.retry(target, async || {
            let request = connection.hub.create_repository().repo_id(target.repo_id).repo_type(RepoTypeModel);
            let answer = request.maybe_private(is_private).exist_ok(true).send().await;
            answer.map(|repository| repository.url).map_err(|error| target.error(error, &url, None))
        })
    }

    fn make_branch(&self, target: Target<'_>) -> Result<(), HubError> {
        let url = target.url(&["api", "models"], &["branch", target.revision]);
        let connection = self.connection()?;
        let (owner, name) = split_id(target.repo_id);
        let made = connection.retry(target, async || {
            let answer = connection.hub.model(owner, name).create_branch().branch(target.revision).send().await;
            answer.map_err(|error| target.error(error, &url, None))
        });
        match made {
            Err(HubError::Status { status: 409, .. }) => Ok(()),
            made => made,
        }
    }

    fn commit(&self, target: Target<'_>, push: &Push) -> Result<(), HubError> {
        let url = target.url(&["api", "models"], &["commit", target.revision]);
        let connection = self.connection()?;
        let (owner, name) = split_id(target.repo_id);
        let files = push.files.iter().map(|(name, path)| CommitOperation::add_file(name, path));
        let operations: Vec<CommitOperation> = files.collect();
        connection.retry(target, async || {
            let repository = connection.hub.model(owner, name);
            let commit = repository.create_commit().operations(operations.clone()).commit_message(&push.message);
            let answer = commit.revision(target.revision).send().await;
            answer.map(|_| ()).map_err(|error| target.error(error, &url, None))
        })
    }
}
