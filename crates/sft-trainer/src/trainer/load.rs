//! From a configuration to a run that can start.

use super::{OwnRows, SftTrainer, SftTrainerBuilder};
use crate::batches::{RowOrder, SplitBatches};
use crate::config::{ResumeFrom, SftConfig};
use crate::fingerprint::RunFile;
use crate::hub::Hub;
use crate::learner::SftLearner;
use crate::push::Pusher;
use crate::{Error, memory, optimizer, summary};
use causal_lm::{BucketPadding, CausalLm, Config, SpecialTokenIds};
use checkpoint_callbacks::{
    InputDir, OutputDirLock, OutputDirUse, Resume, SpaceNeeded, check_inputs, check_output_dir, check_space,
    checkpoint_to_resume,
};
use sft_data::{
    ByteSize, ChatTokenizer, DatasetConfig, Example, LocalFiles, OpenRepository, PrepareReport, Row, SamplingStrategy,
    SpecialTokensInText, Splits, TokenCache, load_splits, prepare,
};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Device;
use tracing::{info, warn};
use trainer_core::{BatchSource, Plan};

/// Where a set-up puts libtorch's CUDA libraries inside the cache folder.
const CUDA_IN_CACHE: &str = "torch-2.11.0-cuda/torch/lib";

pub(super) fn load(builder: SftTrainerBuilder<'_>) -> Result<SftTrainer<'_>, Error> {
    let SftTrainerBuilder { config, rows, optimizer, hub, bars, cache_folder } = builder;
    config.validate()?;
    if let Some(line) = config.run.unwritten_reports() {
        warn!("{line}");
    }
    let training = &config.training;
    // The first check: a folder that another run is writing to has checkpoints, which this run must
    // not take for those of a run that has ended.
    let lock = OutputDirLock::take(&training.output_dir)?;
    let checkpoint = match &config.run.resume_from_checkpoint {
        ResumeFrom::Nothing => None,
        ResumeFrom::Newest => Some(checkpoint_to_resume(&training.output_dir, &Resume::Newest)?),
        ResumeFrom::NewestIfAny => match checkpoint_to_resume(&training.output_dir, &Resume::Newest) {
            Err(checkpoint_callbacks::Error::NoCompleteCheckpoint { .. }) => None,
            found => Some(found?),
        },
        ResumeFrom::Checkpoint(path) => Some(checkpoint_to_resume(&training.output_dir, &Resume::From(path.clone()))?),
    };
    let wanted_for = OutputDirUse::for_checkpoint(&training.output_dir, checkpoint.as_deref());
    check_output_dir(&training.output_dir, wanted_for).map_err(|error| match error {
        source @ checkpoint_callbacks::Error::OutputDirInUse { .. } => Error::EarlierRun { source },
        error => error.into(),
    })?;
    let pusher = Pusher::new(&config)?;
    let device = choose_device(&config, cache_folder.as_deref())?;

    let hub = match hub {
        None if needs_hub(&config, rows.is_some()) => {
            let hub = Hub::from_env()?;
            Some(bars.into_iter().fold(hub, Hub::with_progress))
        }
        hub => hub,
    };
    let model_dir = match &hub {
        Some(hub) => hub.model_config_dir(&config.model.model_name, &config.model.model_revision)?,
        None => PathBuf::from(&config.model.model_name),
    };
    let mut inputs = vec![InputDir { what: "model", path: &model_dir }];
    inputs.extend(config.dataset.names().map(|name| InputDir { what: "dataset", path: Path::new(name) }));
    check_inputs(&training.output_dir, &inputs)?;
    let model_config = Config::from_dir(&model_dir)?;
    memory::check_fits(&config, &model_config, device)?;
    let tokenizer = ChatTokenizer::load(&model_dir, &config.tokenizer)?;
    let mut splits = match rows {
        Some(OwnRows { train, eval }) => own_splits(train, eval),
        None => {
            info!("reading the dataset {}", config.dataset.shown_name());
            load_splits(&dataset_config(&config), hub.as_ref().map_or(&LocalFiles as &dyn OpenRepository, |hub| hub))?
        }
    };
    if config.evaluates() && splits.eval.is_none() {
        let problem = format!("eval_strategy is {}: there are no rows to evaluate on", training.eval_strategy);
        return Err(Error::Config { problems: vec![problem] });
    }
    let source_line = summary::source_line(&splits);
    info!("{source_line}");
    if let Some(line) = summary::unused_columns_line(&splits) {
        info!("{line}");
    }
    let cache = token_cache(&config, cache_folder.as_deref())?;
    let mut loading = LoadSplit {
        config: &config,
        tokenizer: &tokenizer,
        cache: cache.as_ref(),
        model: &model_config,
        device,
        told: vec![source_line],
    };
    let mut train = loading.train(&mut splits)?;
    let eval = loading.eval(&mut splits)?;
    let data = loading.told;
    if let Some(example) = train.examples.first() {
        let text = tokenizer.decode(&example.input_ids, SpecialTokensInText::Keep)?;
        info!("first row: {}", summary::excerpt(&text));
    }

    let model_dir = match hub.as_ref().filter(|_| !Path::new(&config.model.model_name).exists()) {
        // The folder's name is the commit that the small files are of.
        Some(hub) => match model_dir.file_name().and_then(|commit| commit.to_str()) {
            Some(commit) => hub.model_dir(&config.model.model_name, commit)?,
            None => model_dir,
        },
        None => model_dir,
    };
    info!("loading the model's weights from {}", model_dir.display());
    let (mut model, report) = CausalLm::load(&model_dir, config.model.options_on(device))?;
    summary::tell_model(&model, &report);
    let built = match optimizer {
        None => optimizer::build(&mut model, &config)?,
        Some((name, build)) => optimizer::custom(name, build(&mut model).map_err(Error::CustomOptimizer)?),
    };
    let mut optimizer = built.optimizer;
    if config.model.chosen_recompute().is_none() {
        // Weights, gradients and the optimizer's state have their memory by now.
        memory::share_out(&mut model, &mut *optimizer, train.full_batch_tokens());
    }
    train.choose_graphs(&mut model, config.model.cuda_graphs.0);
    let eval_examples = eval.as_ref().map(|eval| &*eval.examples);
    let fingerprint = RunFile::new(&config, &model, built.fingerprint, (&train.examples, eval_examples))?;
    // After the fingerprint, which is of the model as it was found.
    align_special_tokens(&mut model, &tokenizer, config.tokenizer.eos_token.is_some());
    let mut learner = SftLearner::new(model, optimizer, tokenizer, fingerprint);
    learner.saves_only_model = training.save_only_model;
    let plan = Plan::new(training, train.num_batches());
    check_space(&training.output_dir, &SpaceNeeded::for_run(training, &plan, learner.checkpoint_size()?))?;
    summary::tell_training(training);
    Ok(SftTrainer { config, learner, train, eval, checkpoint, lock, callbacks: Vec::new(), data, pusher })
}

/// Saves the model with the tokenizer's special tokens, so that it stops at the end token it
/// learns.
fn align_special_tokens(model: &mut CausalLm, tokenizer: &ChatTokenizer, eos_is_chosen: bool) {
    let ids =
        SpecialTokenIds { bos: tokenizer.bos_token_id(), eos: tokenizer.eos_token_id(), pad: tokenizer.pad_token_id() };
    if eos_is_chosen {
        model.set_eos_token_id(ids.eos);
    }
    model.align_special_tokens(ids);
}

/// Whether the model or the dataset is not here. A run without downloads must not fail over the
/// settings of a hub.
pub(crate) fn needs_hub(config: &SftConfig, has_rows: bool) -> bool {
    !Path::new(&config.model.model_name).is_dir() || !(has_rows || config.dataset.is_local())
}

/// The device to train on. CUDA is looked for in the cache too, and compiled kernels are kept
/// there.
pub(crate) fn choose_device(config: &SftConfig, cache_folder: Option<&Path>) -> Result<Device, Error> {
    let cuda_folders: Vec<PathBuf> = cache_folder.map(|folder| folder.join(CUDA_IN_CACHE)).into_iter().collect();
    let device = torch_ext::device::choose(config.model.chosen_device(), &cuda_folders)?;
    if let Some(folder) = cache_folder.filter(|_| device.is_cuda()) {
        torch_ext::kernels::keep_compiled_in(folder.join("kernels"));
    }
    Ok(device)
}

/// What to read, with a limit on its memory: half of what the machine has free, unless the user
/// chose one.
pub(crate) fn dataset_config(config: &SftConfig) -> DatasetConfig {
    let mut dataset = config.dataset.clone();
    let free_bytes = [torch_ext::host::memory().free_bytes, torch_ext::host::unused_cgroup_bytes()];
    let half = free_bytes.into_iter().flatten().min().map(|bytes| ByteSize(bytes / 2));
    dataset.max_dataset_memory = dataset.max_dataset_memory.or(half);
    dataset
}

/// Where tokenized rows are kept, if they are to be.
fn token_cache(config: &SftConfig, cache_folder: Option<&Path>) -> Result<Option<TokenCache>, Error> {
    let Some(folder) = cache_folder.filter(|_| config.run.token_cache) else { return Ok(None) };
    let cache = TokenCache::new(folder.join("tokens"), config.run.token_cache_limit);
    Ok(Some(cache.keyed_by(serde_json::to_value(&config.tokenizer)?)))
}

/// Rows that the caller brought.
fn own_splits(train: Vec<Row>, eval: Option<Vec<Row>>) -> Splits {
    let eval_name = eval.as_ref().map(|_| "test".to_owned());
    Splits {
        train,
        train_numbers: None,
        eval,
        train_name: "train".to_owned(),
        eval_name,
        source: "rows of the program".to_owned(),
        unused_columns: Vec::new(),
    }
}

/// Turns the rows of a split into batches.
struct LoadSplit<'a> {
    config: &'a SftConfig,
    tokenizer: &'a ChatTokenizer,
    cache: Option<&'a TokenCache>,
    model: &'a Config,
    device: Device,
    /// What was said about the rows.
    told: Vec<String>,
}

