//! The direction of dependencies between the workspace's packages, part of `cargo xtask lint`.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::process::Command;

/// Which workspace libraries a package may depend on.
enum MayKnow {
    All,
    Only(&'static [&'static str]),
}

/// What `package` may depend on. `folder` is the package's folder, relative to the root.
fn may_know(package: &str, folder: &str) -> MayKnow {
    match package {
        "sft-trainer" => MayKnow::All,
        "checkpoint-callbacks" | "run-reports" => MayKnow::Only(&["trainer-core"]),
        "causal-lm" | "galore-optim" => MayKnow::Only(&["torch-ext"]),
        // The command line. Besides the library that does the run, it knows the crates whose types
        // its wiring names.
        "train_and_save" => MayKnow::Only(&["sft-trainer", "trainer-core", "checkpoint-callbacks"]),
        "xtask" => MayKnow::Only(&[]),
        // A crate that is not named above stands alone.
        _ if folder.starts_with("crates/") => MayKnow::Only(&[]),
        // The whole-program tests and the demo.
        _ => MayKnow::All,
    }
}

/// Fails if a package depends on a workspace library that it must not know.
pub fn check() -> Result<()> {
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

/// Returns a sentence for each dependency between workspace packages in `tree` that is not allowed.
///
/// `tree` has a line such as `0causal-lm v0.1.0 (/repo/crates/causal-lm)` for each package, and
/// below it a line such as `1torch-ext v0.1.0 (/repo/crates/torch-ext)` for each dependency.
fn broken_edges(tree: &str, root: &str) -> Vec<String> {
    // The name and the folder of a package of this workspace.
    let member = |package: &str| {
        let (name, rest) = package.split_once(' ')?;
        let (_, folder) = rest.split_once(&format!("({root}/"))?;
        let (folder, _) = folder.split_once(')')?;
        Some((name.to_owned(), folder.to_owned()))
    };
    let mut broken = Vec::new();
    let mut parent = None;
    for line in tree.lines() {
        if let Some(package) = line.strip_prefix('0') {
            parent = member(package);
        } else if let (Some((parent, folder)), Some(package)) = (&parent, line.strip_prefix('1'))
            && let Some((name, _)) = member(package)
            // A crate may be its own dev-dependency, to turn on features for its tests.
            && name != *parent
            && let MayKnow::Only(known) = may_know(parent, folder)
            && !known.contains(&name.as_str())
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
    fn names_each_edge_that_is_not_allowed() {
        let tree = "\
0causal-lm v0.1.0 (/repo/crates/causal-lm)
1serde v1.0.0
1torch-ext v0.1.0 (/repo/crates/torch-ext)
[dev-dependencies]
1sft-data v0.1.0 (/repo/crates/sft-data)

0train_and_save v0.1.0 (/repo/bins/train_and_save)
1causal-lm v0.1.0 (/repo/crates/causal-lm) (*)
1sft-trainer v0.1.0 (/repo/crates/sft-trainer)
1trainer-core v0.1.0 (/repo/crates/trainer-core)

0sft-data v0.1.0 (/repo/crates/sft-data)
1trainer-core v0.1.0 (/repo/crates/trainer-core)

0xtask v0.1.0 (/repo/xtask)
1trainer-core v0.1.0 (/repo/crates/trainer-core)
";
        assert_eq!(
            broken_edges(tree, "/repo"),
            [
                "causal-lm must not depend on sft-data",
                "train_and_save must not depend on causal-lm",
                "sft-data must not depend on trainer-core",
                "xtask must not depend on trainer-core"
            ]
        );
    }

    #[test]
    fn allows_the_run_the_tests_and_a_crate_itself() {
        let tree = "\
0sft-trainer v0.1.0 (/repo/crates/sft-trainer)
1causal-lm v0.1.0 (/repo/crates/causal-lm)
1sft-data v0.1.0 (/repo/crates/sft-data)

0demo v0.1.0 (/repo/bins/demo)
1causal-lm v0.1.0 (/repo/crates/causal-lm)

0whole-program-tests v0.1.0 (/repo/tests)
1sft-data v0.1.0 (/repo/crates/sft-data)

0trainer-core v0.1.0 (/repo/crates/trainer-core)
[dev-dependencies]
1trainer-core v0.1.0 (/repo/crates/trainer-core) (*)
";
        assert_eq!(broken_edges(tree, "/repo"), Vec::<String>::new());
    }
}
