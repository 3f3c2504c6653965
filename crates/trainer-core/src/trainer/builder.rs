//! Making a [`Trainer`].

use super::*;

/// Collects the parts of a [`Trainer`]; made by [`Trainer::builder`].
pub struct TrainerBuilder<'a, L: Learner, S: BatchSource<Batch = L::Batch>> {
    arguments: TrainingArguments,
    learner: &'a mut L,
    train: &'a S,
    eval: Option<&'a S>,
    store: Option<&'a mut dyn CheckpointStore>,
    callbacks: Callbacks<'a>,
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// Begins a trainer from the parts that every run needs: the arguments, what learns, and the
    /// training split.
    pub fn builder(arguments: TrainingArguments, learner: &'a mut L, train: &'a S) -> TrainerBuilder<'a, L, S> {
        TrainerBuilder { arguments, learner, train, eval: None, store: None, callbacks: Vec::new() }
    }
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> TrainerBuilder<'a, L, S> {
    /// Sets the evaluation split: `&source`, or an `Option` of it. Default: none. A run that
    /// evaluates needs one.
    #[must_use]
    pub fn eval_source(mut self, source: impl Into<Option<&'a S>>) -> Self {
        self.eval = source.into();
        self
    }

    /// Sets where checkpoints go. Default: nowhere. A run that saves needs a store.
    #[must_use]
    pub fn store(mut self, store: &'a mut dyn CheckpointStore) -> Self {
        self.store = Some(store);
        self
    }

    /// Adds a callback. Events reach the callbacks in the order in which they were added. An
    /// `Option` or a `Vec` of callbacks is a callback too.
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Checks the parts and plans the run. Nothing is written or computed yet.
    ///
    /// # Errors
    ///
    /// - [`Error::Arguments`] lists all arguments that cannot be used.
    /// - [`Error::EmptySplit`]: the training split has no rows, or the arguments ask for
    ///   evaluations and there is no evaluation split with rows.
    /// - [`Error::MissingStore`]: the arguments ask for checkpoints, and there is no store.
    pub fn build(self) -> Result<Trainer<'a, L, S>> {
        let Self { arguments, learner, train, eval, store, callbacks } = self;
        arguments.validate()?;
        if train.num_rows() == 0 || train.num_batches() == 0 {
            return Err(Error::EmptySplit { split: "training" });
        }
        let evaluates = arguments.eval_strategy != IntervalStrategy::No || arguments.eval_on_start;
        if evaluates && eval.is_none_or(|eval| eval.num_batches() == 0) {
            return Err(Error::EmptySplit { split: "evaluation" });
        }
        if arguments.save_strategy != SaveStrategy::No && store.is_none() {
            return Err(Error::MissingStore { save_strategy: arguments.save_strategy });
        }
        let plan = Plan::new(&arguments, train.num_batches());
        Ok(Trainer {
            schedule: Schedule::new(&arguments, plan.max_steps),
            progress: Progress::new(DataIdentity::new(&arguments, train)),
            state: state_for(&plan, &arguments, TrainerState::default()),
            requests: Requests::default(),
            process: ProcessState {
                started: Instant::now(),
                resumed_from: None,
                clock: StepClock::default(),
                num_steps: 0,
                num_rows: 0,
                unrecorded: Vec::new(),
                saved_step: None,
                saves: SaveReport::default(),
                previous_best: BestEvaluation::default(),
            },
            arguments,
            plan,
            learner,
            train,
            eval,
            store,
            callbacks,
        })
    }
}
