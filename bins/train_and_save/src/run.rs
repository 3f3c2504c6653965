//! A whole run, from settings to files: everything that can be found wrong is found before training
//! starts.

use crate::batches::{Order, Split};
use crate::failure::Failure;
use crate::identity::{Identity, RUN_FILE};
use crate::learner::SftLearner;
use crate::memory::{Phase, explained};
use crate::settings::{Resume, Settings, Terminal};
use crate::signals::Signals;
use crate::terminal::say;
use crate::{device, graphs, model_source, optimizer, recompute, results, summary};
use anyhow::{Context, Result, bail};
use causal_lm::CausalLm;
use checkpoint_callbacks::{
    BestModelCheckpointCallback, DirectoryStore, EarlyStopping, LossSpike, OutputDirLock, OutputDirUse, Publication,
    Rotation, SpaceNeeded, check_output_dir, check_space, newest_complete, publish, recover, verify,
};
use sft_data::{ChatTokenizer, HubConfig, PrepareReport, SpecialTokensInText, TOKENIZER_FILES, load_splits, prepare};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use trainer_core::{
    BatchSource, CheckpointStore, IntervalStrategy, MetricsFile, Plan, ProgressBar, SaveReport, SaveStrategy,
    StepTiming, TrainOutput, Trainer, TrainerState, TrainingArguments,
};

/// Where a final model lies on its way. One that is there before is of a run that was killed.
const FINAL_MODEL: &str = ".final-model";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The best model is in the output folder.
    Complete,
    /// A signal ended it; there is a checkpoint of its last step to go on from, or the user was
    /// told why not.
    Stopped {
        /// Its number.
        signal: u8,
    },
}

/// Trains and saves.
///
/// # Errors
/// Usage errors for what is found before the first step, others for what fails later.
pub fn run(settings: Settings) -> Result<Outcome> {
    let started = Instant::now();
    let signals = Signals::listen(settings.on_signal)?;
    let loading = |error| Failure::before_training(explained(error, &settings, Phase::Loading));
    let prepared = Prepared::new(&settings).map_err(loading)?;
    prepared.print_summary(&settings);
    say(&format!("set up in {:.2} s", started.elapsed().as_secs_f64()));
    prepared.train(&settings, signals).map_err(|error| explained(error, &settings, Phase::Training))
}

/// Everything a run needs, checked and loaded; nothing is written yet.
struct Prepared {
    learner: SftLearner,
    train: Split,
    eval: Option<Split>,
    resume: Option<PathBuf>,
    /// No other run may use the output folder from here on.
    lock: OutputDirLock,
    summary: Vec<String>,
}

