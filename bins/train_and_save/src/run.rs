//! The documented run, from its configuration to the published model.

use crate::failure::Failure;
use crate::terminal::Terminal;
use anyhow::{Context, Result};
use sft_trainer::callbacks::{BestModelCheckpointCallback, LossSpike, MetricsFile, OnSignal, Rotation, Signals};
use sft_trainer::{SftConfig, SftTrainer, cache_folder};
use std::time::Instant;
use tracing::{error, info};
use trainer_core::{ProgressBar, ProgressLines, SaveStrategy};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The best model is in the output folder.
    Complete,
    /// A signal ended it. There is a checkpoint of its last step, or the user was told why not.
    Stopped {
        /// Its number.
        signal: u8,
    },
}

/// Trains and saves.
///
/// # Errors
/// Usage errors for everything found before the first step, others for what fails later.
pub fn run(config: SftConfig, on_signal: OnSignal, terminal: &Terminal) -> Result<Outcome> {
    let started = Instant::now();
    let signals = Signals::listen(on_signal).context("cannot listen for signals").map_err(Failure::before_training)?;
    let trainer = SftTrainer::builder(config)
        .progress_bars(terminal.bars())
        .cache_folder(cache_folder("train_and_save"))
        .load()
        .map_err(Failure::before_training)?;
    info!("set up in {:.2} s", started.elapsed().as_secs_f64());

    let training = trainer.config().training.clone();
    let options = trainer.config().run.clone();
    let reports = trainer.reports();
    let saves = training.save_strategy != SaveStrategy::No;
    let in_lines = terminal.tells_progress_in_lines();
    let trained = trainer
        // In the log of a batch system there is no bar. Both tell the first loss, so only one is
        // used.
        .callback((!in_lines).then(|| ProgressBar::new(terminal.bars())))
        .callback(in_lines.then(ProgressLines::default))
        .callback(signals.clone())
        .callback(MetricsFile::new(training.output_dir.join(MetricsFile::FILE_NAME)))
        .callback(saves.then_some(BestModelCheckpointCallback))
        .callback(training.save_total_limit.map(Rotation::new))
        .callback(options.early_stopping())
        .callback(options.loss_spike_factor.map(LossSpike::new))
        .callback(reports)
        .train()
        .map_err(Failure::by_phase)?;

    let (state, saves) = (&trained.output().state, &trained.output().saves);
    if let Some(signal) = signals.received().filter(|_| state.global_step < state.max_steps) {
        let step = state.global_step;
        match saves.failure() {
            None if training.save_only_model => info!("stopped by signal {signal} after step {step}"),
            None => info!("stopped by signal {signal} after step {step}; go on with --resume_from_checkpoint true"),
            Some(failure) => error!("stopped by signal {signal} after step {step}, and {failure}"),
        }
        return Ok(Outcome::Stopped { signal });
    }
    trained.publish()?;
    Ok(Outcome::Complete)
}
