//! `cargo xtask install`: the release build of `train_and_save` in cargo's bin folder.

use crate::{setup, shell};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// Installs the program and starts it once with an empty environment: it must need nothing from
/// this shell.
pub fn run() -> Result<()> {
    let libtorch = setup::ensure()?;
    let place = ["CARGO_INSTALL_ROOT", "CARGO_HOME"]
        .iter()
        .find_map(|name| std::env::var_os(name).map(PathBuf::from))
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("no home folder: set HOME or CARGO_HOME")?;
    let mut command = shell::cargo();
    command.args(["install", "--path", "bins/train_and_save", "--locked", "--force", "--root"]).arg(&place);
    shell::run("install train_and_save", &mut command)?;
    let program = place.join("bin/train_and_save");
    shell::check(Command::new(&program).arg("--version").env_clear())?;
    println!("{} is ready. It uses {}: keep that folder.", program.display(), libtorch.display());
    Ok(())
}
