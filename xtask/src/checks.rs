//! `cargo xtask lint` and `cargo xtask test`: what CI checks, cheapest first.

use crate::{setup, shell};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Lint, then all tests, documentation tests included.
pub fn test() -> Result<()> {
    lint()?;
    let libtorch = setup::ensure()?;
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--locked"]);
    // cargo's configuration sets this only where the user has not.
    shell::run("tests", command.env("LD_LIBRARY_PATH", loader_path(&libtorch.join("lib"))?))
}

/// Formatting, dependency direction, clippy and documentation, warnings being errors.
pub fn lint() -> Result<()> {
    if has("fmt", "rustfmt")? {
        shell::run("formatting", shell::cargo().args(["fmt", "--all", "--check"]))?;
    }
    setup::ensure()?;
    shell::step("dependency direction", direction)?;
    if has("clippy", "clippy")? {
        let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        shell::run("clippy", shell::cargo().args(arguments))?;
    }
    let mut command = shell::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--locked"]);
    shell::run("documentation", command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Whether cargo has the subcommand. CI must have it; a newcomer's minimal toolchain may lack it.
fn has(subcommand: &str, component: &str) -> Result<bool> {
    if shell::output(shell::cargo().args([subcommand, "--version"])).is_some() {
        return Ok(true);
    }
    if std::env::var_os("CI").is_some() {
        bail!("cargo {subcommand} is missing: rustup component add {component}");
    }
    println!("\n== cargo {subcommand} left out: not installed (rustup component add {component})");
    Ok(false)
}

fn loader_path(libtorch: &Path) -> Result<std::ffi::OsString> {
    let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = std::iter::once(libtorch.to_path_buf()).chain(std::env::split_paths(&before));
    std::env::join_paths(paths.filter(|path| !path.as_os_str().is_empty())).context("LD_LIBRARY_PATH")
}

/// The libraries that a library of this workspace may know, itself excepted. Only the programs and
/// the whole-program tests know several.
const MAY_KNOW: [(&str, &[&str]); 3] =
    [("checkpoint-callbacks", &["trainer-core"]), ("causal-lm", &["torch-ext"]), ("galore-optim", &["torch-ext"])];

fn direction() -> Result<()> {
    let mut command = shell::cargo();
    command.args(["tree", "--workspace", "--all-features", "--depth", "1", "--prefix", "depth", "--locked"]);
    let tree = cargo_tree(&mut command)?;
    let broken = broken_edges(&tree, &shell::root().to_string_lossy());
    if !broken.is_empty() {
        bail!("{}; ARCHITECTURE.md draws the direction", broken.join("; "));
    }
    Ok(())
}

fn cargo_tree(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The dependencies between workspace members in `tree` that are not allowed, each as a sentence.
///
/// `tree` has lines such as `0causal-lm v0.1.0 (/repo/crates/causal-lm)`, and
/// `1torch-ext v0.1.0 (/repo/crates/torch-ext)` under it for each dependency.
fn broken_edges(tree: &str, root: &str) -> Vec<String> {
    let may_know: BTreeMap<_, _> = MAY_KNOW.into_iter().collect();
    // (name, whether it is a library of this workspace), for members only.
    let member = |package: &str| {
        let (name, rest) = package.split_once(' ')?;
        let (_, path) = rest.split_once(&format!("({root}/"))?;
        Some((name.to_owned(), path.starts_with("crates/")))
    };
    let mut broken = Vec::new();
    let mut parent = None;
    for line in tree.lines() {
        if let Some(package) = line.strip_prefix('0') {
            parent = member(package);
        } else if let (Some((parent, is_library)), Some(package)) = (&parent, line.strip_prefix('1'))
            && let Some((name, _)) = member(package)
            && (*is_library || parent == "xtask")
            && !may_know.get(parent.as_str()).is_some_and(|known| known.contains(&name.as_str()))
        {
            broken.push(format!("{parent} must not depend on {name}"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::broken_edges;

    #[test]
    fn names_each_edge_that_is_not_drawn() {
        let tree = "\
0causal-lm v0.1.0 (/repo/crates/causal-lm)
1serde v1.0.0
1torch-ext v0.1.0 (/repo/crates/torch-ext)
[dev-dependencies]
1sft-data v0.1.0 (/repo/crates/sft-data)

0train_and_save v0.1.0 (/repo/bins/train_and_save)
1causal-lm v0.1.0 (/repo/crates/causal-lm) (*)
1sft-data v0.1.0 (/repo/crates/sft-data)

0sft-data v0.1.0 (/repo/crates/sft-data)
1trainer-core v0.1.0 (/repo/crates/trainer-core)

0xtask v0.1.0 (/repo/xtask)
1trainer-core v0.1.0 (/repo/crates/trainer-core)
";
        assert_eq!(
            broken_edges(tree, "/repo"),
            [
                "causal-lm must not depend on sft-data",
                "sft-data must not depend on trainer-core",
                "xtask must not depend on trainer-core"
            ]
        );
    }
}
