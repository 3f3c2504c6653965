//! Downloads a model repository into the cache that Python shares, and prints the folder:
//!
//! ```text
//! cargo run -p sft-data --example fetch -- HuggingFaceTB/SmolLM2-135M .json
//! ```
//!
//! A second argument limits the files to those with that ending. `HF_ENDPOINT`, `HF_HOME`,
//! `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to Python.

use sft_data::{DownloadProgress, HubConfig, RepoKind, snapshot};
use std::error::Error;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let repo_id = arguments.next().ok_or("usage: fetch <owner/name> [ending of file names]")?;
    let ending = arguments.next().unwrap_or_default();
    let mut hub = HubConfig::from_env();
    hub.on_progress = Some(Arc::new(|progress: &DownloadProgress<'_>| {
        eprintln!("{}: {} of {:?} bytes", progress.file, progress.bytes_done, progress.bytes_total);
    }));
    let folder = snapshot(&hub, RepoKind::Model, &repo_id, "main", &|name| name.ends_with(&ending))?;
    println!("{}", folder.display());
    Ok(())
}
