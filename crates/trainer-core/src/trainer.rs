//! The loop.

use crate::callback::CallbackFailure;
use crate::plan::Due;
use crate::progress::{DataIdentity, Progress};
use crate::timing::StepClock;
use crate::{
    BatchInfo, BatchSource, Batches, BoxError, Callback, CallbackContext, CheckpointStore, Error, EvaluationProgress,
    EventResult, IntervalStrategy, Learner, LogEntry, OutOfMemory, Plan, Requests, Result, SaveStrategy, Schedule,
    StepRequest, StepTiming, TrainerState, TrainingArguments, WriteCheckpoint, log_line,
};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod between_steps;
mod builder;
mod resume;
mod saving;
mod step;
pub use builder::TrainerBuilder;
pub use resume::Resumed;
use saving::BestEvaluation;
pub use saving::SaveReport;
use step::{NonFinite, StepOutcome, StepPosition};

#[cfg(test)]
mod tests;

type Callbacks<'a> = Vec<Box<dyn Callback + 'a>>;

/// One training run. It drives a [`Learner`] over the batches of a [`BatchSource`], calls the
/// callbacks, and keeps the [`TrainerState`].
///
/// [`Trainer::builder`] makes one. [`resume_from`](Self::resume_from) loads a checkpoint, and
/// [`train`](Self::train) does the work.
///
/// A run emits these `tracing` spans:
///
/// | span       | level | fields          | lasts                                                     |
/// |------------|-------|-----------------|-----------------------------------------------------------|
/// | `run`      | INFO  | `max_steps`     | all of [`train`](Self::train)                             |
/// | `epoch`    | INFO  | `epoch`         | an epoch with its logs, evaluations and saves             |
/// | `step`     | DEBUG | `step`, `epoch` | an optimizer step, with the wait for its batches          |
/// | `evaluate` | INFO  | `step`          | an evaluation                                             |
/// | `save`     | INFO  | `step`          | the snapshot of a checkpoint and its hand-over to the store |
///
/// Each new entry of the log history is an INFO event with the target [`LOG_TARGET`]. Its message
/// is a line for the terminal, such as `step 85/540  epoch 1.57  loss 2.714  …`. Its fields are
/// `step`, `epoch`, and `entry`: the entry as JSON text. What the user should know beyond that is a
/// WARN event. A span or an event that no subscriber wants costs one comparison.
///
/// An evaluation tells how far it is in INFO events with the target `progress` and the fields
/// `stage` (`evaluating`), `done`, `total` and `unit` (`batches`), at most two in a second.
///
/// [`LOG_TARGET`]: crate::LOG_TARGET
pub struct Trainer<'a, L: Learner, S: BatchSource<Batch = L::Batch>> {
    arguments: TrainingArguments,
    plan: Plan,
    schedule: Schedule,
    learner: &'a mut L,
    train: &'a S,
    eval: Option<&'a S>,
    store: Option<&'a mut dyn CheckpointStore>,
    callbacks: Callbacks<'a>,
    state: TrainerState,
    progress: Progress,
    requests: Requests,
    process: ProcessState,
}

/// What belongs to this process only. No checkpoint holds it, so a resumed run starts with new
/// values.
struct ProcessState {
    started: Instant,
    resumed_from: Option<PathBuf>,
    clock: StepClock,
    num_steps: u64,
    num_rows: u64,
    /// Steps whose records the learner has not returned yet.
    unrecorded: Vec<StepPosition>,
    /// The step of the newest save, complete or under way.
    saved_step: Option<u64>,
    saves: SaveReport,
    /// The best evaluation before the current best one.
    previous_best: BestEvaluation,
}

