//! The documented run: load, register callbacks, train, publish.

pub(crate) mod load;

use crate::batches::SplitBatches;
use crate::callbacks::{Destination, Places, Reports};
use crate::config::{RunConfig, SftConfig};
use crate::hub::Hub;
use crate::learner::SftLearner;
use crate::memory::{Phase, with_advice};
use crate::push::{PushCheckpoints, Pusher, write_card};
use crate::{Error, publish};
use causal_lm::CausalLm;
use checkpoint_callbacks::{DirectoryStore, OutputDirLock};
use galore_optim::Optimizer;
use indicatif::MultiProgress;
use sft_data::Row;
use std::path::PathBuf;
use tracing::{info, warn};
use trainer_core::{BoxError, Callback, StepTiming, TrainOutput, Trainer, TrainingArguments};

type BuildOptimizer<'a> = Box<dyn FnOnce(&mut CausalLm) -> Result<Box<dyn Optimizer>, BoxError> + 'a>;

/// A run that is loaded and checked, and takes callbacks.
///
/// [`SftTrainer::load`] finds everything that can be found wrong before training: configuration,
/// files, checkpoint, disk space, device. Nothing is written until [`train`](Self::train).
pub struct SftTrainer<'a> {
    config: SftConfig,
    learner: SftLearner,
    train: SplitBatches,
    eval: Option<SplitBatches>,
    /// To go on from.
    checkpoint: Option<PathBuf>,
    /// No other run may use the output folder from here on.
    lock: OutputDirLock,
    callbacks: Vec<Box<dyn Callback + 'a>>,
    /// Brings the model to the hub, if it is to go there.
    pusher: Option<Pusher>,
    /// Lines about the rows: where they come from, what was kept and cut.
    data: Vec<String>,
}

/// What a run is loaded from: the configuration, and what the caller brings in place of its parts.
pub struct SftTrainerBuilder<'a> {
    config: SftConfig,
    rows: Option<OwnRows>,
    optimizer: Option<(String, BuildOptimizer<'a>)>,
    hub: Option<Hub>,
    bars: Option<MultiProgress>,
    cache_folder: Option<PathBuf>,
}

struct OwnRows {
    train: Vec<Row>,
    eval: Option<Vec<Row>>,
}

impl<'a> SftTrainerBuilder<'a> {
    /// Trains on these rows in place of a dataset, and evaluates on `eval`. A row is a text, a
    /// conversation, or a prompt with its completion.
    #[must_use]
    pub fn rows<R: Into<Row>>(
        mut self,
        train: impl IntoIterator<Item = R>,
        eval: Option<impl IntoIterator<Item = R>>,
    ) -> Self {
        let collect = |rows: &mut dyn Iterator<Item = R>| rows.map(Into::into).collect();
        self.rows = Some(OwnRows {
            train: collect(&mut train.into_iter()),
            eval: eval.map(|rows| collect(&mut rows.into_iter())),
        });
        self
    }

    /// Trains with an optimizer of the caller's, made from the loaded model. `name` stands for it
    /// in checkpoints: a run resumes only with the optimizer it was started with.
    #[must_use]
    pub fn optimizer(
        mut self,
        name: impl Into<String>,
        build: impl FnOnce(&mut CausalLm) -> Result<Box<dyn Optimizer>, BoxError> + 'a,
    ) -> Self {
        self.optimizer = Some((name.into(), Box::new(build)));
        self
    }

    /// Fetches models and datasets through this hub. Without it [`Hub::from_env`] is used, if
    /// anything has to be fetched.
    #[must_use]
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = Some(hub);
        self
    }

    /// Draws a bar for each file that is downloaded among these bars. Has no effect on a hub of the
    /// caller's.
    #[must_use]
    pub fn progress_bars(mut self, bars: MultiProgress) -> Self {
        self.bars = Some(bars);
        self
    }

    /// Keeps compiled GPU kernels in this folder, and looks for libtorch's CUDA libraries in it
    /// too. Without it kernels are compiled in each process, and the libraries must be on the
    /// loader's path or in `TORCH_CUDA_LIB`. [`cache_folder`](crate::cache_folder) has the usual
    /// place.
    #[must_use]
    pub fn cache_folder(mut self, folder: impl Into<Option<PathBuf>>) -> Self {
        self.cache_folder = folder.into();
        self
    }

    /// Loads everything that the run needs, and checks it.
    ///
    /// # Errors
    /// Whatever is wrong with configuration, model, tokenizer, dataset, checkpoint, output folder
    /// or device, and [`Error::OutOfMemory`] with advice.
    pub fn load(mut self) -> Result<SftTrainer<'a>, Error> {
        self.config.resolve();
        let config = self.config.clone();
        load::load(self).map_err(|error| with_advice(error, &config, Phase::Loading))
    }
}

