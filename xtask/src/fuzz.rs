//! `cargo xtask fuzz`: runs the fuzz tests of the whole-program tests for longer.

use crate::{setup, shell};
use anyhow::{Context, Result, bail};

/// Takes `--minutes <number>`, and optionally one target instead of all.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (minutes, target) = match arguments {
        ["--minutes", minutes] => (*minutes, None),
        ["--minutes", minutes, target] => (*minutes, Some(*target)),
        _ => bail!("fuzz takes --minutes <number> and at most one target"),
    };
    let number: f64 = minutes.parse().with_context(|| format!("--minutes {minutes}"))?;
    if !(number > 0.0 && number.is_finite()) {
        bail!("--minutes {minutes}: must be greater than 0");
    }
    setup::ensure()?;
    let mut command = shell::cargo();
    command.args(["test", "--locked", "-p", "whole-program-tests", "--test", "fuzz", "--"]);
    command.args(["--nocapture", "--test-threads", "1"]).args(target);
    shell::run("fuzz", command.env("FUZZ_MINUTES", minutes).env("RUST_BACKTRACE", "0"))
}