impl LoadSplit<'_> {
    fn train(&mut self, splits: &mut Splits) -> Result<SplitBatches, Error> {
        let per_device_train_batch_size = self.config.training.per_device_train_batch_size;
        let mut train =
            self.batches(&splits.train_name, std::mem::take(&mut splits.train), per_device_train_batch_size)?;
        train.order = self.train_order();
        if let (Some(numbers), Some(examples)) = (&splits.train_numbers, Arc::get_mut(&mut train.examples)) {
            name_rows_by(examples, numbers);
        }
        Ok(train)
    }

    fn train_order(&self) -> RowOrder {
        let training = &self.config.training;
        let seed = training.row_order_seed();
        let rows_per_step =
            NonZeroUsize::new(training.per_device_train_batch_size * training.gradient_accumulation_steps);
        match self.config.run.sampling() {
            SamplingStrategy::Random => RowOrder::Shuffled { seed },
            SamplingStrategy::Sequential => RowOrder::Sequential,
            SamplingStrategy::GroupByLength => {
                RowOrder::GroupedByLength { seed, rows_per_step: rows_per_step.unwrap_or(NonZeroUsize::MIN) }
            }
        }
    }

    fn eval(&mut self, splits: &mut Splits) -> Result<Option<SplitBatches>, Error> {
        let Some(rows) = splits.eval.take() else { return Ok(None) };
        let name = splits.eval_name.as_deref().unwrap_or("test");
        self.batches(name, rows, self.config.training.per_device_eval_batch_size).map(Some)
    }

    /// The rows are given away, so that each is freed when it has been tokenized.
    fn batches(&mut self, name: &str, rows: Vec<Row>, batch_size: usize) -> Result<SplitBatches, Error> {
        let in_split = |source| Error::Split { split: name.to_owned(), source };
        info!("tokenizing {} of split {name}", summary::counted(rows.len(), "row"));
        let prepared = match self.cache {
            Some(cache) => cache.prepare(rows, self.tokenizer, &self.config.prepare),
            None => prepare(rows, self.tokenizer, &self.config.prepare),
        };
        let prepared = prepared.map_err(in_split)?;
        check_token_ids(name, &prepared.examples, self.model.vocab_size)?;
        let line = summary::split_line(name, &prepared.report);
        info!("{line}");
        self.told.push(line);
        check_targets(name, &prepared.report)?;
        // A tokenizer may have gained a pad token that the model has no embedding for.
        let has_embedding = |id: &u32| i64::from(*id) < self.model.vocab_size;
        let pad_token_id = Some(self.tokenizer.pad_token_id()).filter(has_embedding);
        let pad_token_id = pad_token_id.unwrap_or(self.tokenizer.eos_token_id());
        Ok(SplitBatches {
            examples: prepared.examples.into(),
            batch_size,
            order: RowOrder::Sequential,
            padded_to_multiple_of: self.config.padded_to_multiple_of(),
            // The CPU has no search for the best algorithm of a new size, and would compute the
            // padding.
            bucket: self.device.is_cuda().then(|| BucketPadding::for_gpu(i64::from(pad_token_id))),
            pad_token_id,
            device: self.device,
        })
    }
}

/// Rows that were set apart from others keep the numbers they had among them.
fn name_rows_by(examples: &mut [Example], numbers: &[u64]) {
    for row in examples.iter_mut().flat_map(|example| &mut example.rows) {
        let index = usize::try_from(*row).ok().and_then(|row| row.checked_sub(1));
        *row = index.and_then(|index| numbers.get(index)).copied().unwrap_or(*row);
    }
}

/// A tokenizer of another model can give ids that this one has no embedding for.
fn check_token_ids(split: &str, examples: &[Example], vocab_size: i64) -> Result<(), Error> {
    let token_id = examples.iter().flat_map(|example| &example.input_ids).copied().max().unwrap_or(0);
    if i64::from(token_id) < vocab_size {
        return Ok(());
    }
    Err(Error::TokenId { split: split.to_owned(), token_id, vocab_size })
}

fn check_targets(split: &str, report: &PrepareReport) -> Result<(), Error> {
    if report.target_tokens > 0 { Ok(()) } else { Err(Error::NoTargets { split: split.to_owned() }) }
}
