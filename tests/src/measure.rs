//! Times variants of the same work in turn, so that other load on the machine affects all of them
//! equally.

use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// One way to do the work.
pub struct Variant<'a> {
    name: String,
    run: Box<dyn FnMut() -> Result<Duration> + 'a>,
}

impl<'a> Variant<'a> {
    /// A variant whose whole `run` is timed.
    pub fn new<T>(name: impl Into<String>, mut run: impl FnMut() -> Result<T> + 'a) -> Self {
        Self::timed_by_itself(name, move || {
            let start = Instant::now();
            run()?;
            Ok(start.elapsed())
        })
    }

    /// A variant whose `run` returns the time that counts, because it also does other work.
    pub fn timed_by_itself(name: impl Into<String>, run: impl FnMut() -> Result<Duration> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// How long a variant took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The name of the variant.
    pub name: String,
    /// Median of the times, in seconds.
    pub median: f64,
    /// First and third quartile of the times, in seconds.
    pub quartiles: [f64; 2],
    /// Median over the rounds of the time of the first variant divided by the time of this one.
    /// Above 1 if this one is faster.
    pub speed_beside_first: f64,
}

/// The number of rounds is at least this, however long they take.
const FEWEST_ROUNDS: usize = 5;

/// Runs all variants once to warm up, and then in turn until `time` is over, at least five times.
///
/// # Errors
/// Those of the variants.
pub fn in_turn(mut variants: Vec<Variant>, time: Duration) -> Result<Vec<Timing>> {
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    let mut round = || -> Result<Vec<f64>> {
        let run = |variant: &mut Variant| (variant.run)().with_context(|| variant.name.clone());
        variants.iter_mut().map(|variant| Ok(run(variant)?.as_secs_f64())).collect()
    };
    round()?;
    let start = Instant::now();
    while rounds.len() < FEWEST_ROUNDS || start.elapsed() < time {
        rounds.push(round()?);
    }
    Ok(variants.iter().enumerate().map(|(index, variant)| summary(&variant.name, index, &rounds)).collect())
}

fn summary(name: &str, index: usize, rounds: &[Vec<f64>]) -> Timing {
    let times = sorted(rounds.iter().map(|round| round[index]));
    let ratios = sorted(rounds.iter().map(|round| round[0] / round[index].max(f64::MIN_POSITIVE)));
    let quantile = |sorted: &[f64], part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
    Timing {
        name: name.to_owned(),
        median: quantile(&times, 0.5),
        quartiles: [quantile(&times, 0.25), quantile(&times, 0.75)],
        speed_beside_first: quantile(&ratios, 0.5),
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_compared_one_by_one() {
        // The machine was three times as slow in the last two of five rounds.
        let rounds: Vec<Vec<f64>> = [1.0, 1.0, 1.0, 3.0, 3.0].iter().map(|slow| vec![4.0 * slow, 2.0 * slow]).collect();
        let second = summary("second", 1, &rounds);
        assert_eq!((second.median, second.quartiles, second.speed_beside_first), (2.0, [2.0, 6.0], 2.0));
        assert_eq!(summary("first", 0, &rounds).speed_beside_first, 1.0);
    }

    #[test]
    fn variants_take_turns_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(Vec::new());
        let variant = |name: &'static str| {
            let order = &order;
            Variant::timed_by_itself(name, move || {
                order.borrow_mut().push(name);
                Ok(if order.borrow().len() <= 2 { Duration::from_secs(100) } else { Duration::from_secs(1) })
            })
        };
        let timings = in_turn(vec![variant("a"), variant("b")], Duration::ZERO).unwrap();
        assert_eq!(order.borrow().len(), 2 * (FEWEST_ROUNDS + 1));
        assert_eq!(order.borrow()[..4], ["a", "b", "a", "b"]);
        assert_eq!((timings[0].median, timings[1].name.as_str()), (1.0, "b"));
        let failing = vec![Variant::new("c", || -> Result<()> { anyhow::bail!("no") })];
        assert_eq!(format!("{:#}", in_turn(failing, Duration::ZERO).unwrap_err()), "c: no");
    }
}