/// What a run returns.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOutput {
    /// The state at the end.
    pub state: TrainerState,
    /// The content of `train_results.json`. A run that was already complete has no times in it, and
    /// no entry for it in the log history.
    pub metrics: Map<String, Value>,
    /// The last evaluation. [`TrainerState::best_evaluation`] is the best one.
    pub eval_metrics: Option<LogEntry>,
    /// Optimizer steps since [`Trainer::train`] was called. 0 means that the run was already
    /// complete, so the result files of an earlier process say more than this output.
    pub num_steps_this_session: u64,
    /// The checkpoints since [`Trainer::train`] was called. A checkpoint that failed does not end
    /// the run.
    pub saves: SaveReport,
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// The steps of the run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The learning rates of the run.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Trains until all steps are done, or until a callback asks to stop.
    ///
    /// # Errors
    ///
    /// The first error of the learner, a source or a callback ends the run, and so do too many bad
    /// steps in a row and an evaluation or a model that is not finite. Before the error returns,
    /// the checkpoint under way is completed, and `on_train_end` reaches every callback.
    ///
    /// A checkpoint that fails is no error: the log history and [`TrainOutput::saves`] tell of it.
    pub fn train(mut self) -> Result<TrainOutput> {
        let _run_span = tracing::info_span!("run", max_steps = self.plan.max_steps).entered();
        self.process.started = Instant::now();
        let outcome = self.restore_callbacks().and_then(|()| self.run());
        let saved = self.wait_for_save();
        let outcome = outcome.and(saved).and_then(|()| self.finish());
        let ended = self.emit(Callbacks::on_train_end);
        let metrics = outcome.and_then(|metrics| ended.map(|()| metrics)).map_err(|error| {
            let newest = self.process.saves.last_checkpoint.as_ref();
            error.with_checkpoints(newest, self.state.best_model_checkpoint.as_ref())
        })?;
        let eval_metrics = self.state.log_history.iter().rev().find(|entry| entry.contains_key("eval_loss")).cloned();
        let ProcessState { num_steps, saves, .. } = self.process;
        Ok(TrainOutput { state: self.state, metrics, eval_metrics, num_steps_this_session: num_steps, saves })
    }

    /// The loop: micro-batches, optimizer step, events, then logs, evaluations and saves.
    fn run(&mut self) -> Result<()> {
        self.emit(Callbacks::on_train_begin)?;
        if self.arguments.eval_on_start && self.process.resumed_from.is_none() {
            self.requests.request_evaluate();
            self.log_evaluate_save()?;
        }

        while !self.is_over() {
            let _epoch_span = tracing::info_span!("epoch", epoch = self.progress.epoch).entered();
            let mut batches = self.open_epoch()?;
            self.emit(Callbacks::on_epoch_begin)?;

            while self.has_step_in_epoch() {
                let step = self.state.global_step + 1;
                let step_span = tracing::debug_span!("step", step, epoch = self.progress.epoch).entered();
                let started = Instant::now();
                let window = self.next_window(&mut batches)?;
                self.emit(Callbacks::on_step_begin)?;

                self.accumulate(&window)?;
                self.emit(Callbacks::on_pre_optimizer_step)?;
                let outcome = self.update()?;
                self.emit(Callbacks::on_optimizer_step)?;

                self.count_step(&window, &outcome, started)?;
                self.requests.add(self.plan.due_after_step(&self.arguments, self.state.global_step));
                self.emit(Callbacks::on_step_end)?;
                step_span.exit();
                if let StepOutcome::Skipped(bad) = outcome {
                    self.log_skipped(&window, bad)?;
                }
                self.log_evaluate_save()?;
            }

            let is_cut_short = self.requests.is_stop_requested();
            self.requests.add(self.due_after_epoch());
            self.emit(Callbacks::on_epoch_end)?;
            if !is_cut_short {
                self.progress.end_epoch();
            }
            self.log_evaluate_save()?;
        }
        Ok(())
    }

    /// Whether no epoch is left to enter. A run that was resumed after its last step enters the
    /// last epoch once more if the end of that epoch is not done.
    fn is_over(&self) -> bool {
        let is_trained = self.state.global_step >= self.plan.max_steps && self.progress.epoch_end_done;
        is_trained || self.progress.epoch >= self.plan.num_train_epochs || self.requests.is_stop_requested()
    }

    fn has_step_in_epoch(&self) -> bool {
        self.state.global_step < self.plan.max_steps
            && self.plan.window_size(self.progress.micro_batches_done) > 0
            && !self.requests.is_stop_requested()
    }

    fn open_epoch(&self) -> Result<Batches<'a, L::Batch>> {
        let (epoch, first) = (self.progress.epoch, self.progress.micro_batches_done);
        let batches = self.train.batches(epoch, first);
        batches.map_err(|source| Error::Data { split: "training", epoch, micro_batch: first, source })
    }

    /// The micro-batches of the next optimizer step.
    fn next_window(&self, batches: &mut Batches<'a, L::Batch>) -> Result<Vec<L::Batch>> {
        let (epoch, done) = (self.progress.epoch, self.progress.micro_batches_done);
        let mut window = Vec::with_capacity(self.plan.window_size(done));
        for micro_batch in done..done + self.plan.window_size(done) {
            let expected = self.plan.batches_per_epoch;
            let batch = batches.next().ok_or(Error::ShortEpoch { epoch, found: micro_batch, expected })?;
            window.push(batch.map_err(|source| Error::Data { split: "training", epoch, micro_batch, source })?);
        }
        Ok(window)
    }

    /// Counts the optimizer step over `window` that began at `started`.
    fn count_step(&mut self, window: &[L::Batch], outcome: &StepOutcome, started: Instant) -> Result<()> {
        let tokens = window.iter().map(BatchInfo::num_tokens).sum();
        let has_own_time = self.arguments.step_timing == StepTiming::Step || self.process.clock.is_new();
        if has_own_time {
            let outcome = self.learner.synchronize();
            outcome.map_err(|source| self.learner_error("waiting for the device", source))?;
        }
        self.process.clock.add(started.elapsed(), tokens);
        if has_own_time {
            self.process.clock.end_wait(Duration::ZERO);
        }

        self.progress.micro_batches_done += window.len();
        self.progress.epoch_end_done = false;
        self.process.num_steps += 1;
        match outcome {
            StepOutcome::Updated => self.progress.bad_steps.in_a_row = 0,
            StepOutcome::Skipped(_) => self.progress.bad_steps.add(),
        }
        self.process.num_rows += window.iter().map(BatchInfo::num_rows).sum::<u64>();
        self.state.num_input_tokens_seen = self.state.num_input_tokens_seen.saturating_add(tokens);
        self.state.global_step += 1;
        let part = self.progress.micro_batches_done as f64 / self.plan.batches_per_epoch as f64;
        self.state.epoch = self.progress.epoch as f64 + part;
        Ok(())
    }

    /// What is due at the end of an epoch. After a stop only a checkpoint is due: the resumed run
    /// finishes the epoch, and evaluates and logs at its end as an uninterrupted run does.
    fn due_after_epoch(&self) -> Due {
        let due = Plan::due_after_epoch(&self.arguments, self.state.epoch);
        if !self.requests.is_stop_requested() {
            return due;
        }
        Due { save: due.save && self.process.saved_step != Some(self.state.global_step), ..Due::default() }
    }

    /// Calls all callbacks for one event.
    fn emit(
        &mut self,
        event: impl FnOnce(&mut Callbacks<'a>, &CallbackContext<'_>, &mut Requests) -> EventResult,
    ) -> Result<()> {
        let resumed_from = self.process.resumed_from.as_deref();
        let context = CallbackContext { arguments: &self.arguments, state: &self.state, resumed_from };
        event(&mut self.callbacks, &context, &mut self.requests).map_err(callback_error)
    }

    fn learner_error(&self, action: &'static str, source: BoxError) -> Error {
        let step = self.state.global_step + 1;
        match source.downcast::<OutOfMemory>() {
            Ok(source) => Error::OutOfMemory { action, step, rows: self.train_batch_size(), source: *source },
            Err(source) => Error::Learner { action, step, source },
        }
    }

    /// The checkpoint that a user can resume from when the run ends now with an error.
    fn last_checkpoint(&mut self) -> Option<PathBuf> {
        // The checkpoint under way counts if it can be completed. The caller reports its own error,
        // so an error of a callback in `on_save` is only a warning here.
        if let Err(error) = self.wait_for_save() {
            tracing::warn!("{error}");
        }
        self.process.saves.last_checkpoint.clone()
    }
}

/// `state`, with the fields that follow from the arguments.
fn state_for(plan: &Plan, arguments: &TrainingArguments, state: TrainerState) -> TrainerState {
    TrainerState {
        max_steps: plan.max_steps,
        num_train_epochs: plan.num_train_epochs,
        logging_steps: plan.logging_steps,
        eval_steps: plan.eval_steps,
        save_steps: plan.save_steps,
        train_batch_size: Some(step::batch_size(
            arguments,
            arguments.per_device_train_batch_size,
            state.train_batch_size,
        )),
        ..state
    }
}

fn callback_error(error: BoxError) -> Error {
    match error.downcast::<CallbackFailure>() {
        Ok(failure) => {
            let CallbackFailure { callback, event, source } = *failure;
            Error::Callback { callback, event, source, checkpoint: None, best: None }
        }
        Err(source) => Error::Callback {
            callback: "callbacks".to_owned(),
            event: "an event",
            source,
            checkpoint: None,
            best: None,
        },
    }
}
