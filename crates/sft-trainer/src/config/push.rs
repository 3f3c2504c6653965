//! Whether and how the model goes to the hub.

use crate::hub::is_repo_id;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// When something is pushed. Names are Hugging Face's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HubStrategy {
    /// The model that is published, when the run has ended.
    End,
    /// Also the model of each checkpoint.
    EverySave,
    /// Also the newest checkpoint, as the folder `last-checkpoint`.
    Checkpoint,
    /// Also each checkpoint, as a folder of its name.
    AllCheckpoints,
}

serde_plain::derive_display_from_serialize!(HubStrategy);

/// Options of pushing. Names and defaults are those of transformers' `TrainingArguments`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushConfig {
    /// Whether to push at all. Default false.
    pub push_to_hub: bool,
    /// The repository: `owner/name`, or a name, whose owner is the token's. Unset: the output
    /// folder's name.
    pub hub_model_id: Option<String>,
    /// When to push. Default `every_save`.
    pub hub_strategy: HubStrategy,
    /// Whether a new repository is private. Unset: the hub decides.
    pub hub_private_repo: Option<bool>,
    /// The branch to push to. Unset: `main`.
    pub hub_revision: Option<String>,
    /// The token to push with. Unset: that of the environment.
    pub hub_token: Option<String>,
    /// Push a checkpoint although the one before is still under way. Default false: it is left out.
    pub hub_always_push: bool,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            push_to_hub: false,
            hub_model_id: None,
            hub_strategy: HubStrategy::EverySave,
            hub_private_repo: None,
            hub_revision: None,
            hub_token: None,
            hub_always_push: false,
        }
    }
}

/// The token is a secret.
impl std::fmt::Debug for PushConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PushConfig")
            .field("push_to_hub", &self.push_to_hub)
            .field("hub_model_id", &self.hub_model_id)
            .field("hub_strategy", &self.hub_strategy)
            .field("hub_token", &self.hub_token.as_ref().map(|_| "(set)"))
            .finish_non_exhaustive()
    }
}

impl PushConfig {
    /// The repository of a run with this output folder.
    pub fn repo_id(&self, output_dir: &Path) -> String {
        let folder = || output_dir.file_name().map(|name| name.to_string_lossy().into_owned());
        self.hub_model_id.clone().or_else(folder).unwrap_or_default()
    }

    pub(super) fn problems(&self, output_dir: &Path) -> Vec<String> {
        let repo_id = self.repo_id(output_dir);
        if !self.push_to_hub || is_repo_id(&repo_id) {
            return Vec::new();
        }
        let fix = "set hub_model_id to a name or owner/name of letters, digits, -, _ and .";
        vec![format!("push_to_hub is true: {repo_id:?} cannot be the name of a repository; {fix}")]
    }
}