impl Prepared {
    fn new(settings: &Settings) -> Result<Self> {
        let training = &settings.training;
        let resume = find_checkpoint(settings)?;
        let wanted_for = OutputDirUse::for_checkpoint(&training.output_dir, resume.as_deref());
        check_output_dir(&training.output_dir, wanted_for)?;
        let lock = OutputDirLock::take(&training.output_dir)?;
        let device = device::choose(settings.device)?;

        let hub = HubConfig::from_env();
        let model_dir = model_source::model_dir(&settings.model_name, &settings.model_revision, &hub)?;
        refuse_input_as_output(&training.output_dir, &model_dir, Path::new(&settings.dataset.dataset_name))?;
        let config = causal_lm::Config::from_dir(&model_dir)?;
        let tokenizer = ChatTokenizer::load(&model_dir, &settings.tokenizer)?;
        let splits = load_splits(&settings.dataset, &hub)?;
        let mut summary = vec![summary::source_line(&splits)];

        let mut split = |name: &str, rows: &[sft_data::Row], batch_size, order| -> Result<Split> {
            let prepared = prepare(rows, &tokenizer, &settings.prepare).with_context(|| format!("split {name}"))?;
            check_token_ids(name, &prepared.examples, config.vocab_size)?;
            summary.push(summary::split_line(name, &prepared.report));
            check_targets(name, &prepared.report)?;
            let (examples, padding) = (prepared.examples.into(), settings.padding);
            // A tokenizer may have grown a pad token that the model has no embedding for.
            let has_embedding = |id: &u32| i64::from(*id) < config.vocab_size;
            let pad_token_id = Some(tokenizer.pad_token_id()).filter(has_embedding).unwrap_or(tokenizer.eos_token_id());
            let filling = device.is_cuda().then(|| graphs::filling(pad_token_id));
            Ok(Split { examples, batch_size, order, padding, pad_token_id, filling, device })
        };
        let shuffled = Order::Shuffled { seed: training.seed };
        let mut train = split(&splits.train_name, &splits.train, training.per_device_train_batch_size, shuffled)?;
        if let (Some(numbers), Some(examples)) = (&splits.train_numbers, Arc::get_mut(&mut train.examples)) {
            name_rows_by(examples, numbers);
        }
        let eval = match (&splits.eval, &splits.eval_name) {
            (Some(rows), name) => {
                let name = name.as_deref().unwrap_or("test");
                Some(split(name, rows, training.per_device_eval_batch_size, Order::Sequential)?)
            }
            (None, _) => None,
        };
        if let Some(example) = train.examples.first() {
            let text = tokenizer.decode(&example.input_ids, SpecialTokensInText::Keep)?;
            summary.push(format!("first row: {}", summary::excerpt(&text)));
        }

        let (mut model, report) = CausalLm::load(&model_dir, device::model_options(settings, device))?;
        summary.insert(0, model_line(&model));
        if !report.extra_tensors.is_empty() {
            summary.push(format!(
                "tensors in the files that the model has no use for: {}",
                report.extra_tensors.join(", ")
            ));
        }
        if report.head_untied {
            summary
                .push("lm_head.weight differs from the embedding: not tied, although config.json ties them".to_owned());
        }
        let mut built = optimizer::build(&mut model, &settings.optimizer)?;
        summary.extend(built.summary);
        if settings.recompute.is_none() {
            // Weights, gradients and the optimizer's state have their memory by now.
            let full_batch = train.full_batch_tokens();
            summary.push(recompute::choose(&mut model, &mut *built.optimizer, full_batch));
        }
        summary.extend(graphs::choose(&mut model, &mut train, settings.cuda_graphs));
        let eval_examples = eval.as_ref().map(|eval| &*eval.examples);
        let identity = Identity::new(settings, &model, built.moments, &train.examples, eval_examples)?;
        let learner = SftLearner::new(model, built.optimizer, tokenizer, identity);
        check_space(&training.output_dir, &space_needed(training, &train, &learner)?)?;
        Ok(Self { learner, train, eval, resume, lock, summary })
    }

    fn print_summary(&self, settings: &Settings) {
        for line in &self.summary {
            say(line);
        }
        let training = &settings.training;
        let rows = training.per_device_train_batch_size * training.gradient_accumulation_steps;
        say(&format!(
            "training: {rows} rows a step ({} × {}), learning rate {:e} {}, saving to {}",
            training.per_device_train_batch_size,
            training.gradient_accumulation_steps,
            training.learning_rate,
            training.lr_scheduler_type,
            training.output_dir.display()
        ));
    }

    fn train(self, settings: &Settings, signals: Signals) -> Result<Outcome> {
        let Self { mut learner, train, eval, resume, lock, .. } = self;
        let output_dir = &settings.training.output_dir;
        let training = loop_arguments(&settings.training, &learner);
        let mut store = DirectoryStore::open_locked(lock).map_err(Failure::before_training)?;
        let saves = training.save_strategy != SaveStrategy::No;
        let output = {
            let mut trainer = Trainer::new(training.clone(), &mut learner, &train, eval.as_ref(), &mut store)
                .map_err(Failure::before_training)?
                .with_callback(match settings.terminal {
                    Terminal::Bar => ProgressBar::stderr(),
                    Terminal::Lines => ProgressBar::lines(std::io::stderr()),
                })
                .with_callback(signals.clone())
                .with_callback(MetricsFile::new(output_dir.join(MetricsFile::FILE_NAME)))
                .with_callback(saves.then_some(BestModelCheckpointCallback))
                .with_callback(training.save_total_limit.map(Rotation::new))
                .with_callback(
                    settings
                        .early_stopping
                        .map(|stop| EarlyStopping::new(stop.patience).with_threshold(stop.threshold)),
                )
                .with_callback(settings.loss_spike_factor.map(LossSpike::new));
            if let Some(checkpoint) = &resume {
                let resumed = trainer
                    .resume_from(checkpoint)
                    .map_err(|error| Failure::before_training(explained(error.into(), settings, Phase::Loading)))?;
                say(&format!("resuming from {} at step {}", checkpoint.display(), resumed.global_step));
                if let Some(lost) = resumed.lost_best_checkpoint {
                    say(&format!(
                        "warning: the best checkpoint {} is gone; the search for the best starts anew",
                        lost.display()
                    ));
                }
            }
            trainer.train()?
        };
        let step = output.state.global_step;
        if let Some(signal) = signals.received().filter(|_| step < output.state.max_steps) {
            say(&match output.saves.failure() {
                None => {
                    format!("stopped by signal {signal} after step {step}; go on with --resume_from_checkpoint true")
                }
                Some(failure) => format!("error: stopped by signal {signal} after step {step}, and {failure}"),
            });
            return Ok(Outcome::Stopped { signal });
        }
        finish(settings, &output, &learner)?;
        let SaveReport { num_saved, num_failed, last_error, .. } = &output.saves;
        if let (0, Some(error)) = (num_saved, last_error) {
            bail!("none of {num_failed} checkpoints could be saved: {error}; the model is in {}", output_dir.display());
        }
        Ok(Outcome::Complete)
    }
}

