//! Everything that can go wrong between a dataset name and a batch.

use std::fmt;
use std::path::PathBuf;

/// Where a row is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// A line of a text file, from 1.
    Line(u64),
    /// A row of a file without lines, from 1.
    Row(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// An error of this crate. Its message is one line that names the file, line or field, what was
/// found and what to do; what another library said is kept as the source, so print the chain
/// (`{:#}` of `anyhow`).
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
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file has a name that no reader knows.
    #[error("{}: unknown format; known are {}", path.display(), crate::dataset::KNOWN_FORMATS)]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A folder or repository holds no file that a reader knows.
    #[error("{location}: no data files found ({found}); known are {}", crate::dataset::KNOWN_FORMATS)]
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
    #[error("{}, {at}: {problem}", path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: Position,
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
        "{}: no column `{wanted}`, nor `messages`, `conversations` or `prompt` and `completion`; \
         columns are {}: name one with --dataset_text_field",
        path.display(),
        columns.join(", ")
    )]
    NoTextColumn {
        /// The file.
        path: PathBuf,
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
    /// A tokenizer file cannot be parsed.
    #[error("{}: not a tokenizer that can be loaded", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system has no threads left to put rows into tokens.
    #[error("cannot start threads to put rows into tokens; RAYON_NUM_THREADS sets how many there are")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// A text cannot be tokenised, or ids cannot be decoded.
    #[error("the tokenizer refused {what}")]
    Tokenize {
        /// Which text.
        what: String,
        /// What the tokenizer said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tokenizer has no chat template, and a conversation is to be put into words.
    #[error(
        "{}: the tokenizer has no chat template, which a conversation needs: add chat_template.jinja, or train on \
         plain text",
        dir.display()
    )]
    NoChatTemplate {
        /// The tokenizer's folder.
        dir: PathBuf,
    },
    /// The chat template is malformed or refused a conversation.
    #[error("chat template, {during}")]
    ChatTemplate {
        /// What was being done.
        during: String,
        /// What the template said.
        #[source]
        source: minijinja::Error,
    },
    /// The chat template does more than putting a chat into words takes.
    #[error(
        "chat template, {during}: stopped, as {reason}; is it damaged or hostile? --chat_template_path names another"
    )]
    ChatTemplateStopped {
        /// What was being done.
        during: String,
        /// Which bound it met.
        reason: String,
    },
    /// The tokens of the assistant's turns cannot be told from the others.
    #[error("assistant_only_loss: {problem}")]
    AssistantMask {
        /// Why, and what to do.
        problem: String,
    },
    /// A prompt and its completion are of different kinds.
    #[error("of prompt and completion one is text and the other a list of messages; both have to be of one kind")]
    MixedTurns,
    /// A row could not be prepared.
    #[error("row {row}")]
    Row {
        /// Which row of its split, from 1.
        row: usize,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// No row has anything to learn.
    #[error(
        "none of {rows} rows is left to train on: {empty} have no text or no token to learn, of {truncated} max_length \
         cuts off every such token"
    )]
    NothingLeft {
        /// Rows there were.
        rows: usize,
        /// Rows without anything to learn.
        empty: usize,
        /// Rows of which too much was cut off.
        truncated: usize,
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
