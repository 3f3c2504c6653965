//! `cargo xtask install`: puts a release build of `train_and_save` and the libraries that it needs
//! under a prefix.
//!
//! ```text
//! PREFIX/
//!   bin/train_and_save
//!   lib/train_and_save/       libtorch's CPU libraries
//!     cuda/torch/lib/         only if the user puts PyTorch with CUDA there
//! ```
//!
//! The program finds the libraries relative to itself ([`RUN_PATH`]). So `bin` and `lib` can be
//! moved together, and every user who may read them can run the program.

mod libraries;
mod placing;

use crate::{setup, shell};
use anyhow::{Context, Result, bail};
use libraries::Library;
use placing::Placed;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "train_and_save";
/// Read by `bins/rpath.rs`.
const RUN_PATH_VARIABLE: &str = "INSTALLED_RUN_PATH";
/// `libtorch_cuda.so` is not linked. The program opens it by its name, and the dynamic loader then
/// searches this path too.
const RUN_PATH: &str = "$ORIGIN/../lib/train_and_save:$ORIGIN/../lib/train_and_save/cuda/torch/lib";

/// Installs the program under `prefix`, or where `cargo install` would put it. Then starts it with
/// an empty environment, because it must not depend on this shell's variables.
pub fn run(prefix: Option<&str>) -> Result<()> {
    let libtorch = setup::ensure()?;
    let prefix = match prefix {
        Some(prefix) => std::path::absolute(prefix).with_context(|| format!("--prefix {prefix:?}"))?,
        None => default_prefix()?,
    };
    let (bin, lib) = (prefix.join("bin"), prefix.join("lib").join(PROGRAM));
    // A libtorch with CUDA has gigabytes of libraries, and opens some of them only when it runs.
    let carries_libraries = !libtorch.join("lib/libtorch_cuda.so").is_file();
    // The build takes minutes: what would fail after it should fail before it.
    for folder in [&bin, &lib].into_iter().take(if carries_libraries { 2 } else { 1 }) {
        placing::prepare_folder(folder).context(
            "choose a --prefix that you may write to; its bin and lib can be copied to their place by its owner",
        )?;
    }
    let built = build(carries_libraries.then_some(RUN_PATH))?;
    let program = bin.join(PROGRAM);
    let report = if carries_libraries {
        let needed = libraries::needed(&built, Some(&libtorch.join("lib")))?;
        let placed = place_libraries(&needed, &lib)?;
        placing::copy(&built, &program, placing::EXECUTABLE)?;
        check_origin(&program, &needed, &lib)?;
        format!(
            "libtorch's libraries ({placed}) are in {}. bin and lib can be moved together.",
            fs::canonicalize(&lib)?.display()
        )
    } else {
        placing::copy(&built, &program, placing::EXECUTABLE)?;
        format!(
            "It uses {} where it is, because that libtorch has CUDA: keep that folder. Other users can run the \
             program only if they can read it.",
            libtorch.display()
        )
    };
    shell::check(Command::new(&program).arg("--version").env_clear())?;
    println!("{} is ready. {report}", program.display());
    if !std::env::var_os("PATH").is_some_and(|paths| std::env::split_paths(&paths).any(|path| path == bin)) {
        println!("{} is not in PATH: add it, or start the program by its path.", bin.display());
    }
    Ok(())
}

/// The folder that `cargo install` uses by default.
fn default_prefix() -> Result<PathBuf> {
    ["CARGO_INSTALL_ROOT", "CARGO_HOME"]
        .iter()
        .find_map(|name| std::env::var_os(name).map(PathBuf::from))
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("no home folder: set HOME or CARGO_HOME, or give --prefix <folder>")
}

/// Builds the program; returns its path. Without a run path it has that of a build for this
/// machine.
fn build(run_path: Option<&str>) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command.args(["build", "--release", "--locked", "--package", PROGRAM]);
    match run_path {
        Some(run_path) => command.env(RUN_PATH_VARIABLE, run_path),
        None => command.env_remove(RUN_PATH_VARIABLE),
    };
    shell::run("build", &mut command)?;
    Ok(shell::dev_folder().with_file_name("release").join(PROGRAM))
}

/// Puts the libraries into `folder`, and removes those that an earlier version needed.
fn place_libraries(needed: &[Library], folder: &Path) -> Result<Placed> {
    let mut placed = Placed::default();
    for library in needed {
        placed += placing::link_or_copy(&library.path, &folder.join(&library.name))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_library = name.starts_with("lib") && name.contains(".so") && !entry.file_type()?.is_dir();
        if is_library && !needed.iter().any(|library| library.name == name) {
            setup::remove(&entry.path())?;
        }
    }
    Ok(placed)
}

/// Fails unless `program` finds the libraries in `folder` without help.
fn check_origin(program: &Path, needed: &[Library], folder: &Path) -> Result<()> {
    let folder = fs::canonicalize(folder)?;
    let found = libraries::needed(program, None)?;
    for library in needed {
        let place = found.iter().find(|found| found.name == library.name).map(|found| &found.path);
        if place.and_then(|path| path.parent()) != Some(&folder) {
            let place = place.map_or("nowhere".to_owned(), |path| path.display().to_string());
            bail!("{} finds {} in {place}, not in {}", program.display(), library.name, folder.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_an_earlier_version_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::create_dir_all(target.join("cuda/torch/lib")).unwrap();
        fs::create_dir_all(target.join("libraries.so")).unwrap();
        fs::create_dir(&source).unwrap();
        fs::write(source.join("libc10.so"), "new").unwrap();
        for name in ["libc10.so", "libcudart.so.12", "notes.txt", "cuda/torch/lib/libtorch_cuda.so"] {
            fs::write(target.join(name), "old").unwrap();
        }
        let needed = [Library { name: "libc10.so".to_owned(), path: source.join("libc10.so") }];
        place_libraries(&needed, &target).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["cuda", "libc10.so", "libraries.so", "notes.txt"]);
        assert_eq!(fs::read_to_string(target.join("libc10.so")).unwrap(), "new");
        assert!(target.join("cuda/torch/lib/libtorch_cuda.so").is_file());
    }

    #[test]
    fn the_run_path_is_relative_to_the_program() {
        for folder in RUN_PATH.split(':') {
            assert!(folder.starts_with("$ORIGIN/../lib/train_and_save"), "{folder}");
        }
    }
}
