//! `cargo xtask install`: installs a release build of `train_and_save` into cargo's bin folder.

use crate::{setup, shell};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// Installs the program. Then starts it once with an empty environment, because it must not depend
/// on this shell's variables.
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
