//! `cargo xtask demo`: makes a small model and dataset, and runs the documented recipe on them on
//! the CPU.

use crate::{setup, shell};
use anyhow::Result;

const FOLDER: &str = "demo-out";

/// What differs from the documented recipe. Its learning rate of 1e-5 is meant for a trained model;
/// random weights hardly change with it.
const OVERRIDES: [&str; 2] = ["--learning_rate", "1e-3"];

/// Builds the programs, makes the model and dataset, trains, and samples from the result.
pub fn run() -> Result<()> {
    setup::ensure()?;
    // One build for all programs, so that a later `cargo test` finds the libraries built with the
    // same features.
    shell::run("build", shell::cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    setup::remove(&shell::root().join(FOLDER))?;
    let program = |name| shell::command(shell::dev_folder().join(name));
    shell::run("model and dataset", program("demo").args(["make", "--out", FOLDER]))?;
    let mut training = program("train_and_save");
    training.args(["--model_name", "demo-out/model", "--dataset_name", "demo-out/dataset"]);
    training.args(["--output_dir", "demo-out/trained", "--device", "cpu"]).args(OVERRIDES);
    shell::run("training", &mut training)?;
    let mut sample = program("demo");
    shell::run("sample", sample.args(["sample", "--model", "demo-out/trained", "--prompt", "The otter"]))
}
