//! Which dataset to read, and which of its splits and columns.

use super::{ByteSize, DataFiles, DatasetFormat, DatasetSource, MixStrategy, data_files, mixture, patterns};
use crate::{ConfigProblem, Error};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Which dataset to read, and which of its splits and columns.
///
/// The fields have the names that Hugging Face's scripts give to the same settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatasetConfig {
    /// A file, a folder, or the name of a repository such as `owner/name`. Empty by default, which
    /// is not usable.
    pub dataset_name: String,
    /// Several datasets to train on in place of `dataset_name`. Rows to evaluate on are set aside
    /// of their mixture with `test_size`. None by default.
    #[serde(deserialize_with = "mixture::sources")]
    pub datasets: Vec<DatasetSource>,
    /// How the rows of `datasets` follow each other. `concat` by default.
    pub mix_strategy: MixStrategy,
    /// With `mix_strategy` other than `concat`: how likely each dataset is to give the next row.
    /// They sum to 1. None by default: the datasets take turns.
    #[serde(deserialize_with = "mixture::numbers")]
    pub interleave_probs: Option<Vec<f64>>,
    /// The configuration to use if the dataset card declares several. By default the one that is
    /// marked as the default or named `default`.
    pub dataset_config: Option<String>,
    /// Revision of a repository: a branch, a tag or a commit. `main` by default. Ignored for files
    /// and folders.
    pub dataset_revision: String,
    /// The files to read in place of those that the dataset's card or its file names say. They are
    /// relative to the dataset's folder or repository. If `dataset_name` is the name of a reader
    /// (`json`, `csv`, `parquet`, `text`, `arrow`), they may be anywhere. None by default.
    pub data_files: Option<DataFiles>,
    /// The folder inside the dataset to read from, as if it were the dataset. With the name of a
    /// reader as `dataset_name`, any folder. None by default.
    pub data_dir: Option<String>,
    /// The split to train on. `train` by default.
    pub dataset_train_split: Option<String>,
    /// The split to evaluate on. By default the first one that exists of `test`, `validation`,
    /// `eval` and `dev`.
    pub dataset_test_split: Option<String>,
    /// How many rows to set aside for evaluation if there is no split for it: a fraction below 1,
    /// or a number of rows. They are the rows that `Dataset.train_test_split(test_size, seed=seed)`
    /// of the `datasets` library selects. None by default.
    pub test_size: Option<f64>,
    /// Train on the first so many rows of the training split, after rows have been set aside. All
    /// by default.
    pub max_train_samples: Option<usize>,
    /// Evaluate on the first so many rows of the evaluation split. All by default.
    pub max_eval_samples: Option<usize>,
    /// Seed of the selection by `test_size`. 42 by default, as in Hugging Face's trainer.
    pub seed: u64,
    /// The column with the text. `text` by default, as in TRL. A column of any other name takes
    /// precedence over columns of messages, and may itself hold messages.
    pub dataset_text_field: String,
    /// What the rows are. By default the columns show it.
    pub dataset_format: Option<DatasetFormat>,
    /// A Jinja template that makes the text of a row of its columns, such as
    /// `{{ question }} {{ answer }}`, or a file that holds one. None by default.
    pub text_template: Option<String>,
    /// How much memory the rows and, later, their tokens may take, estimated while they are read: a
    /// number of bytes or a text such as `8GiB`. Without a limit by default; a caller that knows
    /// what the machine has sets one.
    pub max_dataset_memory: Option<ByteSize>,
    /// Whether there must be something to evaluate on. Required by default.
    pub evaluation: Evaluation,
}

/// Whether there must be something to evaluate on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluation {
    /// A dataset with nothing to evaluate on is an error.
    #[default]
    Required,
    /// A split to evaluate on is used if there is one.
    Optional,
    /// No split is read for evaluation, and no rows are set aside.
    Off,
}

serde_plain::derive_display_from_serialize!(Evaluation);
serde_plain::derive_fromstr_from_deserialize!(Evaluation);

impl Default for DatasetConfig {
    fn default() -> Self {
        Self {
            dataset_name: String::new(),
            datasets: Vec::new(),
            mix_strategy: MixStrategy::default(),
            interleave_probs: None,
            dataset_config: None,
            dataset_revision: "main".to_owned(),
            data_files: None,
            data_dir: None,
            dataset_train_split: None,
            dataset_test_split: None,
            test_size: None,
            max_train_samples: None,
            max_eval_samples: None,
            seed: 42,
            dataset_text_field: "text".to_owned(),
            dataset_format: None,
            text_template: None,
            max_dataset_memory: None,
            evaluation: Evaluation::default(),
        }
    }
}

impl DatasetConfig {
    /// The dataset's name, or those of the datasets of a mixture.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let alone = self.datasets.is_empty().then_some(self.dataset_name.as_str());
        alone.into_iter().chain(self.datasets.iter().map(|source| source.path.as_str()))
    }

    /// The same as one text, for people to read.
    pub fn shown_name(&self) -> String {
        self.names().collect::<Vec<_>>().join(" + ")
    }

    /// Whether the dataset is on this machine, so that no hub is needed: a file, a folder, a
    /// pattern that names files, or files of a reader's name.
    pub fn is_local(&self) -> bool {
        let is_local = |name: &str| {
            Path::new(name).exists() || patterns::is_pattern(name) || data_files::reader_named(name).is_some()
        };
        self.names().all(is_local)
    }

    /// Checks the fields without reading anything.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem: `dataset_name` is empty, `test_size` is negative or
    /// not a number, or `max_train_samples` or `max_eval_samples` is 0. Whether `test_size` fits
    /// the number of rows is checked when they are read.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        problems.extend(mixture::problems(self));
        if self.dataset_name.is_empty() && self.datasets.is_empty() {
            problems.push(ConfigProblem::new("dataset_name", "empty", "give a file, a folder or a repository's name"));
        }
        if let Some(size) = self.test_size
            && (size.is_nan() || size < 0.0)
        {
            problems.push(ConfigProblem::new("test_size", size, "use a fraction below 1 or a number of rows"));
        }
        if let (Some(format), Some(_)) = (self.dataset_format, &self.text_template) {
            problems.push(ConfigProblem::new(
                "dataset_format",
                format,
                "`text_template` makes texts; leave one of them out",
            ));
        }
        if self.text_template.is_some() && self.dataset_text_field != "text" {
            let fix = "`text_template` makes the text; leave one of them out";
            problems.push(ConfigProblem::new("dataset_text_field", &self.dataset_text_field, fix));
        }
        for (field, rows) in
            [("max_train_samples", self.max_train_samples), ("max_eval_samples", self.max_eval_samples)]
        {
            if rows == Some(0) {
                problems.push(ConfigProblem::new(field, 0, "use 1 or more, or leave it out for all rows"));
            }
        }
        Error::of_problems(problems)
    }
}
