//! Checks results and prints the lines of the table.

use anyhow::{Result, ensure};
use std::time::Duration;
use tch::{Kind, Tensor};
use whole_program_tests::measure::{Variant, in_turn};

/// Total time for the variants of one line.
pub const TIME: Duration = Duration::from_millis(1500);

/// The work of one run: an amount of a unit.
#[derive(Clone, Copy)]
pub struct Work {
    pub amount: f64,
    pub unit: &'static str,
}

impl Work {
    /// Arithmetic operations.
    pub fn flop(amount: f64) -> Self {
        Self { amount: amount / 1e9, unit: "GFLOP/s" }
    }

    /// The least number of bytes that must be read and written.
    pub fn bytes(amount: f64) -> Self {
        Self { amount: amount / 1e9, unit: "GB/s" }
    }

    /// An amount, counted in thousands.
    pub fn thousand(amount: f64, unit: &'static str) -> Self {
        Self { amount: amount / 1e3, unit }
    }
}

/// Prints the title of a section and the head of its table.
pub fn head(title: &str) {
    println!("\n{title}");
    println!("  {:30} {:34} {:>10} {:>19} {:>18} {:>8}", "", "", "ms", "middle half", "rate", "speed");
}

/// Times the variants and prints a line for each. The last column is the speed relative to the
/// first variant.
pub fn line(what: &str, work: Work, variants: Vec<Variant>, time: Duration) -> Result<()> {
    for (index, timing) in in_turn(variants, time)?.iter().enumerate() {
        let [low, high] = timing.quartiles.map(|seconds| seconds * 1e3);
        let speed = if index == 0 { String::new() } else { format!("{:.2}x", timing.speed_beside_first) };
        println!(
            "  {:30} {:34} {:10.2} {:>19} {:>18} {speed:>8}",
            if index == 0 { what } else { "" },
            timing.name,
            timing.median * 1e3,
            format!("{low:.2}..{high:.2}"),
            format!("{:.1} {}", work.amount / timing.median, work.unit),
        );
    }
    Ok(())
}

/// Compares one tensor with another. `tolerance` is relative to the largest value.
pub fn check_close(what: &str, ours: &Tensor, reference: &Tensor, tolerance: f64) -> Result<()> {
    let wide = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double);
    ensure!(ours.size() == reference.size(), "{what}: shapes {:?} and {:?}", ours.size(), reference.size());
    let off = (wide(ours) - wide(reference)).abs().max().double_value(&[]);
    let largest = wide(reference).abs().max().double_value(&[]);
    ensure!(off <= tolerance * largest, "{what}: off by {off:e}, where the largest value is {largest:e}");
    Ok(())
}
