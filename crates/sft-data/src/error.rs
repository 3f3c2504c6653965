//! The crate's error type.

use crate::{ByteSize, DatasetFormat};
use std::fmt;
use std::path::{Path, PathBuf};

/// Any error, as other libraries and implementations of this crate's traits return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a row is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// A line of a text file, counted from 1.
    Line(u64),
    /// A row of a file that has no lines, counted from 1.
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

/// A configuration field with a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The field's name.
    pub field: &'static str,
    /// The value it had.
    pub value: String,
    /// What to use instead.
    pub fix: String,
}

impl ConfigProblem {
    pub(crate) fn new(field: &'static str, value: impl fmt::Display, fix: impl Into<String>) -> Self {
        Self { field, value: value.to_string(), fix: fix.into() }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.field, self.value, self.fix)
    }
}

/// What can go wrong between the name of a dataset and a batch.
///
/// A message is one line. It names the file, line or field, what was found there, and what to do.
/// Errors of other libraries are kept as sources, so print the whole chain (`{:#}` of `anyhow`).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The dataset's name is neither a file nor a folder, and cannot be the name of a repository.
    #[error("dataset {name:?} not found: no such file or folder, and not a hub id of the form `owner/name`")]
    DatasetNotFound {
        /// The name as given.
        name: String,
    },
    /// A file or folder cannot be opened, read or written.
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system reported.
        #[source]
        source: std::io::Error,
    },
    /// The extension of a file belongs to no known format.
    #[error("{}: unknown format; known are {}", path.display(), crate::dataset::KNOWN_FORMATS)]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A folder or repository holds no file of a known format.
    #[error("{location}: no data files found ({found}); known are {}", crate::dataset::KNOWN_FORMATS)]
    NoDataFiles {
        /// The folder or repository.
        location: String,
        /// What is there instead.
        found: String,
    },
    /// A split of a repository is not complete. Without a network, only the files in the cache are
    /// there.
    #[error("{location} is not complete: {missing}; fetch the rest while the hub can be reached")]
    MissingShards {
        /// The repository.
        location: String,
        /// Which files are missing.
        missing: String,
    },
    /// A split has no rows.
    #[error("{location}: empty, there are no rows to train on")]
    NoRows {
        /// The file, folder or repository, and the split.
        location: String,
    },
    /// A row is malformed.
    #[error("{}, {at}: {problem}", path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Where the row is in the file.
        at: Position,
        /// What is wrong with the row.
        problem: String,
    },
    /// A file cannot be decoded.
    #[error("{}: {problem}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        problem: String,
    },
    /// No column holds anything to train on.
    #[error(
        "{}: no column `{wanted}`, nor `messages`, `conversations` or `prompt` and `completion`; columns are {}: \
         {advice}",
        path.display(),
        listed(columns)
    )]
    NoTextColumn {
        /// The file.
        path: PathBuf,
        /// The column that was asked for.
        wanted: String,
        /// The columns of the file.
        columns: Vec<String>,
        /// What the columns look like, and what to do.
        advice: String,
    },
    /// A file has not the columns of the format that was chosen, or they hold something else.
    #[error(
        "{}: `dataset_format` is {format}, which needs `{needs}`; columns are {}: choose another format, or leave it out",
        path.display(),
        listed(columns)
    )]
    NotOfFormat {
        /// The file.
        path: PathBuf,
        /// The format that was chosen.
        format: DatasetFormat,
        /// The columns that it needs.
        needs: String,
        /// The columns of the file.
        columns: Vec<String>,
    },
    /// A file lacks a column that the first file of the dataset has.
    #[error(
        "{}: no column `{wanted}`, which the first file of the dataset has; columns are {}",
        path.display(),
        listed(columns)
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column that is missing.
        wanted: String,
        /// The columns of the file.
        columns: Vec<String>,
    },
    /// The rows take more memory than they may.
    #[error(
        "{}: up to its row {} the dataset and its tokens need more than the {limit} of memory that they may take; \
         train on fewer rows, or raise `max_dataset_memory`",
        path.display(),
        grouped(*rows)
    )]
    TooManyRows {
        /// The file that was being read.
        path: PathBuf,
        /// Number of rows that had been read from it.
        rows: u64,
        /// What the rows may take.
        limit: ByteSize,
    },
    /// The chat template leaves out what a message calls.
    #[error(
        "the chat template leaves out the tool calls of message {number}: name a template that writes them with \
         `chat_template_path`, or remove them"
    )]
    ToolCallsLeftOut {
        /// The number of the message in its chat, counted from 1.
        number: usize,
    },
    /// The chat template leaves out a whole message.
    #[error(
        "the chat template leaves out message {number}, whose role is {role:?}: give it a role that the template \
         knows, remove it, or name another template with `chat_template_path`"
    )]
    MessageLeftOut {
        /// The number of the message in its chat, counted from 1.
        number: usize,
        /// Its role.
        role: String,
    },
    /// A split that was asked for does not exist.
    #[error("{location}: no split `{wanted}`; splits are {}", available.join(", "))]
    NoSuchSplit {
        /// The file, folder or repository.
        location: String,
        /// The split that was asked for.
        wanted: String,
        /// The splits that exist.
        available: Vec<String>,
    },
    /// Evaluation is required, but there is no split for it and `test_size` is not set.
    #[error("{location}: only one split, `{only}`: set `test_size` (for example 0.1) to set rows aside for evaluation")]
    OnlyOneSplit {
        /// The file, folder or repository.
        location: String,
        /// The split that exists.
        only: String,
    },
    /// Configuration fields have values that cannot be used. All of them are listed.
    #[error("{}", join(problems))]
    Config {
        /// Every problem found, at least one.
        problems: Vec<ConfigProblem>,
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
        /// What the parser reported.
        #[source]
        source: BoxError,
    },
    /// The system has no threads left for tokenizing.
    #[error("cannot start the threads that tokenize; RAYON_NUM_THREADS sets their number")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// A text cannot be tokenized, or token ids cannot be decoded.
    #[error("the tokenizer refused {what}")]
    Tokenize {
        /// Which text or which ids.
        what: String,
        /// What the tokenizer reported.
        #[source]
        source: BoxError,
    },
    /// The tokenizer has no chat template, but a row is a chat.
    #[error(
        "{}: the tokenizer has no chat template, which a conversation needs: add chat_template.jinja, or train on \
         plain text",
        dir.display()
    )]
    NoChatTemplate {
        /// The tokenizer's folder.
        dir: PathBuf,
    },
    /// The chat template is malformed or refused a chat.
    #[error("chat template, {during}")]
    ChatTemplate {
        /// What was being done.
        during: String,
        /// What the template engine reported.
        #[source]
        source: minijinja::Error,
    },
    /// The chat template was stopped because it exceeded a limit.
    #[error("chat template, {during}: stopped, as {reason}; `chat_template_path` names another template")]
    ChatTemplateStopped {
        /// What was being done.
        during: String,
        /// Which limit it exceeded.
        reason: String,
    },
    /// The assistant's tokens cannot be told from the others.
    #[error("assistant_only_loss: {problem}")]
    AssistantMask {
        /// Why, and what to do.
        problem: String,
    },
    /// A row does not have what an option needs of it.
    #[error("{option}: {problem}")]
    NotForRow {
        /// The option.
        option: &'static str,
        /// What the row lacks, and what to do.
        problem: String,
    },
    /// A prompt is text and its completion is messages, or the other way round.
    #[error("one of prompt and completion is text and the other a list of messages; both must be of the same kind")]
    MixedTurns,
    /// A row could not be prepared.
    #[error("row {row}")]
    Row {
        /// The number of the row in its split, counted from 1.
        row: usize,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// No row has a token to learn.
    #[error("{}", nothing_left(*rows, *empty, *truncated))]
    NothingLeft {
        /// Number of rows.
        rows: usize,
        /// Number of rows without a token to learn.
        empty: usize,
        /// Number of rows whose every token to learn was cut off.
        truncated: usize,
    },
    /// The repository cannot be opened, or one of its files cannot be fetched. The message is the
    /// repository's own.
    #[error(transparent)]
    Repository(BoxError),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// The same error about a file that is in `to`, although it was read in `from`.
    pub(crate) fn moved(mut self, from: &Path, to: &Path) -> Self {
        match &mut self {
            Self::Io { path, .. }
            | Self::UnknownFormat { path }
            | Self::BadRow { path, .. }
            | Self::BadFile { path, .. }
            | Self::NoTextColumn { path, .. }
            | Self::MissingColumn { path, .. }
            | Self::TooManyRows { path, .. } => {
                if let Ok(inside) = path.strip_prefix(from) {
                    *path = to.join(inside);
                }
            }
            _ => {}
        }
        self
    }

    pub(crate) fn config(field: &'static str, value: impl fmt::Display, fix: impl Into<String>) -> Self {
        Self::Config { problems: vec![ConfigProblem::new(field, value, fix)] }
    }

    pub(crate) fn of_problems(problems: Vec<ConfigProblem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self::Config { problems }) }
    }
}

/// The names of columns. Of many, only the first.
pub(crate) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A number with thousands set apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn nothing_left(rows: usize, empty: usize, truncated: usize) -> String {
    let [all, empty_rows, truncated_rows] = [rows, empty, truncated].map(|number| grouped(number as u64));
    match (rows, truncated) {
        (0, _) => "there are no rows to train on".to_owned(),
        (1, 0) => "the only row is not left to train on: it has no text or no token to learn".to_owned(),
        (1, _) => "the only row is not left to train on: `max_length` cuts off every token to learn".to_owned(),
        (_, 0) => format!("none of {all} rows is left to train on: all have no text or no token to learn"),
        _ => format!(
            "none of {all} rows is left to train on: {empty_rows} have no text or no token to learn, and `max_length` \
             cuts off every such token of {truncated_rows} more"
        ),
    }
}

fn join(problems: &[ConfigProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