/// What the run will write, at its fullest.
fn space_needed(training: &TrainingArguments, train: &Split, learner: &SftLearner) -> Result<SpaceNeeded> {
    let plan = Plan::new(training, train.num_batches());
    let num_saves = match training.save_strategy {
        SaveStrategy::No => 0,
        SaveStrategy::Epoch => plan.num_train_epochs,
        SaveStrategy::Steps => plan.max_steps.div_ceil(plan.save_steps.max(1)),
        // As many as there are better evaluations.
        SaveStrategy::Best => 3,
    };
    let (model_bytes, state_bytes) = learner.file_bytes()?;
    let checkpoint_bytes = model_bytes + state_bytes;
    let has_best = num_saves > 0 && training.eval_strategy != IntervalStrategy::No;
    // A final model is written whole first, and copied into place.
    let model_bytes = if has_best { model_bytes } else { 2 * model_bytes };
    let needed = SpaceNeeded { checkpoint_bytes, num_checkpoints: 0, model_bytes };
    Ok(needed.with_rotation(num_saves, training.save_total_limit))
}

/// The loop's arguments: the user's, less what is done here.
fn loop_arguments(training: &TrainingArguments, learner: &SftLearner) -> TrainingArguments {
    let on_cuda = learner.model.options().device.is_cuda();
    TrainingArguments {
        // The best model is copied from its checkpoint; loading it into memory first would be for
        // nothing.
        load_best_model_at_end: false,
        // Waiting for the device after each step would leave it idle while the host prepares the
        // next.
        step_timing: if on_cuda { StepTiming::Window } else { training.step_timing },
        ..training.clone()
    }
}

/// Puts the best model, or the final one where nothing was evaluated and saved, into the output
/// folder, and the results beside it.
fn finish(settings: &Settings, output: &TrainOutput, learner: &SftLearner) -> Result<()> {
    let output_dir = &settings.training.output_dir;
    let state = &output.state;
    // Written last, so that it tells of a run that got here before. An earlier run's in this folder
    // has another history.
    let finished = TrainerState::load(&output_dir.join(TrainerState::FILE_NAME)).is_ok_and(|finished| {
        finished.global_step == state.global_step && finished.log_history.starts_with(&state.log_history)
    });
    if output.num_steps_this_session == 0 && finished {
        say(&format!("nothing left to train: model and results in {} are those of the run", output_dir.display()));
        return Ok(());
    }
    remove_final_model(output_dir)?;
    let mut evaluation = output.eval_metrics.as_ref();
    // Without checkpoints there is no best: one of an earlier run in this folder is not this run's.
    let saves = settings.training.save_strategy != SaveStrategy::No;
    match (&state.best_model_checkpoint, state.best_metric) {
        (Some(best), Some(metric)) if saves => {
            publish(best, output_dir, publication())?;
            evaluation = state.best_evaluation().or(evaluation);
            say(&format!("best checkpoint: {} ({} {metric:.6})", best.display(), settings.training.best_metric_key()));
        }
        _ => publish_final_model(learner, output_dir, state.global_step)?,
    }
    results::write(output_dir, &output.metrics, evaluation)?;
    // Last: where it is, nothing is left to do.
    results::write_json(output_dir, TrainerState::FILE_NAME, state)?;
    say(&format!("model and tokenizer saved in {}", output_dir.display()));
    Ok(())
}

/// What a model's folder has besides weights.
fn publication() -> Publication<'static> {
    const OF_A_MODEL: [&str; TOKENIZER_FILES.len() + 1] = {
        let mut names = ["generation_config.json"; TOKENIZER_FILES.len() + 1];
        let (_, tokenizer) = names.split_at_mut(1);
        tokenizer.copy_from_slice(&TOKENIZER_FILES);
        names
    };
    Publication { not_published: &[RUN_FILE], of_a_model: &OF_A_MODEL }
}

