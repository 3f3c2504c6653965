//! The loop.

use crate::callback::CallbackFailure;
use crate::plan::Due;
use crate::progress::{Fixed, Progress};
use crate::timing::StepClock;
use crate::{
    BatchInfo, BatchSource, Batches, BoxError, Callback, CheckpointStore, Context, Error, EventResult,
    IntervalStrategy, Learner, LogEntry, OutOfMemory, Plan, Requests, Result, SaveStrategy, Schedule, StepRequest,
    StepTiming, TrainerState, TrainingArguments, WriteCheckpoint,
};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod between_steps;
mod resume;
mod saving;
mod step;
pub use resume::Resumed;
pub use saving::SaveReport;
use saving::{Best, Patience};
use step::{NotFinite, StepPosition, Update};

#[cfg(test)]
mod tests;

type Callbacks<'a> = Vec<Box<dyn Callback + 'a>>;

/// One training run: drives a learner over a split, tells callbacks, and keeps the state.
pub struct Trainer<'a, L: Learner, S: BatchSource<Batch = L::Batch>> {
    arguments: TrainingArguments,
    plan: Plan,
    schedule: Schedule,
    learner: &'a mut L,
    train: &'a S,
    eval: Option<&'a S>,
    store: &'a mut dyn CheckpointStore,
    callbacks: Callbacks<'a>,
    state: TrainerState,
    progress: Progress,
    requests: Requests,
    session: Session,
}

/// What is of this process only: a resumed run starts it anew.
struct Session {
    started: Instant,
    resumed_from: Option<PathBuf>,
    clock: StepClock,
    num_steps: u64,
    num_rows: u64,
    /// Steps whose records the learner has not given yet.
    unrecorded: Vec<StepPosition>,
    /// The step that was saved last, or is on its way.
    saved_step: Option<u64>,
    saves: SaveReport,
    /// What was best before the evaluation that is.
    best_before: Best,
}

