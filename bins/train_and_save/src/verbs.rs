//! Questions about a run that can be asked without it: `train_and_save <verb>`.
//!
//! A verb takes the flags of a run and its own. The answers are made in libraries.

mod estimate;
mod inspect;
mod report;

use crate::failure::Failure;
use crate::flags::Flags;
use crate::terminal;
use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command};
use sft_trainer::SftConfig;
use sft_trainer::config::Layers;
use std::path::PathBuf;

/// A question.
#[derive(Debug)]
pub struct Verb {
    name: &'static str,
    about: &'static str,
    /// Its own arguments.
    arguments: fn() -> Vec<Arg>,
    answer: fn(Layers, &ArgMatches) -> Result<()>,
}

const VERBS: [Verb; 3] = [inspect::VERB, estimate::VERB, report::VERB];

/// The verb of this name.
pub fn find(name: &str) -> Option<&'static Verb> {
    const { &VERBS }.iter().find(|verb| verb.name == name)
}

/// All verbs, for the program's help.
pub fn listed() -> String {
    let lines = VERBS.map(|verb| format!("  {:<10}{}", verb.name, verb.about));
    format!("Without training (train_and_save VERB --help):\n{}", lines.join("\n"))
}

impl Verb {
    /// The command: the verb's arguments before those of a run.
    pub fn command(&self) -> Command {
        let heading = "This verb";
        let own = (self.arguments)().into_iter().map(|argument| argument.help_heading(heading).display_order(0));
        let name = format!("train_and_save {}", self.name);
        let command = Flags::command_for_parsing().bin_name(name).about(self.about).long_about(None).after_help("");
        command.args(own)
    }

    /// Whether it has a flag of this name.
    pub fn has_flag(&self, name: &str) -> bool {
        (self.arguments)().iter().any(|argument| argument.get_long() == Some(name))
    }

    /// Prints the answer.
    ///
    /// # Errors
    /// What is wrong with the arguments or with what is asked about.
    pub fn answer(&self, settings: Layers, matches: &ArgMatches) -> Result<()> {
        (self.answer)(settings, matches)
    }
}

/// The configuration of a run. Options without effect are told.
///
/// # Errors
/// Everything that is wrong with the options, in one line.
pub fn config(settings: Layers) -> Result<SftConfig> {
    let warning = settings.warning();
    let config = settings.config().map_err(Failure::before_training)?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// The configuration of a run that will not be made, so it needs no folder.
fn config_without_output(mut settings: Layers) -> Result<SftConfig> {
    settings.options.entry("output_dir").or_insert_with(|| ".".into());
    config(settings)
}

/// The flag `--json`.
fn json_flag() -> Arg {
    Arg::new("json")
        .long("json")
        .num_args(0)
        .default_missing_value("true")
        .help("Print one JSON object")
        .action(clap::ArgAction::SetTrue)
}

/// The flag `--html FILE`.
fn html_flag() -> Arg {
    Arg::new("html")
        .long("html")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Write a page for a browser into this file")
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    terminal::print(&format!("{}\n", serde_json::to_string_pretty(value).context("cannot write JSON")?));
    Ok(())
}

/// Writes the page and says where it is.
fn write_page(path: &PathBuf, page: &str) -> Result<()> {
    std::fs::write(path, page)
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Failure::before_training)?;
    tracing::info!("{} is written: open it in a browser", path.display());
    Ok(())
}
