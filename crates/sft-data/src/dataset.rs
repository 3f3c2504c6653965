//! From a dataset's name to its rows.
//!
//! A name is looked for on disk, as a file or a folder, then on the hub. The names of the files say
//! which split each belongs to ([`split_files`]), unless the dataset's card does ([`card`]). Files
//! are read record by record ([`read`]), and the columns decide what a record is as a row
//! ([`shape`]). If there is one split only, part of it can be set aside ([`holdout`]).

mod card;
mod format;
mod glob;
mod holdout;
mod read;
mod row;
mod shape;
mod source;
mod split_files;

use crate::{Error, HubConfig};
use format::Format;
use read::Record;
use serde_json::Value;
use shape::Shape;
use source::Source;
use std::ops::ControlFlow;
use std::path::Path;

pub(crate) use format::KNOWN_FORMATS;
pub use row::{ChatContext, Conversation, PromptCompletion, Row, Turn};

/// Which dataset, and which of its splits and columns.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatasetConfig {
    /// A file, a folder, or a hub id such as `yimeng521/sunny_datasets`.
    pub dataset_name: String,
    /// Which configuration, of a dataset whose card declares several.
    pub dataset_config: Option<String>,
    /// Hub revision: branch, tag or commit; `main` by default.
    pub revision: String,
    /// Split to train on; `train` unless given.
    pub train_split: Option<String>,
    /// Split to evaluate on; the first of `test`, `validation`, `eval`, `dev` that there is unless
    /// given.
    pub eval_split: Option<String>,
    /// Rows to set aside for evaluation when there is no split for it: a fraction below 1, or a
    /// number of rows. They are those of `Dataset.train_test_split(test_size, seed=seed)` in
    /// Python.
    pub test_size: Option<f64>,
    /// Seed of that selection; 42 by default.
    pub seed: u64,
    /// Column with the text; `text` by default. Any other name goes before columns of messages.
    pub text_field: String,
    /// Whether there has to be something to evaluate on.
    pub evaluation: Evaluation,
}

/// Whether there has to be something to evaluate on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluation {
    /// It is an error if there is not.
    #[default]
    Required,
    /// Taken if there.
    Optional,
    /// Not read, and nothing is set aside.
    Off,
}

impl Default for DatasetConfig {
    fn default() -> Self {
        Self {
            dataset_name: String::new(),
            dataset_config: None,
            revision: "main".to_owned(),
            train_split: None,
            eval_split: None,
            test_size: None,
            seed: 42,
            text_field: "text".to_owned(),
            evaluation: Evaluation::default(),
        }
    }
}

/// The rows of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// Rows to train on.
    pub train: Vec<Row>,
    /// The numbers that they have in the split they were read from, counted from 1; `None` where
    /// that is their order.
    pub train_numbers: Option<Vec<u64>>,
    /// Rows to evaluate on.
    pub eval: Option<Vec<Row>>,
    /// Name of the split trained on.
    pub train_name: String,
    /// Name of the split evaluated on.
    pub eval_name: Option<String>,
    /// Where the rows came from and from which columns, for people.
    pub source: String,
}

/// Names of splits to evaluate on, best first.
const EVAL_SPLITS: [&str; 4] = ["test", "validation", "eval", "dev"];
/// Records looked at to tell what a column holds.
const RECORDS_FOR_SAMPLE: u32 = 100;

