//! `cargo xtask bench`: a release build of the bench of the whole-program tests, over the demo's
//! model and dataset.

use crate::{setup, shell};
use anyhow::Result;

const FOLDER: &str = "target/bench";

/// `sections`: those to run; all of them if none is named.
pub fn run(sections: &[&str]) -> Result<()> {
    setup::ensure()?;
    // Both at once, so that they share the libraries they are built with.
    let packages = ["--package", "demo", "--package", "whole-program-tests", "--bin", "demo", "--example", "bench"];
    shell::run("build", shell::cargo().args(["build", "--release", "--locked"]).args(packages))?;
    setup::remove(&shell::root().join(FOLDER))?;
    let programs = shell::dev_folder().with_file_name("release");
    let mut make = shell::command(programs.join("demo"));
    shell::run("model and dataset", make.args(["make", "--out", FOLDER]))?;
    shell::run("bench", shell::command(programs.join("examples/bench")).arg(FOLDER).args(sections))
}
