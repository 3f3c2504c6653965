//! A few kills. `cargo xtask torture` sends hundreds.

use anyhow::{Result, ensure};
use whole_program_tests::torture;

#[test]
fn runs_killed_at_random_instants_come_to_the_undisturbed_result() -> Result<()> {
    const KILLS: usize = 8;
    const SEED: u64 = 4;
    let tortured = torture(KILLS, SEED, |_| ())?;
    println!("seed {SEED}: {tortured}");
    ensure!(tortured.kills == KILLS && tortured.runs > 0, "{tortured}");
    Ok(())
}
