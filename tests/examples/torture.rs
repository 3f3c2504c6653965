//! `cargo xtask torture [kills] [seed]`: the long version of the kill test.

use anyhow::{Context, Result};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use whole_program_tests::torture;

/// The default number of kills.
const KILLS: usize = 200;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kills = arguments.first().map_or(Ok(KILLS), |text| text.parse()).context("the number of kills")?;
    let seed = match arguments.get(1) {
        Some(text) => text.parse().context("the seed")?,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("{kills} kills, seed {seed}");
    let started = Instant::now();
    let tortured = torture(kills, seed, |tortured| println!("{tortured}"))?;
    println!("no failure: {tortured}, {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
