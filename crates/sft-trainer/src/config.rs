//! One run as configuration: every option of the documented recipe under Hugging Face's name.
//!
//! The options of a part belong to the crate that uses them ([`DatasetConfig`], [`PrepareConfig`],
//! [`TrainingArguments`], …). [`SftConfig`] puts the parts side by side, and
//! [`SftConfig::from_options`] fills them from one flat map of names to values, as a configuration
//! file or a command line has it.

mod auto;
pub mod foreign;
mod frontend;
mod layers;
mod model;
mod optimizer;
mod optimizer_name;
mod options;
mod options_file;
mod other_trainers;
mod push;
mod run;
pub mod values;

pub use auto::Auto;
pub use frontend::FrontendConfig;
pub use layers::Layers;
pub use model::ModelConfig;
pub use optimizer::{OptimizerConfig, WeightRounding};
pub use optimizer_name::OptimizerName;
pub(crate) use optimizer_name::UpdateKind;
pub use options::take_part;
pub use options_file::{OptionNames, OptionsFile};
pub use push::{HubStrategy, PushConfig};
pub use run::{ResumeFrom, RunConfig};

use crate::Error;
use options::{Options, fields, names};
use serde_json::{Map, Value};
use sft_data::{DatasetConfig, Evaluation, PrepareConfig, TokenizerOptions};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use trainer_core::{IntervalStrategy, TrainingArguments};

/// The dataset of the documented recipe.
const RECIPE_DATASET: &str = "yimeng521/sunny_datasets";

/// Everything that decides a run.
///
/// ```
/// use sft_trainer::SftConfig;
///
/// let config = SftConfig::new("Qwen/Qwen1.5-0.5B-Chat", "out");
/// assert_eq!(config.training.num_train_epochs, 10.0);
/// assert_eq!(config.dataset.dataset_name, "yimeng521/sunny_datasets");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SftConfig {
    /// Which model, and how it is held and computed.
    pub model: ModelConfig,
    /// Which rows.
    pub dataset: DatasetConfig,
    /// How rows become examples.
    pub prepare: PrepareConfig,
    /// What replaces parts of the model's tokenizer.
    pub tokenizer: TokenizerOptions,
    /// The optimizer and its constants.
    pub optimizer: OptimizerConfig,
    /// The loop: steps, schedule, evaluations, checkpoints. Its `output_dir` is the run's.
    pub training: TrainingArguments,
    /// Whether and how the model goes to the hub.
    pub push: PushConfig,
    /// What belongs to none of the parts above.
    pub run: RunConfig,
}

impl SftConfig {
    /// The documented recipe for a model (a folder or a hub id) and an output folder: GaLore AdamW
    /// of rank 1024 in bfloat16, 10 epochs at 1e-5, evaluated and saved each epoch.
    pub fn new(model_name: impl Into<String>, output_dir: impl Into<PathBuf>) -> Self {
        let mut config = Self::documented_recipe();
        config.model.model_name = model_name.into();
        config.training.output_dir = output_dir.into();
        config
    }

    /// The documented recipe without a model and an output folder.
    fn documented_recipe() -> Self {
        Self {
            model: ModelConfig::default(),
            dataset: DatasetConfig { dataset_name: RECIPE_DATASET.to_owned(), ..DatasetConfig::default() },
            prepare: PrepareConfig::default(),
            tokenizer: TokenizerOptions::default(),
            optimizer: OptimizerConfig::default(),
            training: TrainingArguments::documented_recipe(),
            push: PushConfig::default(),
            run: RunConfig::default(),
        }
    }

    /// The documented recipe with these options in place of its own. Keys are the field names of
    /// the parts. `null` means what `None` means in Hugging Face: it unsets a field that can be
    /// unset, also one that the recipe sets (`max_length`, `optim_args`, `save_total_limit`). For
    /// any other field it keeps the recipe's value. A text that is a number or a truth value is
    /// read as such.
    ///
    /// # Errors
    /// [`Error::Config`] lists every unknown key, every value of the wrong type and everything that
    /// [`validate`](Self::validate) finds.
    pub fn from_options(options: Map<String, Value>) -> Result<Self, Error> {
        let mut config = Self::documented_recipe();
        let mut options = Options::new(with_python_none(options));
        options.apply_to(&mut config.model);
        options.apply_to(&mut config.dataset);
        options.apply_to(&mut config.prepare);
        options.apply_to(&mut config.tokenizer);
        options.apply_to(&mut config.optimizer);
        options.apply_to(&mut config.training);
        options.apply_to(&mut config.push);
        options.apply_to(&mut config.run);
        let is_given = |name: &str| options.get(name).is_some_and(|value| !value.is_null());
        // What is given goes before the default of another option.
        if is_given("warmup_steps") && !is_given("warmup_ratio") {
            config.training.warmup_ratio = 0.0;
        }
        let mut problems = none_problems(&config, &options);
        problems.extend(options.problems());
        config.resolve();
        problems.extend(config.problems());
        if problems.is_empty() { Ok(config) } else { Err(Error::Config { problems }) }
    }

    /// All options by name, with their values, which [`from_options`](Self::from_options) reads.
    /// Later parts leave an option that an earlier one has. Those of the hub are left out: one of
    /// them is a token.
    pub fn to_options(&self) -> Map<String, Value> {
        let Self { model, dataset, prepare, tokenizer, optimizer, training, push: _, run } = self;
        let parts = [fields(model), fields(dataset), fields(prepare), fields(tokenizer), fields(optimizer)];
        let mut options = Map::new();
        for (name, value) in parts.into_iter().chain([fields(training), fields(run)]).flatten() {
            options.entry(name).or_insert(value);
        }
        options
    }

