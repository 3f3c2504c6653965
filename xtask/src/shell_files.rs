//! `cargo xtask completions` and `cargo xtask man`: files that a shell and `man` read about the
//! program's flags.

use crate::{setup, shell};
use anyhow::Result;

/// Writes them into `folder`, by default `target/completions` or `target/man`.
pub fn run(what: &str, folder: Option<&str>) -> Result<()> {
    setup::ensure()?;
    let folder = folder.map_or_else(|| format!("target/{what}"), str::to_owned);
    let example = ["run", "--quiet", "--locked", "--package", "train_and_save", "--example", "shell_files", "--"];
    shell::run(what, shell::cargo().args(example).args([what, &folder]))
}
