//! Input that cannot work is refused before training, with one line that names the problem, exit
//! code 2 and no files written.

mod command;
mod files;
mod folders;

use anyhow::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};
use whole_program_tests::{Case, Dataset, Training, goldens};

/// A run that must be refused.
struct Refused {
    what: &'static str,
    /// Creates the input and returns the run.
    prepare: fn(&Case) -> Result<Training>,
    /// What the message must name.
    names: &'static [&'static str],
}

/// Runs every case and reports all that are not refused as they should be.
fn check(cases: &[Refused]) -> Result<()> {
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| check_one(case).err().map(|error| format!("{}: {error:#}", case.what)))
        .collect();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    Ok(())
}

fn check_one(refused: &Refused) -> Result<()> {
    let case = Case::new()?;
    let training = (refused.prepare)(&case)?;
    let before = case.snapshot()?;
    let finished = training.run()?;
    let message = finished.failed_with(2)?;
    for name in refused.names {
        anyhow::ensure!(message.contains(name), "`{name}` is not in: {message}");
    }
    let after = case.snapshot()?;
    let changed: Vec<&PathBuf> = after.keys().filter(|path| after.get(*path) != before.get(*path)).collect();
    anyhow::ensure!(after == before, "written or removed: {changed:?}");
    Ok(())
}

/// A run with a damaged copy of a model of the goldens.
fn with_model(case: &Case, damage: impl FnOnce(&Path) -> Result<()>) -> Result<Training> {
    let model = case.copy_model("qwen2")?;
    damage(&model)?;
    Ok(case.training(&model, &goldens::words()))
}

fn with_config(case: &Case, key: &str, value: Value) -> Result<Training> {
    with_model(case, |model| {
        Case::edit_json(&model.join("config.json"), |config| {
            config.insert(key.to_owned(), value);
        })
    })
}

/// A run with a dataset folder of these files.
fn with_files(case: &Case, files: &[(&str, &[u8])]) -> Result<Training> {
    let mut data = Dataset::new(case.path("data"))?;
    for (name, content) in files {
        data = data.with_file(name, content)?;
    }
    Ok(case.training(&goldens::model("qwen2"), data.path()))
}

const GOOD_ROWS: &[u8] = b"{\"text\": \"w3 w4 w5\"}\n{\"text\": \"w6 w7\"}\n";

fn sound(case: &Case) -> Training {
    case.training(&goldens::model("qwen2"), &goldens::words())
}
