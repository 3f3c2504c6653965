//! The model on its way to the hub. Nothing here ends a run: what cannot be pushed is a warning.

mod card;

use crate::Error;
use crate::config::{HubStrategy, PushConfig, SftConfig};
use crate::hub::{Hub, Push};
use sft_data::TOKENIZER_FILES;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use tracing::{info, warn};
use trainer_core::{Callback, CallbackContext, EventResult, Requests, TrainerState};

pub(crate) use card::write_card;

/// Pushes checkpoints on a thread while training goes on, and the published model at the end.
#[derive(Clone)]
pub(crate) struct Pusher {
    hub: Arc<Hub>,
    config: PushConfig,
    repo_id: String,
}

impl Pusher {
    /// `None` if nothing is to be pushed.
    ///
    /// # Errors
    /// [`Error::Config`] if the environment forbids requests, and as [`Hub::from_env`].
    pub(crate) fn new(config: &SftConfig) -> Result<Option<Self>, Error> {
        let push = &config.push;
        if !push.push_to_hub {
            return Ok(None);
        }
        let hub = Hub::from_env()?.with_token(push.hub_token.clone());
        if hub.is_offline() {
            let problem = "push_to_hub is true: HF_HUB_OFFLINE is set; unset one of the two";
            return Err(Error::Config { problems: vec![problem.to_owned()] });
        }
        let repo_id = push.repo_id(&config.training.output_dir);
        Ok(Some(Self::to(hub, push.clone(), repo_id)))
    }

    /// Pushes to a repository of this hub.
    pub(crate) fn to(hub: Hub, config: PushConfig, repo_id: String) -> Self {
        Self { hub: Arc::new(hub), config, repo_id }
    }

    /// Pushes files and tells the outcome.
    fn push(&self, message: String, files: Vec<(String, PathBuf)>) {
        let push = Push {
            repo_id: self.repo_id.clone(),
            is_private: self.config.hub_private_repo,
            branch: self.config.hub_revision.clone().unwrap_or_else(|| "main".to_owned()),
            message,
            files,
        };
        match self.hub.push(&push) {
            Ok(address) => info!("pushed to {address}: {}", push.message),
            Err(error) => warn!("not pushed to {}: {}", push.repo_id, with_causes(&error)),
        }
    }

    /// Pushes the model that the run has published.
    pub(crate) fn push_published(&self, output_dir: &Path, state: &TrainerState) {
        let step = state.best_global_step.unwrap_or(state.global_step);
        self.push(format!("Model of step {step}, end of training"), model_files(output_dir));
    }

    /// The files of a checkpoint that this strategy pushes: the model, and perhaps all files in a
    /// folder.
    fn checkpoint_files(&self, checkpoint: &Path) -> Vec<(String, PathBuf)> {
        let name = checkpoint.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = match self.config.hub_strategy {
            HubStrategy::End => return Vec::new(),
            HubStrategy::EverySave => None,
            HubStrategy::Checkpoint => Some("last-checkpoint".to_owned()),
            HubStrategy::AllCheckpoints => Some(name),
        };
        let mut files = model_files(checkpoint);
        if let Some(folder) = folder {
            let all = files_of(checkpoint).into_iter();
            files.extend(all.map(|(name, path)| (format!("{folder}/{name}"), path)));
        }
        files
    }
}

/// An error and its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_causes(source)),
        None => error.to_string(),
    }
}

/// The files right in a folder, by name.
fn files_of(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let mut files: Vec<_> =
        files.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
    files.sort();
    files
}

/// Those that `from_pretrained` reads, and the card.
fn model_files(folder: &Path) -> Vec<(String, PathBuf)> {
    let is_weights = |name: &str| name.starts_with("model") && name.contains(".safetensors");
    let is_other = |name: &str| ["config.json", "generation_config.json", card::FILE_NAME].contains(&name);
    let is_tokenizer = |name: &str| TOKENIZER_FILES.contains(&name);
    let mut files = files_of(folder);
    files.retain(|(name, _)| is_weights(name) || is_other(name) || is_tokenizer(name));
    files
}

/// The callback that pushes checkpoints.
pub(crate) struct PushCheckpoints {
    pusher: Pusher,
    under_way: Vec<JoinHandle<()>>,
}

impl PushCheckpoints {
    pub(crate) fn new(pusher: Pusher) -> Self {
        Self { pusher, under_way: Vec::new() }
    }
}

impl Callback for PushCheckpoints {
    fn on_save(&mut self, context: &CallbackContext<'_>, checkpoint: &Path, _: &mut Requests) -> EventResult {
        self.under_way.retain(|push| !push.is_finished());
        if !self.under_way.is_empty() && !self.pusher.config.hub_always_push {
            info!("{} is not pushed: the push before it is still under way", checkpoint.display());
            return Ok(());
        }
        let files = self.pusher.checkpoint_files(checkpoint);
        if files.is_empty() {
            return Ok(());
        }
        let (pusher, step) = (self.pusher.clone(), context.state.global_step);
        let push = move || pusher.push(format!("Training in progress, step {step}"), files);
        match std::thread::Builder::new().name("push".to_owned()).spawn(push) {
            Ok(handle) => self.under_way.push(handle),
            Err(error) => warn!("{} is not pushed: no thread for it: {error}", checkpoint.display()),
        }
        Ok(())
    }

    fn on_train_end(&mut self, _: &CallbackContext<'_>, _: &mut Requests) -> EventResult {
        for push in self.under_way.drain(..) {
            if push.join().is_err() {
                warn!("the push of a checkpoint ended with a panic");
            }
        }
        Ok(())
    }
}
