//! The first and the last step of `cargo xtask demo`: `demo make` writes a small model and a
//! generated dataset, and `demo sample` generates text with a trained model. Between the two,
//! `train_and_save` trains as on any other model and dataset.
//!
//! ```text
//! corpus  ──▶ dataset/train.jsonl, dataset/test.jsonl
//!    └─ train rows ─▶ tokenizer ─▶ model/tokenizer.json, tokenizer_config.json
//!                        └─ size, end token ─▶ model ─▶ model/config.json, generation_config.json, model.safetensors
//! ```

mod corpus;
mod model;
mod random;
mod sample;
mod tokenizer;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Makes the demo's model and dataset, and samples from a saved model.
#[derive(Parser)]
#[command(version)]
enum Cli {
    /// Write OUT/model and OUT/dataset.
    Make(MakeArguments),
    /// Continue a prompt.
    Sample(SampleArguments),
}

#[derive(clap::Args)]
struct MakeArguments {
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value_t = 960)]
    train_rows: usize,
    #[arg(long, default_value_t = 120)]
    test_rows: usize,
    /// The same seed gives the same files.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(clap::Args)]
struct SampleArguments {
    /// A folder that `train_and_save` wrote.
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    prompt: String,
    /// 0 always takes the most likely token.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    #[arg(long, default_value_t = 80)]
    max_new_tokens: usize,
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Make(arguments) => make(&arguments),
        Cli::Sample(arguments) => {
            let text =
                sample::run(&arguments.model, &arguments.prompt, arguments.temperature, arguments.max_new_tokens)?;
            println!("{text}");
            Ok(())
        }
    }
}

fn make(arguments: &MakeArguments) -> Result<()> {
    let (model, dataset) = (arguments.out.join("model"), arguments.out.join("dataset"));
    for folder in [&model, &dataset] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut random = random::Random::new(arguments.seed);
    let corpus = corpus::write(arguments.train_rows, arguments.test_rows, &mut random);
    write_rows(&dataset.join("train.jsonl"), &corpus.train)?;
    write_rows(&dataset.join("test.jsonl"), &corpus.test)?;
    let ids = tokenizer::write(&corpus.train, &model)?;
    let parameters = model::write(&ids, i64::try_from(arguments.seed)?, &model)?;
    println!(
        "{}: {:.1} M parameters, {} tokens in the vocabulary\n{}: {} rows to train on, {} to evaluate on, such as\n  {}\n  {}",
        model.display(),
        parameters as f64 / 1e6,
        ids.vocab_size,
        dataset.display(),
        corpus.train.len(),
        corpus.test.len(),
        corpus.train.first().map_or("", String::as_str).replace('\n', "\n  "),
        corpus.train.get(1).map_or("", String::as_str).replace('\n', "\n  "),
    );
    Ok(())
}

fn write_rows(path: &Path, rows: &[String]) -> Result<()> {
    let lines: String = rows.iter().map(|row| format!("{}\n", json!({ "text": row }))).collect();
    fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))
}
