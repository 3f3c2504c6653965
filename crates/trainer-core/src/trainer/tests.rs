//! Tests of the loop with the toy learner.

use super::*;
use crate::testing::{Expected, PlainStore, Recorded, Recorder, Recording, ToyLearner, ToySource};
use serde_json::json;

mod bad_steps;
mod building;
mod events;
mod failures;
mod figures;
mod out_of_memory;
mod resuming;
mod saving;
mod traces;

/// An output folder, a training split of 18 rows and an evaluation split of 6 rows, in batches of
/// 4. An epoch has 5 micro-batches in windows of 2, so it has 3 steps.
struct Bench {
    dir: tempfile::TempDir,
    train: ToySource,
    eval: ToySource,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), train: ToySource::new(18, 4), eval: ToySource::new(6, 4) }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn arguments(&self) -> TrainingArguments {
        TrainingArguments {
            output_dir: self.path().to_owned(),
            num_train_epochs: 3.0,
            per_device_train_batch_size: 4,
            gradient_accumulation_steps: 2,
            learning_rate: 0.1,
            logging_steps: 2.0,
            ..TrainingArguments::documented_recipe()
        }
    }

    fn train(&self, arguments: TrainingArguments, learner: &mut ToyLearner) -> Result<TrainOutput> {
        self.train_with(arguments, learner, None::<Recorder<'_>>)
    }

    fn train_with<'a>(
        &'a self,
        arguments: TrainingArguments,
        learner: &'a mut ToyLearner,
        callback: impl Callback + 'a,
    ) -> Result<TrainOutput> {
        let mut store = PlainStore::new(&arguments.output_dir.clone());
        let builder = Trainer::builder(arguments, learner, &self.train).eval_source(&self.eval);
        builder.store(&mut store).callback(callback).build()?.train()
    }

    fn resume(
        &self,
        arguments: TrainingArguments,
        learner: &mut ToyLearner,
        checkpoint: &Path,
    ) -> Result<(Resumed, TrainOutput)> {
        let mut store = PlainStore::new(&arguments.output_dir.clone());
        let builder = Trainer::builder(arguments, learner, &self.train).eval_source(&self.eval);
        let mut trainer = builder.store(&mut store).build()?;
        let resumed = trainer.resume_from(checkpoint)?;
        Ok((resumed, trainer.train()?))
    }
}

/// A callback that calls `hook` on every event.
fn on_event<'a>(hook: impl FnMut(&Recorded, &mut Requests) -> EventResult + 'a) -> Recorder<'a> {
    Recorder::new(&Recording::default()).with_hook(hook)
}

/// The log history without the times and speeds.
fn timeless(log_history: &[LogEntry]) -> Vec<LogEntry> {
    let is_time = |key: &str| key.ends_with("_runtime") || key.ends_with("_per_second");
    let without = |entry: &LogEntry| entry.clone().into_iter().filter(|(key, _)| !is_time(key)).collect();
    log_history.iter().map(without).collect()
}

fn steps_with(log_history: &[LogEntry], key: &str) -> Vec<u64> {
    log_history.iter().filter(|entry| entry.contains_key(key)).map(|entry| entry["step"].as_u64().unwrap()).collect()
}
