//! `cargo xtask lint` and `cargo xtask test`: what CI checks, the cheapest check first.

use crate::{direction, setup, shell, style};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::Path;

/// Runs [`lint`], then all tests, including documentation tests.
pub fn test() -> Result<()> {
    lint()?;
    let libtorch = setup::ensure()?;
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--locked"]);
    if let Some(cuda) = setup::cuda_libraries().filter(|_| std::env::var_os("TORCH_CUDA_LIB").is_none()) {
        command.env("TORCH_CUDA_LIB", cuda);
    }
    // cargo's configuration sets this variable only if the user has not set it.
    shell::run("tests", command.env("LD_LIBRARY_PATH", loader_path(&libtorch.join("lib"))?))
}

/// Checks style, formatting, dependency direction, clippy and documentation. Warnings are errors.
pub fn lint() -> Result<()> {
    shell::step("style", style::check)?;
    if has("fmt", "rustfmt")? {
        shell::run("formatting", shell::cargo().args(["fmt", "--all", "--check"]))?;
    }
    setup::ensure()?;
    shell::step("dependency direction", direction::check)?;
    if has("clippy", "clippy")? {
        let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        shell::run("clippy", shell::cargo().args(arguments))?;
        // The workspace turns its feature on; other trainers use it without.
        let arguments = ["clippy", "--package", "galore-optim", "--locked", "--", "-D", "warnings"];
        shell::run("clippy of galore-optim alone", shell::cargo().args(arguments))?;
    }
    let mut command = shell::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--locked"]);
    shell::run("documentation", command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Whether cargo has the subcommand. CI must have it; a minimal toolchain may lack it, and the
/// check is then skipped with a message.
fn has(subcommand: &str, component: &str) -> Result<bool> {
    if shell::output(shell::cargo().args([subcommand, "--version"])).is_some() {
        return Ok(true);
    }
    if std::env::var_os("CI").is_some() {
        bail!("cargo {subcommand} is missing: rustup component add {component}");
    }
    println!("\n== cargo {subcommand} skipped: not installed (rustup component add {component})");
    Ok(false)
}

/// `LD_LIBRARY_PATH` with `libtorch` in front of what it held before.
fn loader_path(libtorch: &Path) -> Result<OsString> {
    let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = std::iter::once(libtorch.to_path_buf()).chain(std::env::split_paths(&before));
    std::env::join_paths(paths.filter(|path| !path.as_os_str().is_empty())).context("LD_LIBRARY_PATH")
}