/// Finds a dataset, downloads what is needed of it, and reads its splits.
///
/// # Errors
/// If it cannot be found, or a file, line or column is not what it should be; the message says
/// which.
pub fn load_splits(config: &DatasetConfig, hub: &HubConfig) -> Result<Splits, Error> {
    let source = Source::open(config, hub)?;
    let (format, splits) = source.split_files(config)?;
    let (train_name, eval_name) = choose_splits(config, &source, &splits)?;
    let files_of = |name: &str| splits.iter().find(|(split, _)| split == name).map(|(_, files)| files.as_slice());

    let reader = SplitReader { source: &source, format, text_field: &config.text_field };
    let train_files = source.fetch(files_of(&train_name).unwrap_or_default())?;
    let shape = reader.detect_shape(&train_files, &train_name)?;
    let mut train = reader.rows(&train_files, &shape, &train_name)?;
    let mut train_numbers = None;
    let (eval, eval_name) = match (eval_name, config.test_size) {
        (Some(name), _) => {
            let files = source.fetch(files_of(&name).unwrap_or_default())?;
            (Some(reader.rows(&files, &shape, &name)?), Some(name))
        }
        (None, Some(test_size)) if config.evaluation != Evaluation::Off => {
            let numbered = train.into_iter().zip(1..).collect();
            let (rest, test) = holdout::train_test_split(numbered, test_size, config.seed)?;
            let (rest, numbers) = rest.into_iter().unzip();
            (train, train_numbers) = (rest, Some(numbers));
            (Some(test.into_iter().map(|(row, _)| row).collect()), Some("test".to_owned()))
        }
        _ => (None, None),
    };
    Ok(Splits { train, train_numbers, eval, train_name, eval_name, source: format!("{source}, {shape}") })
}

fn choose_splits(
    config: &DatasetConfig,
    source: &Source<'_>,
    splits: &split_files::SplitFiles,
) -> Result<(String, Option<String>), Error> {
    let has = |name: &str| splits.iter().any(|(split, _)| split == name);
    let existing = |wanted: &str| match has(wanted) {
        true => Ok(wanted.to_owned()),
        false => Err(Error::NoSuchSplit {
            location: source.to_string(),
            wanted: wanted.to_owned(),
            available: splits.iter().map(|(split, _)| split.clone()).collect(),
        }),
    };
    let train = existing(config.train_split.as_deref().unwrap_or("train"))?;
    let eval = match (&config.eval_split, config.evaluation) {
        (_, Evaluation::Off) => None,
        (Some(wanted), _) => Some(existing(wanted)?),
        (None, _) => EVAL_SPLITS.iter().find(|&&name| name != train && has(name)).map(|&name| name.to_owned()),
    };
    if eval.is_none() && config.test_size.is_none() && config.evaluation == Evaluation::Required {
        return Err(Error::OnlyOneSplit { location: source.to_string(), only: train });
    }
    Ok((train, eval))
}

/// Reads the files of a split one after the other.
struct SplitReader<'a> {
    source: &'a Source<'a>,
    format: Format,
    text_field: &'a str,
}

impl SplitReader<'_> {
    fn detect_shape(&self, files: &[std::path::PathBuf], split: &str) -> Result<Shape, Error> {
        let candidates = [self.text_field, "text", "prompt", "completion", "messages", "conversations"];
        for file in files {
            let mut sample = Record::new();
            let mut num_records = 0;
            read::read(file, self.format, &candidates, &mut |_, record| {
                num_records += 1;
                for (name, value) in record {
                    let known = sample.entry(name).or_insert(Value::Null);
                    if known.is_null() {
                        *known = value;
                    }
                }
                Ok(if num_records < RECORDS_FOR_SAMPLE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            if num_records > 0 {
                let columns = read::columns(file, self.format)?;
                return Shape::detect(&columns, &sample, self.text_field)
                    .ok_or_else(|| self.no_text_column(file, columns));
            }
        }
        Err(self.no_rows(split))
    }

    fn rows(&self, files: &[std::path::PathBuf], shape: &Shape, split: &str) -> Result<Vec<Row>, Error> {
        let columns = shape.columns();
        let mut rows = Vec::new();
        for file in files {
            let before = rows.len();
            let mut has_column = false;
            read::read(file, self.format, &columns, &mut |at, record| {
                has_column |= columns.first().is_some_and(|&column| record.contains_key(column));
                rows.push(shape.row(record, file, at)?);
                Ok(ControlFlow::Continue(()))
            })?;
            if rows.len() > before && !has_column {
                return Err(self.no_text_column(file, read::columns(file, self.format)?));
            }
        }
        if rows.is_empty() { Err(self.no_rows(split)) } else { Ok(rows) }
    }

    fn no_text_column(&self, file: &Path, columns: Vec<String>) -> Error {
        Error::NoTextColumn { path: file.to_owned(), wanted: self.text_field.to_owned(), columns }
    }

    fn no_rows(&self, split: &str) -> Error {
        Error::NoRows { location: format!("{}, split `{split}`", self.source) }
    }
}

#[cfg(test)]
mod tests;