/// What a run leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOutput {
    /// The state at the end.
    pub state: TrainerState,
    /// The content of `train_results.json`. Without a step there are no times in it, and no entry
    /// in the log history.
    pub metrics: Map<String, Value>,
    /// The last evaluation; the best one is [`TrainerState::best_evaluation`].
    pub eval_metrics: Option<LogEntry>,
    /// Optimizer steps taken since [`Trainer::train`] was called. 0: the run was complete already,
    /// so result files of an earlier session tell more than this output.
    pub num_steps_this_session: u64,
    /// What came of the checkpoints since [`Trainer::train`] was called. One that failed has not
    /// ended the run.
    pub saves: SaveReport,
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// Checks the arguments and plans the run; nothing is written or computed yet.
    pub fn new(
        arguments: TrainingArguments,
        learner: &'a mut L,
        train: &'a S,
        eval: Option<&'a S>,
        store: &'a mut dyn CheckpointStore,
    ) -> Result<Self> {
        arguments.validate()?;
        if train.num_rows() == 0 || train.num_batches() == 0 {
            return Err(Error::EmptySplit { split: "training" });
        }
        let evaluates = arguments.eval_strategy != IntervalStrategy::No || arguments.eval_on_start;
        if evaluates && eval.is_none_or(|eval| eval.num_batches() == 0) {
            return Err(Error::EmptySplit { split: "evaluation" });
        }
        let plan = Plan::new(&arguments, train.num_batches());
        Ok(Self {
            schedule: Schedule::new(&arguments, plan.max_steps),
            progress: Progress::new(Fixed::new(&arguments, train)),
            state: state_for(&plan, &arguments, TrainerState::default()),
            callbacks: Vec::new(),
            requests: Requests::default(),
            session: Session {
                started: Instant::now(),
                resumed_from: None,
                clock: StepClock::default(),
                num_steps: 0,
                num_rows: 0,
                unrecorded: Vec::new(),
                saved_step: None,
                saves: SaveReport::default(),
                best_before: Best::default(),
            },
            arguments,
            plan,
            learner,
            train,
            eval,
            store,
        })
    }

    /// Registers a callback. Events reach callbacks in the order of registration.
    #[must_use]
    pub fn with_callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// The steps of the run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The learning rates of the run.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Trains to the end, or until a callback asks to stop. After an error `on_train_end` still
    /// reaches every callback.
    pub fn train(mut self) -> Result<TrainOutput> {
        self.session.started = Instant::now();
        let outcome = self.restore_callbacks().and_then(|()| self.run());
        // Whatever ended the run, a checkpoint on its way is waited for.
        let settled = self.settle_save(Patience::Wait);
        let outcome = outcome.and(settled).and_then(|()| self.finish());
        let ended = self.emit(Callbacks::on_train_end);
        let metrics = outcome?;
        ended?;
        let eval_metrics = self.state.log_history.iter().rev().find(|entry| entry.contains_key("eval_loss")).cloned();
        let Session { num_steps, saves, .. } = self.session;
        Ok(TrainOutput { state: self.state, metrics, eval_metrics, num_steps_this_session: num_steps, saves })
    }

    /// The loop: micro-batches, optimizer step, events; then what is due.
    fn run(&mut self) -> Result<()> {
        self.emit(Callbacks::on_train_begin)?;
        if self.arguments.eval_on_start && self.session.resumed_from.is_none() {
            self.requests.request_evaluate();
            self.log_evaluate_save()?;
        }

        while !self.is_over() {
            let mut batches = self.open_epoch()?;
            self.emit(Callbacks::on_epoch_begin)?;

            while self.state.global_step < self.plan.max_steps && !self.requests.is_stop_requested() {
                let started = Instant::now();
                let window = self.next_window(&mut batches)?;
                if window.is_empty() {
                    break;
                }
                self.emit(Callbacks::on_step_begin)?;

                self.accumulate(&window)?;
                self.emit(Callbacks::on_pre_optimizer_step)?;
                let update = self.update()?;
                self.emit(Callbacks::on_optimizer_step)?;

                self.count_step(&window, &update, started)?;
                self.requests.add(self.plan.due_after_step(&self.arguments, self.state.global_step));
                self.emit(Callbacks::on_step_end)?;
                if let Update::Skipped(bad) = update {
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

    /// Whether nothing is left to train. A run resumed after its last step may still owe the end of
    /// its last epoch.
    fn is_over(&self) -> bool {
        let is_trained = self.state.global_step >= self.plan.max_steps && self.progress.epoch_end_done;
        is_trained || self.progress.epoch >= self.plan.num_train_epochs || self.requests.is_stop_requested()
    }

    fn open_epoch(&self) -> Result<Batches<'a, L::Batch>> {
        let (epoch, first) = (self.progress.epoch, self.progress.micro_batches_done);
        let batches = self.train.batches(epoch, first);
        batches.map_err(|source| Error::Data { split: "training", epoch, micro_batch: first, source })
    }

    /// The micro-batches of the next optimizer step; none at the end of the epoch.
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

    /// Counts an optimizer step over `window` that began at `started`.
    fn count_step(&mut self, window: &[L::Batch], update: &Update, started: Instant) -> Result<()> {
        let tokens = window.iter().map(BatchInfo::num_tokens).sum();
        let is_timed_alone = self.arguments.step_timing == StepTiming::Step || self.session.clock.is_new();
        if is_timed_alone {
            let outcome = self.learner.synchronize();
            outcome.map_err(|source| self.learner_error("waiting for the device", source))?;
        }
        self.session.clock.add(started.elapsed(), tokens);
        if is_timed_alone {
            self.session.clock.settle(Duration::ZERO);
        }

        self.progress.micro_batches_done += window.len();
        self.progress.epoch_end_done = false;
        self.session.num_steps += 1;
        match update {
            Update::Taken => self.progress.bad_steps.in_a_row = 0,
            Update::Skipped(_) => self.progress.bad_steps.add(),
        }
        self.session.num_rows += window.iter().map(BatchInfo::num_rows).sum::<u64>();
        self.state.num_input_tokens_seen = self.state.num_input_tokens_seen.saturating_add(tokens);
        self.state.global_step += 1;
        let part = self.progress.micro_batches_done as f64 / self.plan.batches_per_epoch as f64;
        self.state.epoch = self.progress.epoch as f64 + part;
        Ok(())
    }

    /// What is due at the end of an epoch. When a callback stopped the run, the resumed run will
    /// evaluate and log what the uninterrupted one would have, so only a checkpoint is due.
    fn due_after_epoch(&self) -> Due {
        let due = Plan::due_after_epoch(&self.arguments, self.state.epoch);
        if !self.requests.is_stop_requested() {
            return due;
        }
        Due { save: due.save && self.session.saved_step != Some(self.state.global_step), ..Due::default() }
    }

    /// Tells the callbacks.
    fn emit(
        &mut self,
        event: impl FnOnce(&mut Callbacks<'a>, &Context<'_>, &mut Requests) -> EventResult,
    ) -> Result<()> {
        let resumed_from = self.session.resumed_from.as_deref();
        let context = Context { arguments: &self.arguments, state: &self.state, resumed_from };
        let outcome = event(&mut self.callbacks, &context, &mut self.requests).map_err(callback_error);
        for notice in self.requests.take_notices() {
            let told = self.callbacks.on_notice(&context, &notice, &mut self.requests).map_err(callback_error);
            // The event's own error comes first.
            if outcome.is_ok() {
                told?;
            }
        }
        outcome
    }

    fn learner_error(&self, action: &'static str, source: BoxError) -> Error {
        let step = self.state.global_step + 1;
        match source.downcast::<OutOfMemory>() {
            Ok(source) => Error::OutOfMemory { action, step, rows: self.train_batch_size(), source: *source },
            Err(source) => Error::Learner { action, step, source },
        }
    }

    /// The checkpoint to go on from, should the run end now.
    fn last_checkpoint(&mut self) -> Option<PathBuf> {
        // One on its way counts if it arrives. What its callbacks say comes after the error that
        // this is asked for.
        let _ = self.settle_save(Patience::Wait);
        self.session.saves.last_checkpoint.clone()
    }
}

/// `state` with what follows from the arguments.
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
            Error::Callback { callback, event, source }
        }
        Err(source) => Error::Callback { callback: "callbacks".to_owned(), event: "an event", source },
    }
}
