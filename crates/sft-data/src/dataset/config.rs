//! Which dataset to read, and which of its splits and columns.

use super::{ByteSize, DatasetFormat};
use crate::{ConfigProblem, Error};
use serde::{Deserialize, Serialize};

/// Which dataset to read, and which of its splits and columns.
///
/// The fields have the names that Hugging Face's scripts give to the same settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatasetConfig {
    /// A file, a folder, or the name of a repository such as `owner/name`. Empty by default, which
    /// is not usable.
    pub dataset_name: String,
    /// The configuration to use if the dataset card declares several. By default the one that is
    /// marked as the default or named `default`.
    pub dataset_config: Option<String>,
    /// Revision of a repository: a branch, a tag or a commit. `main` by default. Ignored for files
    /// and folders.
    pub dataset_revision: String,
    /// The split to train on. `train` by default.
    pub dataset_train_split: Option<String>,
    /// The split to evaluate on. By default the first one that exists of `test`, `validation`,
    /// `eval` and `dev`.
    pub dataset_test_split: Option<String>,
    /// How many rows to set aside for evaluation if there is no split for it: a fraction below 1,
    /// or a number of rows. They are the rows that `Dataset.train_test_split(test_size, seed=seed)`
    /// of the `datasets` library selects. None by default.
    pub test_size: Option<f64>,
    /// Seed of that selection. 42 by default, as in Hugging Face's trainer.
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
            dataset_config: None,
            dataset_revision: "main".to_owned(),
            dataset_train_split: None,
            dataset_test_split: None,
            test_size: None,
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
    /// Checks the fields without reading anything.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem: `dataset_name` is empty, or `test_size` is negative or
    /// not a number. Whether `test_size` fits the number of rows is checked when they are read.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        if self.dataset_name.is_empty() {
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
        Error::of_problems(problems)
    }
}
