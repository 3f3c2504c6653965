//! Writes completions for shells and a manual page, for `cargo xtask completions` and
//! `cargo xtask man`: `shell_files completions <folder>` or `shell_files man <folder>`.

use anyhow::{Context, Result, bail};
use clap::Command;
use clap_complete::Shell;
use std::path::Path;

#[allow(dead_code)]
#[path = "../src/failure.rs"]
mod failure;
#[allow(dead_code)]
#[path = "../src/flags.rs"]
mod flags;
#[allow(dead_code)]
#[path = "../src/terminal.rs"]
mod terminal;
#[allow(dead_code)]
#[path = "../src/verbs.rs"]
mod verbs;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, folder] = arguments.as_slice() else { bail!("usage: shell_files completions|man <folder>") };
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    write(what, folder, flags::Flags::command_for_help()).with_context(|| format!("cannot write to {folder:?}"))
}

fn write(what: &str, folder: &Path, mut command: Command) -> Result<()> {
    let name = command.get_name().to_owned();
    match what {
        "completions" => {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                println!("{}", clap_complete::generate_to(shell, &mut command, &name, folder)?.display());
            }
        }
        "man" => {
            let path = folder.join(format!("{name}.1"));
            clap_mangen::Man::new(command).render(&mut std::fs::File::create(&path)?)?;
            println!("{}", path.display());
        }
        other => bail!("{other} is neither completions nor man"),
    }
    Ok(())
}
