//! `cargo xtask bench`: runs the benchmark of the whole-program tests in release mode, with the
//! demo's model and dataset.

use crate::{setup, shell};
use anyhow::Result;

const FOLDER: &str = "target/bench";

/// Runs the named sections, or all of them if `sections` is empty.
pub fn run(sections: &[&str]) -> Result<()> {
    setup::ensure()?;
    // One build for both, so that they share their libraries.
    let packages = ["--package", "demo", "--package", "whole-program-tests", "--bin", "demo", "--example", "bench"];
    shell::run("build", shell::cargo().args(["build", "--release", "--locked"]).args(packages))?;
    setup::remove(&shell::root().join(FOLDER))?;
    let programs = shell::dev_folder().with_file_name("release");
    let mut make = shell::command(programs.join("demo"));
    shell::run("model and dataset", make.args(["make", "--out", FOLDER]))?;
    shell::run("bench", shell::command(programs.join("examples/bench")).arg(FOLDER).args(sections))
}
