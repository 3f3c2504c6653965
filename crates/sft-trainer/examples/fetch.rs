//! Downloads a model repository into the cache that Python shares, and prints the folder:
//!
//! ```text
//! cargo run -p sft-trainer --example fetch -- HuggingFaceTB/SmolLM2-135M .json
//! ```
//!
//! A second argument limits the files to those whose names end with it. `HF_ENDPOINT`, `HF_HOME`,
//! `HF_TOKEN` and `HF_HUB_OFFLINE` have the same meaning as in Python.

use indicatif::MultiProgress;
use sft_trainer::hub::{Hub, RepoKind};
use std::error::Error;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> Result<(), Box<dyn Error>> {
    // The client below tells about each of its requests.
    let events = Targets::new().with_target("sft_trainer", Level::INFO);
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
        .with(events)
        .init();
    let mut arguments = std::env::args().skip(1);
    let repo_id = arguments.next().ok_or("usage: fetch <owner/name> [ending of file names]")?;
    let ending = arguments.next().unwrap_or_default();
    let hub = Hub::from_env()?.with_progress(MultiProgress::new());
    let folder = hub.snapshot(RepoKind::Model, &repo_id, "main", &|name| name.ends_with(&ending))?;
    println!("{}", folder.display());
    Ok(())
}
