//! `cargo xtask bench`: the parts of a training step on the CPU. Each part is checked and then
//! timed, next to a plain implementation of the same.
//!
//! The arguments are a folder with `model/` and `dataset/`, as `demo make` writes them, and the
//! names of the sections to run. Default: all sections.

mod checkpoint;
mod data;
mod models;
mod operations;
mod optimizer;
mod step;
mod table;

use anyhow::{Result, bail};
use std::path::Path;

type Section = fn(&Path) -> Result<()>;

const SECTIONS: [(&str, Section); 5] = [
    ("operations", operations::run),
    ("optimizer", optimizer::run),
    ("step", step::run),
    ("data", data::run),
    ("checkpoint", checkpoint::run),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((folder, wanted)) = arguments.split_first() else {
        bail!("usage: bench <folder of the demo> [section...]");
    };
    let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("no section {unknown}; there are {}", names.join(", "));
    }
    println!("{} threads; medians, with the middle half of the times; variants run in turn", tch::get_num_threads());
    for (name, run) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run(Path::new(folder))?;
        }
    }
    Ok(())
}
