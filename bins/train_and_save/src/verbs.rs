//! Questions about a run that can be asked without it: `train_and_save <verb>`.
//!
//! A verb takes the flags of a run and its own. The answers are made in `sft_trainer::verbs`.

use crate::failure::Failure;
use crate::flags::Flags;
use crate::terminal;
use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use sft_trainer::config::Layers;
use sft_trainer::verbs::{Answer, Colours, doctor, estimate, inspect, report};
use sft_trainer::{SftConfig, cache_folder};
use std::path::PathBuf;

/// A question.
#[derive(Debug)]
pub struct Verb {
    name: &'static str,
    about: &'static str,
    /// Its own arguments.
    arguments: fn() -> Vec<Arg>,
    answer: fn(Layers, &ArgMatches) -> Result<Box<dyn Answer>>,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "inspect",
        about: "Show what a run would learn from its rows: splits, lengths, what is masked and cut off",
        arguments: || {
            let rows = Arg::new("rows").long("rows").value_name("N").value_parser(value_parser!(usize));
            vec![rows.default_value("3").help("Rows of each split to show"), json_flag(), html_flag()]
        },
        answer: |settings, matches| {
            let rows = matches.get_one("rows").copied().unwrap_or_default();
            boxed(inspect::inspect(&config_without_output(settings)?, None, rows))
        },
    },
    Verb {
        name: "estimate",
        about: "Estimate memory by part and the time of a step on a card, and what makes it fit",
        arguments: || {
            let card = Arg::new("card").long("card").value_name("NAME").num_args(1..);
            vec![card.help("Cards, such as H100, A100, L40S or 4090 [default: all that are known]"), json_flag()]
        },
        answer: |settings, matches| {
            let names: Vec<String> = matches.get_many("card").into_iter().flatten().cloned().collect();
            boxed(estimate::estimate(&config_without_output(settings)?, None, &names))
        },
    },
    Verb {
        name: "doctor",
        about: "Check driver, libraries, kernels, memory, disk, hub and token; exit code 1 for an error",
        arguments: || vec![json_flag()],
        answer: |mut settings, _| {
            // No model is looked at.
            settings.options.entry("model_name").or_insert_with(|| ".".into());
            let config = config_without_output(settings)?;
            Ok(Box::new(doctor::examine(&config, None, cache_folder("train_and_save").as_deref())))
        },
    },
    Verb {
        name: "report",
        about: "Write a page about a run, or one that compares several, from their output folders",
        arguments: || {
            let folders = Arg::new("folders").value_name("DIR").num_args(1..).required(true);
            let folders = folders.value_parser(value_parser!(PathBuf));
            vec![folders.help("Output folders of runs, of Hugging Face's Trainer too"), html_flag()]
        },
        answer: |settings, matches| {
            if let Some(name) = settings.options.keys().next() {
                return Err(Failure::usage(format!("`{name}` has no effect on report: leave it out")));
            }
            let folders: Vec<PathBuf> = matches.get_many("folders").into_iter().flatten().cloned().collect();
            boxed(report::report(&folders))
        },
    },
];

/// The verb of this name.
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// All verbs, for the program's help.
pub fn listed() -> String {
    let lines: Vec<_> = VERBS.iter().map(|verb| format!("  {:<10}{}", verb.name, verb.about)).collect();
    format!("Without training (train_and_save VERB --help):\n{}", lines.join("\n"))
}

impl Verb {
    /// The command: the verb's arguments before those of a run.
    pub fn command(&self) -> Command {
        let own = (self.arguments)().into_iter().map(|argument| argument.help_heading("This verb").display_order(0));
        let command = Flags::command_for_parsing().bin_name(format!("train_and_save {}", self.name));
        command.about(self.about).long_about(None).after_help("").args(own)
    }

    /// Whether it has a flag of this name.
    pub fn has_flag(&self, name: &str) -> bool {
        (self.arguments)().iter().any(|argument| argument.get_long() == Some(name))
    }

    /// Prints the answer, or writes it as a page.
    ///
    /// # Errors
    /// What is wrong with the arguments or with what is asked about.
    pub fn answer(&self, settings: Layers, matches: &ArgMatches) -> Result<()> {
        let answer = (self.answer)(settings, matches)?;
        let path = matches.try_get_one::<PathBuf>("html").ok().flatten().cloned().or_else(|| answer.usual_page());
        let wants_json = matches.try_get_one("json").ok().flatten() == Some(&true);
        let colours = if terminal::has_colours() { Colours::Terminal } else { Colours::None };
        match (path.and_then(|path| Some((path, answer.html()?))), answer.json().filter(|_| wants_json)) {
            (Some((path, page)), _) => {
                let written = std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()));
                written.map_err(Failure::before_training)?;
                tracing::info!("{} is written: open it in a browser", path.display());
            }
            (None, Some(value)) => terminal::print(&format!("{value:#}\n")),
            (None, None) => terminal::print(&answer.text(colours)),
        }
        match answer.failure() {
            Some(failure) => bail!(failure),
            None => Ok(()),
        }
    }
}

/// The configuration of a run that will not be made, so it needs no folder.
fn config_without_output(mut settings: Layers) -> Result<SftConfig> {
    settings.options.entry("output_dir").or_insert_with(|| ".".into());
    settings.config().map_err(Failure::before_training)
}

fn boxed(answer: Result<impl Answer + 'static, sft_trainer::Error>) -> Result<Box<dyn Answer>> {
    Ok(Box::new(answer.map_err(Failure::before_training)?))
}

fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON value")
}

fn html_flag() -> Arg {
    let help = "Write a page for a browser into this file [report: report.html, in the folder of a single run]";
    Arg::new("html").long("html").value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
}
