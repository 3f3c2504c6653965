//! `cargo xtask torture`: kills runs at random instants, also during saves, and resumes them until
//! they are done. The tests include a short version.

use crate::{setup, shell};
use anyhow::Result;

/// Takes the number of kills and the seed; both have defaults.
pub fn run(arguments: &[&str]) -> Result<()> {
    setup::ensure()?;
    let mut command = shell::cargo();
    command.args(["run", "--quiet", "--package", "whole-program-tests", "--example", "torture", "--locked", "--"]);
    shell::run("torture", command.args(arguments))
}
