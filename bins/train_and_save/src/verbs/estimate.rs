//! `estimate`: what a run would cost.

use super::{Verb, config_without_output, json_flag, print_json};
use crate::failure::Failure;
use crate::terminal::print;
use anyhow::Result;
use clap::{Arg, ArgMatches};
use sft_trainer::config::Layers;
use sft_trainer::verbs::estimate::{CARDS, Card, estimate};

pub const VERB: Verb = Verb {
    name: "estimate",
    about: "Estimate memory by part and the time of a step on a card, and what makes it fit",
    arguments,
    answer,
};

fn arguments() -> Vec<Arg> {
    let card = Arg::new("card").long("card").value_name("NAME").num_args(1..);
    vec![card.help("Cards, such as H100, A100, L40S or 4090 [default: all that are known]"), json_flag()]
}

fn answer(settings: Layers, matches: &ArgMatches) -> Result<()> {
    let names: Vec<&String> = matches.get_many("card").into_iter().flatten().collect();
    let card = |name: &&String| {
        let known = CARDS.iter().map(|card| card.name).collect::<Vec<_>>().join(", ");
        Card::named(name).copied().ok_or_else(|| Failure::usage(format!("--card {name} is not known: use {known}")))
    };
    let cards = names.iter().map(card).collect::<Result<Vec<_>>>()?;
    let cards = if cards.is_empty() { CARDS } else { &cards };
    let found = estimate(&config_without_output(settings)?, None, cards).map_err(Failure::before_training)?;
    if matches.get_flag("json") {
        print_json(&found)?
    } else {
        print(&found.text())
    }
    Ok(())
}
