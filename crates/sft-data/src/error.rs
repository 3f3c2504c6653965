//! Everything that can go wrong between a dataset name and a batch.

use std::path::PathBuf;

/// An error of this crate. Its message is one line that names the file, line or field, what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The dataset name is neither something on disk nor the name of a hub repository.
    #[error("dataset {name:?} not found: no such file or folder, and not a hub id of the form `owner/name`")]
    DatasetNotFound {
        /// The name as given.
        name: String,
    },
    /// A file or folder cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file has a name that no reader knows.
    #[error("{}: unknown format; known are {}", path.display(), crate::dataset::KNOWN_EXTENSIONS)]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A folder or repository holds no file that a reader knows.
    #[error("{location}: no data files found ({found}); known are {}", crate::dataset::KNOWN_EXTENSIONS)]
    NoDataFiles {
        /// The folder or repository.
        location: String,
        /// What is there instead.
        found: String,
    },
    /// A file or split has no rows.
    #[error("{location}: empty, there are no rows to train on")]
    NoRows {
        /// The file, folder or repository and the split.
        location: String,
    },
    /// A row is malformed.
    #[error("{}:{line}: {problem}", path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Line of the file, or row for a file without lines, from 1.
        line: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A file cannot be decoded as a whole.
    #[error("{}: {problem}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No column holds something to train on.
    #[error(
        "{location}: no column `{wanted}`, nor `messages`, `conversations` or `prompt` and `completion`; \
         columns are {}: name one with --dataset_text_field",
        columns.join(", ")
    )]
    NoTextColumn {
        /// The file, folder or repository.
        location: String,
        /// The column asked for.
        wanted: String,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// A split asked for does not exist.
    #[error("{location}: no split `{wanted}`; splits are {}", available.join(", "))]
    NoSuchSplit {
        /// The file, folder or repository.
        location: String,
        /// The split asked for.
        wanted: String,
        /// The splits there are.
        available: Vec<String>,
    },
    /// There is nothing to evaluate on.
    #[error("{location}: only one split, `{only}`: give --test_size 0.1 to set rows aside for evaluation")]
    OnlyOneSplit {
        /// The file, folder or repository.
        location: String,
        /// The split there is.
        only: String,
    },
    /// A configuration field has an impossible value.
    #[error("{field} = {value}: {expected}")]
    BadConfig {
        /// The field.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What it has to be.
        expected: String,
    },
    /// A tokenizer file is missing or malformed.
    #[error("{}: {problem}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A text could not be tokenised.
    #[error("row {row}: cannot be tokenised: {problem}")]
    Tokenize {
        /// Which row, from 1.
        row: usize,
        /// What the tokenizer said.
        problem: String,
    },
    /// The chat template is missing, malformed, or refused a conversation.
    #[error("{location}: chat template: {problem}")]
    ChatTemplate {
        /// Where: the tokenizer's folder, or the row.
        location: String,
        /// What is wrong.
        problem: String,
        /// What the template engine said.
        #[source]
        source: Option<minijinja::Error>,
    },
    /// The hub refused, lacks the repository, or could not be reached.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}
