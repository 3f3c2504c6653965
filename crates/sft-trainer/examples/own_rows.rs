//! Trains a model on rows that the program makes itself, with a callback of its own that stops the
//! run.
//!
//! ```text
//! cargo run --release -p sft-trainer --example own_rows -- <model: folder or hub id> <output folder>
//! ```
//!
//! `cargo xtask demo` leaves a small model in `demo-out/model`.

use sft_trainer::callbacks::{
    BestModelCheckpointCallback, Callback, CallbackContext, EventResult, LogEntry, Requests, Rotation,
};
use sft_trainer::{SftConfig, SftTrainer};

/// Stops the run at the first evaluation with a loss below this.
struct StopBelow(f64);

impl Callback for StopBelow {
    fn on_evaluate(&mut self, _: &CallbackContext<'_>, metrics: &LogEntry, requests: &mut Requests) -> EventResult {
        let loss = metrics.get("eval_loss").and_then(|loss| loss.as_f64());
        if loss.is_some_and(|loss| loss < self.0) {
            requests.request_stop();
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: own_rows <model> <output folder>")?;
    let output_dir = arguments.next().ok_or("usage: own_rows <model> <output folder>")?;

    let mut config = SftConfig::new(model, output_dir);
    config.optimizer.optim_args = Some("rank=64, update_proj_gap=50, scale=1.8".to_owned());
    config.training.learning_rate = 1e-3;
    let sums = |numbers: std::ops::Range<u32>| numbers.map(|n| format!("{n} plus {n} is {}.", n + n));

    let trained = SftTrainer::builder(config)
        .rows(sums(0..400), Some(sums(400..420)))
        .load()?
        .callback(BestModelCheckpointCallback)
        .callback(Rotation::new(1))
        .callback(StopBelow(1.0))
        .train()?;
    trained.publish()?;

    let state = &trained.output().state;
    println!(
        "stopped after {} of {} steps; best eval_loss {:?}",
        state.global_step, state.max_steps, state.best_metric
    );
    Ok(())
}
