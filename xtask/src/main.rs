//! `cargo xtask <verb>`: the tasks of this repository.
//!
//! It needs Rust, a C++ compiler and python3 with pip. [`setup`] downloads libtorch once for all
//! clones and makes the link `.libtorch` that `.cargo/config.toml` points at. The other verbs that
//! need libtorch call it first, so every verb works in a fresh clone. Each step prints what it runs
//! and how long it took.

mod bench;
mod checks;
mod demo;
mod direction;
mod fuzz;
mod install;
mod python;
mod setup;
mod shell;
mod shell_files;
mod soak;
mod style;
mod torture;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <verb>

  setup         download libtorch into the user's cache, once for all clones, and link it as .libtorch
  setup --cuda  download PyTorch with CUDA as well, for a GPU machine without a Python torch
  demo          make a small model and dataset in demo-out/, train on them on the CPU, write a sample
  test          everything CI checks: lint, then all tests
  bench [section]
                check and time the parts of a step on the CPU: operations, optimizer, step, data, checkpoint
  fuzz --minutes <n> [target]
                read damaged files for n minutes a target: config, weights, tokenizer, template, checkpoint,
                optimizer, dataset
  soak --minutes <n>
                a run that logs, evaluates and saves all the time; fails if its memory or its open files grow
  lint          style, formatting, dependency direction, clippy, documentation
  torture [kills] [seed]
                kill runs at random instants and resume them, 200 times
  validate      test, then demo: run it before a release
  install [--prefix <folder>]
                build train_and_save in release mode and put it into <folder>/bin and its libraries into
                <folder>/lib/train_and_save, by default in cargo's own folder
  completions [folder]
                write what bash, zsh and fish need to complete flags, by default into target/completions
  man [folder]  write a manual page, by default into target/man
  help          this text

LIBTORCH=<folder> or LIBTORCH_USE_PYTORCH=1 in the environment: use that libtorch 2.11.0 and download nothing.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["setup"] => setup::ensure().map(|place| println!("libtorch {}: {}", setup::VERSION, place.display())),
        ["setup", "--cuda"] => setup::cuda(),
        ["bench", ref sections @ ..] => bench::run(sections),
        ["fuzz", ref arguments @ ..] => fuzz::run(arguments),
        ["soak", ref arguments @ ..] => soak::run(arguments),
        ["demo"] => demo::run(),
        ["test"] => checks::test(),
        ["lint"] => checks::lint(),
        ["validate"] => checks::test().and_then(|()| demo::run()),
        ["torture", ref rest @ ..] if rest.len() <= 2 => torture::run(rest),
        ["install"] => install::run(None),
        ["install", "--prefix", prefix] => install::run(Some(prefix)),
        [what @ ("completions" | "man")] => shell_files::run(what, None),
        [what @ ("completions" | "man"), folder] => shell_files::run(what, Some(folder)),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        [] => return usage("no verb given"),
        [verb, ..] => return usage(&format!("unknown verb or option: {verb} {}", arguments[1..].join(" "))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("error: {}\n\n{HELP}", problem.trim_end());
    ExitCode::from(2)
}
