//! `inspect`: what a run would learn.

use super::{Verb, config_without_output, html_flag, json_flag, print_json, write_page};
use crate::failure::Failure;
use crate::terminal::{has_colours, print};
use anyhow::Result;
use clap::{Arg, ArgMatches, value_parser};
use sft_trainer::config::Layers;
use sft_trainer::verbs::inspect::{Colours, inspect};
use std::path::PathBuf;

pub const VERB: Verb = Verb {
    name: "inspect",
    about: "Show what a run would learn from its rows: splits, lengths, what is masked and cut off",
    arguments,
    answer,
};

fn arguments() -> Vec<Arg> {
    let rows = Arg::new("rows").long("rows").value_name("N").value_parser(value_parser!(usize)).default_value("3");
    vec![rows.help("Rows of each split to show"), json_flag(), html_flag()]
}

fn answer(settings: Layers, matches: &ArgMatches) -> Result<()> {
    let rows = matches.get_one("rows").copied().unwrap_or(3);
    let inspection = inspect(&config_without_output(settings)?, None, rows).map_err(Failure::before_training)?;
    if let Some(path) = matches.get_one::<PathBuf>("html") {
        write_page(path, &inspection.html())?;
    } else if matches.get_flag("json") {
        print_json(&inspection)?;
    } else {
        print(&inspection.text(if has_colours() { Colours::Terminal } else { Colours::None }));
    }
    Ok(())
}