fn publish_final_model(learner: &SftLearner, output_dir: &Path, global_step: u64) -> Result<()> {
    // Written whole in a folder of its own first: an earlier model in the output folder must not
    // end half overwritten.
    let staging = output_dir.join(FINAL_MODEL);
    let mut store = DirectoryStore::open(&staging)?;
    store.save(global_step, learner.model_as_it_is()?);
    let saved = store.wait().map_or_else(|| Err("nothing was saved".into()), |saved| saved.outcome);
    let published =
        saved.map_err(anyhow::Error::from_boxed).and_then(|model| Ok(publish(&model, output_dir, publication())?));
    drop(store);
    let removed = remove_final_model(output_dir);
    published?;
    removed
}

/// If there is one.
fn remove_final_model(output_dir: &Path) -> Result<()> {
    let staging = output_dir.join(FINAL_MODEL);
    match std::fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", staging.display()))
        }
        _ => Ok(()),
    }
}

/// Writing into the model's own folder would replace it, and results in the dataset's folder would
/// be read as rows the next time.
fn refuse_input_as_output(output_dir: &Path, model_dir: &Path, dataset: &Path) -> Result<()> {
    let Ok(output_dir) = output_dir.canonicalize() else { return Ok(()) };
    for (flag, input) in [("--model_name", model_dir), ("--dataset_name", dataset)] {
        if input.canonicalize().is_ok_and(|input| input == output_dir) {
            bail!("--output_dir {} is the folder of {flag}: choose another", output_dir.display());
        }
    }
    Ok(())
}

fn find_checkpoint(settings: &Settings) -> Result<Option<PathBuf>> {
    let output_dir = &settings.training.output_dir;
    match &settings.resume {
        None => Ok(None),
        Some(Resume::From(path)) => {
            // A save that was interrupted may have moved it aside.
            if let Some(folder) = path.parent().filter(|folder| folder.is_dir()) {
                recover(folder)?;
            }
            if !path.is_dir() {
                bail!("--resume_from_checkpoint {}: there is no such folder", path.display());
            }
            verify(path)?;
            Ok(Some(path.clone()))
        }
        Some(Resume::Newest) => {
            let newest = newest_complete(output_dir)?;
            for skipped in newest.skipped {
                say(&format!("warning: {} is skipped: {}", skipped.checkpoint.path.display(), skipped.error));
            }
            match newest.checkpoint {
                Some(checkpoint) => Ok(Some(checkpoint.path)),
                None => bail!("--resume_from_checkpoint true: no complete checkpoint in {}", output_dir.display()),
            }
        }
    }
}

fn model_line(model: &CausalLm) -> String {
    let config = model.config();
    format!(
        "model: {:?}, {:.1}M parameters, {} layers of width {}, vocabulary {}; weights {:?}, arithmetic {:?} on {:?}",
        config.family,
        model.parameters().num_parameters() as f64 / 1e6,
        config.num_hidden_layers,
        config.hidden_size,
        config.vocab_size,
        model.parameters().flat_weights().kind(),
        model.compute_dtype(),
        model.options().device
    )
}

/// Rows that were set apart from others are known by the numbers they had among them.
fn name_rows_by(examples: &mut [sft_data::Example], numbers: &[u64]) {
    for row in examples.iter_mut().flat_map(|example| &mut example.rows) {
        let index = usize::try_from(*row).ok().and_then(|row| row.checked_sub(1));
        *row = index.and_then(|index| numbers.get(index)).copied().unwrap_or(*row);
    }
}

/// A tokenizer of another model can give ids that this one has no embedding for.
fn check_token_ids(split: &str, examples: &[sft_data::Example], vocab_size: i64) -> Result<()> {
    let largest = examples.iter().flat_map(|example| &example.input_ids).copied().max().unwrap_or(0);
    if i64::from(largest) >= vocab_size {
        bail!(
            "split {split}: the tokenizer gave token id {largest}, but the model's vocab_size is {vocab_size}; is it this model's tokenizer?"
        );
    }
    Ok(())
}

fn check_targets(split: &str, report: &PrepareReport) -> Result<()> {
    if report.target_tokens == 0 {
        bail!("split {split}: no row has two tokens or more, so there is nothing to predict");
    }
    Ok(())
}
