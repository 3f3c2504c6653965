//! `cargo xtask torture`: runs killed at random instants, saves included, and resumed until they
//! are done. Tests have a short form of it.

use crate::{setup, shell};
use anyhow::Result;

/// `arguments`: the number of kills and the seed, each with a default.
pub fn run(arguments: &[&str]) -> Result<()> {
    setup::ensure()?;
    let mut command = shell::cargo();
    command.args(["run", "--quiet", "--package", "whole-program-tests", "--example", "torture", "--locked", "--"]);
    shell::run("torture", command.args(arguments))
}
