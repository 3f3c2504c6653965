//! Where the model is: a folder here, or a snapshot from the hub.

use anyhow::{Result, bail};
use sft_data::{HubConfig, RepoKind, snapshot};
use std::path::{Path, PathBuf};

/// The model's folder; a hub id is fetched first.
///
/// # Errors
/// When there is neither a folder nor a repository of that name.
pub fn model_dir(name: &str, revision: &str, hub: &HubConfig) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    if path.exists() {
        bail!("--model_name {name} is a file; give the folder that holds config.json");
    }
    if !looks_like_repo_id(name) {
        bail!("--model_name {name}: there is no such folder");
    }
    Ok(snapshot(hub, RepoKind::Model, name, revision, &is_wanted)?)
}

/// `name` or `owner/name`, in the characters that the hub allows.
fn looks_like_repo_id(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    name.split('/').count() <= 2 && name.split('/').all(is_part)
}

/// Configuration, weights as safetensors, tokenizer; not the same weights in other formats.
fn is_wanted(file: &str) -> bool {
    !file.contains('/')
        && (file.ends_with(".json")
            || file.ends_with(".safetensors")
            || file.ends_with(".jinja")
            || file == "merges.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repo_ids_and_paths_are_told_apart() {
        for name in ["gpt2", "Qwen/Qwen1.5-0.5B-Chat", "a_b/c.d"] {
            assert!(looks_like_repo_id(name), "{name}");
        }
        for name in ["/data/model", "./model", "../model", "a/b/c", "a b", "", "owner/"] {
            assert!(!looks_like_repo_id(name), "{name}");
        }
    }

    #[test]
    fn only_what_is_loaded_is_fetched() {
        for file in
            ["config.json", "model-00001-of-00002.safetensors", "tokenizer.json", "chat_template.jinja", "merges.txt"]
        {
            assert!(is_wanted(file), "{file}");
        }
        for file in ["pytorch_model.bin", "onnx/model.safetensors", "README.md", "model.gguf"] {
            assert!(!is_wanted(file), "{file}");
        }
    }
}
