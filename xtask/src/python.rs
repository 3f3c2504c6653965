//! Runs python3 and pip. Errors are one line and say what to install.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `python3`, without the libtorch that cargo's configuration puts on the loader path.
pub fn python3() -> Command {
    let mut command = shell::command("python3");
    if let Some(paths) = std::env::var_os("LD_LIBRARY_PATH") {
        let kept = std::env::split_paths(&paths).filter(|path| !path.starts_with(shell::root()));
        match std::env::join_paths(kept) {
            Ok(kept) if !kept.is_empty() => command.env("LD_LIBRARY_PATH", kept),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    command
}

/// Fails unless python3 and pip are installed.
pub fn check_pip() -> Result<()> {
    if shell::output(python3().arg("--version")).is_none() {
        bail!("python3 not found: install it (Debian, Ubuntu: apt install python3 python3-pip)");
    }
    if shell::output(python3().args(["-m", "pip", "--version"])).is_none() {
        bail!(
            "python3 has no pip: install it (Debian, Ubuntu: apt install python3-pip; elsewhere: python3 -m ensurepip)"
        );
    }
    Ok(())
}

/// A wheel to download with pip.
pub struct Wheel {
    pub package: &'static str,
    pub version: &'static str,
    pub file_name: &'static str,
    pub size_bytes: u64,
    pub sha256: &'static str,
}

/// Downloads `wheel` into `folder`, for CPython 3.12 on `platforms`, whatever version python3 has.
pub fn download(wheel: &Wheel, platforms: &[String], folder: &Path) -> Result<()> {
    let mut command = python3();
    command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]);
    command.args(["--disable-pip-version-check", "--python-version", "3.12", "--implementation", "cp"]);
    command.args(["--abi", "cp312", "--abi", "none"]);
    for platform in platforms {
        command.args(["--platform", platform]);
    }
    if shell::output(python3().args(["-m", "pip", "download", "--help"]))
        .is_some_and(|help| help.contains("--resume-retries"))
    {
        command.args(["--resume-retries", "20"]);
    }
    command.arg("--dest").arg(folder).arg(format!("{}=={}", wheel.package, wheel.version));
    // pip stores a download in the temporary folder first, which is often small and in memory.
    run_pip(command.env("TMPDIR", folder))
}

/// Installs `requirement` and its dependencies into `folder`.
pub fn install(requirement: &str, folder: &Path) -> Result<()> {
    let mut command = python3();
    command.args(["-m", "pip", "install", "--disable-pip-version-check", "--upgrade", "--target"]);
    run_pip(command.arg(folder).arg(requirement))
}

/// Runs pip. Its progress goes to the terminal; of its error output only the reason is kept.
fn run_pip(command: &mut Command) -> Result<()> {
    let output =
        command.stderr(Stdio::piped()).spawn().and_then(|child| child.wait_with_output()).context("cannot run pip")?;
    if output.status.success() {
        return Ok(());
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    // After its retries pip reports only that it found no such package.
    if complaints.contains("WARNING: Retrying") {
        bail!("pip cannot reach its package index");
    }
    let reason = complaints.lines().rev().find_map(|line| line.strip_prefix("ERROR: "));
    bail!("pip: {}", reason.or(complaints.lines().next_back()).unwrap_or("no reason given"))
}

/// Unpacks what the set-up needs of a wheel into `folder/include` and `folder/lib`.
pub fn unpack(wheel: &Path, folder: &Path) -> Result<()> {
    shell::check(python3().arg("-c").arg(include_str!("unpack.py")).args([wheel, folder]))
}

/// Free bytes on the file system of `folder`.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    let script = "import shutil, sys; print(shutil.disk_usage(sys.argv[1]).free)";
    shell::output(python3().args(["-c", script]).arg(folder))
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("cannot find out the free space at {}", folder.display()))
}

/// The folder and the version of torch in the Python environment in use.
pub fn installed_torch() -> Result<(PathBuf, String)> {
    // This is the interpreter that torch-sys uses: `python` in a virtual environment, else python3.
    let mut command = python3();
    if std::env::var_os("VIRTUAL_ENV").is_some() {
        let environment =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect::<Vec<_>>();
        command = shell::command("python");
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
    let script = "import os, torch; print(os.path.dirname(torch.__file__)); print(torch.__version__)";
    let text = shell::output(command.args(["-c", script]));
    let (folder, version) = text
        .as_deref()
        .and_then(|text| text.split_once('\n'))
        .context("LIBTORCH_USE_PYTORCH is set, but python3 cannot import torch: install torch==2.11.0 or unset it")?;
    Ok((folder.into(), version.trim().to_owned()))
}