    /// The options whose values are not those of the documented recipe, without the model and the
    /// folder, which every run has to name.
    pub fn differences_from_recipe(&self) -> Map<String, Value> {
        let mut recipe = Self::documented_recipe();
        recipe.resolve();
        let recipe = recipe.to_options();
        let is_different = |(name, value): &(String, Value)| recipe.get(name) != Some(value);
        let is_named = |(name, _): &(String, Value)| matches!(name.as_str(), "model_name" | "output_dir");
        self.to_options().into_iter().filter(|option| is_different(option) && !is_named(option)).collect()
    }

    /// The names of all options.
    pub fn option_names() -> BTreeSet<String> {
        let Self { model, dataset, prepare, tokenizer, optimizer, training, push, run } = Self::documented_recipe();
        [names(&model), names(&dataset), names(&prepare), names(&tokenizer), names(&optimizer), names(&training)]
            .into_iter()
            .chain([names(&push), names(&run)])
            .flatten()
            .collect()
    }

    /// Checks everything that can be checked without reading a file.
    ///
    /// # Errors
    /// [`Error::Config`] lists every problem, with field, value and remedy.
    pub fn validate(&self) -> Result<(), Error> {
        let mut resolved = self.clone();
        resolved.resolve();
        let problems = resolved.problems();
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }

    /// Carries out where one option decides another. A second call changes nothing.
    pub(crate) fn resolve(&mut self) {
        self.dataset.seed = self.training.seed;
        // Hugging Face keeps all checkpoints without a limit; 0 says the same.
        self.training.save_total_limit = self.training.save_total_limit.filter(|limit| *limit > 0);
        if !self.run.do_eval {
            self.training.eval_strategy = IntervalStrategy::No;
            self.training.eval_on_start = false;
        }
        self.dataset.evaluation = match (self.evaluates(), self.dataset.evaluation) {
            (false, _) => Evaluation::Off,
            (true, Evaluation::Off) => Evaluation::Required,
            (true, evaluation) => evaluation,
        };
    }

    /// Whether the run evaluates at any time.
    pub fn evaluates(&self) -> bool {
        self.run.do_eval && (self.training.eval_strategy != IntervalStrategy::No || self.training.eval_on_start)
    }

    /// What a batch is padded to a multiple of, or `None` where rows lie end to end.
    pub fn padded_to_multiple_of(&self) -> Option<NonZeroUsize> {
        let multiple = self.run.pad_to_multiple_of.and_then(NonZeroUsize::new);
        match self.run.padding_free {
            Auto(Some(true)) => None,
            Auto(Some(false)) => Some(multiple.unwrap_or(NonZeroUsize::MIN)),
            Auto(None) => multiple,
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.model.model_name.is_empty() {
            problems.push("`model_name` is missing: a model's folder or its hub id".to_owned());
        }
        problems.extend(self.model.problems());
        problems.extend(self.optimizer.problems());
        problems.extend(self.training.validate().err().map(|error| error.to_string()));
        problems.extend(self.prepare.validate().err().map(|error| error.to_string()));
        problems.extend(self.dataset.validate().err().map(|error| error.to_string()));
        problems.extend(self.push.problems(&self.training.output_dir));
        problems.extend(self.run.problems());
        if self.padded_to_multiple_of().is_some() && self.prepare.packing {
            let fix = "packed rows are not padded: leave out packing or padding";
            problems.push(format!("padding_free is false: {fix}"));
        }
        if self.run.early_stopping_patience.is_some() && !self.evaluates() {
            let fix = "needs evaluations: set eval_strategy to epoch or steps";
            problems.push(format!("early_stopping_patience is set: {fix}"));
        }
        problems
    }
}

/// Replaces `null` where an option's `None` is a value of its own in Hugging Face, which the
/// recipe's default is not.
fn with_python_none(mut options: Map<String, Value>) -> Map<String, Value> {
    let is_galore = options.get("optim").is_none_or(|name| name.as_str().is_none_or(|name| name.starts_with("galore")));
    // The file's own type; and galore-torch's own rank, gap and scale.
    for (name, none) in [("dtype", Some("auto")), ("optim_args", is_galore.then_some(""))] {
        if let (Some(value @ Value::Null), Some(none)) = (options.get_mut(name), none) {
            *value = none.into();
        }
    }
    options
}

/// `None` where Hugging Face refuses it, although the recipe has a default.
fn none_problems(config: &SftConfig, options: &Options) -> Vec<String> {
    let is_none = |name: &str| options.get(name).is_some_and(Value::is_null);
    let mut problems = Vec::new();
    if is_none("optim_target_modules") && config.optimizer.optim.is_projected() {
        problems
            .push("optim_target_modules is null: GaLore needs the names of modules, such as attn and mlp".to_owned());
    }
    let is_given = |name: &str| options.get(name).is_some_and(|value| !value.is_null());
    for name in ["data_files", "data_dir"] {
        if is_given(name) && !is_given("dataset_name") && !is_given("datasets") {
            let fix = "name the dataset that has them with dataset_name; json, csv, parquet, text and arrow are for files \
                       anywhere";
            problems.push(format!("{name} is set: {fix}"));
        }
    }
    if is_given("datasets") && is_given("dataset_name") && !config.dataset.datasets.is_empty() {
        problems.push("dataset_name is set: the rows are those of datasets; leave one of the two out".to_owned());
    }
    if is_none("dataset_name") {
        problems.push("dataset_name is null: name a dataset, or leave the key out".to_owned());
    }
    let given = options.get("recompute").and_then(Value::as_str);
    if given == Some("auto") && !config.model.gradient_checkpointing {
        problems.push("recompute is auto: gradient_checkpointing is false: leave one of the two out".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests;