impl<'a> SftTrainer<'a> {
    /// Loads the run that a configuration describes.
    ///
    /// # Errors
    /// As [`SftTrainerBuilder::load`].
    pub fn load(config: SftConfig) -> Result<Self, Error> {
        Self::builder(config).load()
    }

    /// A run with rows, an optimizer or a hub of the caller's.
    pub fn builder(config: SftConfig) -> SftTrainerBuilder<'a> {
        SftTrainerBuilder { config, rows: None, optimizer: None, hub: None, bars: None, cache_folder: None }
    }

    /// What the run was loaded from.
    pub fn config(&self) -> &SftConfig {
        &self.config
    }

    /// The callback that reports to where the options say, if they name a place.
    pub fn reports(&self) -> Option<Reports> {
        let RunConfig { report_to, logging_dir, run_name, .. } = &self.config.run;
        // The names were checked with all other options.
        let destinations = Destination::from_names(report_to).unwrap_or_default();
        let places = Places {
            logging_dir: logging_dir.clone(),
            run_name: run_name.clone(),
            settings: self.config.to_options(),
            differences: self.config.differences_from_recipe(),
            data: self.data.clone(),
            ..Places::new(&self.config.training.output_dir)
        };
        (!destinations.is_empty()).then(|| Reports::new(&destinations, places))
    }

    /// Registers a callback. Events reach callbacks in the order of registration.
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Trains to the end, or until a callback stops the run.
    ///
    /// # Errors
    /// [`Error::NotStarted`] for a checkpoint or output folder that cannot be used;
    /// [`Error::OutOfMemory`] with advice; [`Error::Loop`] for what ended training.
    pub fn train(self) -> Result<Trained, Error> {
        let Self { config, mut learner, train, eval, checkpoint, lock, callbacks, data: _, pusher } = self;
        let mut store = DirectoryStore::open_locked(lock).map_err(Error::not_started)?;
        let mut trainer = Trainer::builder(loop_arguments(&config, &learner), &mut learner, &train)
            .eval_source(eval.as_ref())
            .store(&mut store)
            .callback(callbacks)
            .callback(pusher.clone().map(PushCheckpoints::new))
            .build()
            .map_err(Error::not_started)?;
        if let Some(checkpoint) = &checkpoint {
            let resumed = trainer
                .resume_from(checkpoint)
                .map_err(|error| Error::not_started(with_advice(error.into(), &config, Phase::Loading)))?;
            info!("resuming from {} at step {}", checkpoint.display(), resumed.global_step);
        }
        let output = trainer.train().map_err(|error| with_advice(error.into(), &config, Phase::Training))?;
        Ok(Trained { config, learner, _store: store, output, pusher })
    }
}

/// The loop's arguments: the caller's, with two that this crate decides.
fn loop_arguments(config: &SftConfig, learner: &SftLearner) -> TrainingArguments {
    let training = &config.training;
    let on_cuda = learner.model.options().device.is_cuda();
    TrainingArguments {
        // The best model is copied from its checkpoint, so nobody needs it in memory.
        load_best_model_at_end: false,
        // Waiting for the device after each step would leave it idle while the host prepares the
        // next.
        step_timing: if on_cuda { StepTiming::Averaged } else { training.step_timing },
        ..training.clone()
    }
}

/// A run that has ended, with its model.
pub struct Trained {
    config: SftConfig,
    learner: SftLearner,
    /// Holds the output folder's lock.
    _store: DirectoryStore,
    output: TrainOutput,
    pusher: Option<Pusher>,
}

impl Trained {
    /// State, figures and saves of the run.
    pub fn output(&self) -> &TrainOutput {
        &self.output
    }

    /// The trained model, as the last step left it.
    pub fn model(&self) -> &CausalLm {
        &self.learner.model
    }

    /// Puts the best model into the output folder, or the final one where nothing was both
    /// evaluated and saved, and the result files beside it. With `push_to_hub`, writes a model card
    /// and pushes the model; a push that fails is a warning.
    ///
    /// # Errors
    /// [`Error::Checkpoints`] when a file cannot be written; [`Error::NothingSaved`] when
    /// checkpoints were due and none reached the disk. The model is in place then.
    pub fn publish(&self) -> Result<(), Error> {
        publish::publish(&self.config, &self.output, &self.learner)
            .map_err(|error| with_advice(error, &self.config, Phase::Training))?;
        if let Some(pusher) = &self.pusher {
            let state = &self.output.state;
            if let Err(error) = write_card(&self.config, state) {
                warn!("no model card: README.md cannot be written: {error}");
            }
            pusher.push_published(&self.config.training.output_dir, state);
        }
        Ok(())
    }
}
