//! `report`: a page about runs that were made.

use super::{Verb, html_flag, write_page};
use crate::failure::Failure;
use anyhow::Result;
use clap::{Arg, ArgMatches, value_parser};
use sft_trainer::callbacks::{HtmlReport, RunRecord, report_page};
use sft_trainer::config::Layers;
use std::path::PathBuf;

pub const VERB: Verb = Verb {
    name: "report",
    about: "Write a page about a run, or one that compares several, from their output folders",
    arguments,
    answer,
};

fn arguments() -> Vec<Arg> {
    let runs = Arg::new("runs").value_name("DIR").num_args(1..).required(true).value_parser(value_parser!(PathBuf));
    let html = html_flag().help("Where the page goes [default: report.html, in the folder of a single run]");
    vec![runs.help("Output folders of runs, of Hugging Face's Trainer too"), html]
}

fn answer(settings: Layers, matches: &ArgMatches) -> Result<()> {
    if let Some(name) = settings.options.keys().next() {
        return Err(Failure::usage(format!("`{name}` has no effect on report: leave it out")));
    }
    let folders: Vec<&PathBuf> = matches.get_many("runs").into_iter().flatten().collect();
    let runs = folders.iter().map(|folder| RunRecord::read(folder)).collect::<Result<Vec<_>, _>>();
    let runs = runs.map_err(Failure::before_training)?;
    let beside = match folders[..] {
        [folder] => folder.join(HtmlReport::FILE_NAME),
        _ => PathBuf::from(HtmlReport::FILE_NAME),
    };
    write_page(matches.get_one("html").unwrap_or(&beside), &report_page(&runs))
}
