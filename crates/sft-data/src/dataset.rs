//! From a dataset's name to its rows.
//!
//! A name is first looked for on disk, as a file or a folder, then on the hub ([`repository`]). The
//! dataset card says which files belong to which split ([`card`]); without a card, the names of the
//! files do ([`split_files`]). Files are read record by record ([`read`]), and the columns decide
//! how a record becomes a row ([`columns`]). If there is only one split, part of it can be set
//! aside ([`holdout`]).

mod byte_size;
mod card;
mod columns;
mod config;
mod data_files;
mod format;
mod holdout;
mod memory;
mod mixture;
mod numpy;
mod patterns;
mod read;
mod repository;
mod row;
mod saved;
mod source;
mod split_files;

use crate::Error;
use columns::{Columns, Declared, FORMATS, RowColumns, advice, by_template, says_something};
use memory::RowMemory;
use read::{Reader, Record};
use source::Source;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use byte_size::ByteSize;
pub use columns::DatasetFormat;
pub use config::{DatasetConfig, Evaluation};
pub use data_files::DataFiles;
pub(crate) use format::KNOWN_FORMATS;
pub use mixture::{DatasetSource, MixStrategy};
pub use repository::{LocalFiles, OpenRepository, Repository};
pub use row::{Alpaca, ChatContext, Conversation, PromptCompletion, Row, TokenizedRow, Turn};

/// The rows of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// Rows to train on.
    pub train: Vec<Row>,
    /// For each row of `train`, its number in the split it was read from, counted from 1. `None` if
    /// no rows were set aside: the rows then have the numbers 1, 2, 3 and so on.
    pub train_numbers: Option<Vec<u64>>,
    /// Rows to evaluate on.
    pub eval: Option<Vec<Row>>,
    /// Name of the split to train on.
    pub train_name: String,
    /// Name of the split to evaluate on; `test` if it was set aside.
    pub eval_name: Option<String>,
    /// Where the rows come from and from which columns, for people to read.
    pub source: String,
    /// Columns of the first file that nothing is taken from.
    pub unused_columns: Vec<String>,
}

/// Names of splits to evaluate on. The first that exists is used.
const EVAL_SPLITS: [&str; 4] = ["test", "validation", "eval", "dev"];
/// Number of records that are read to find out what a column holds.
const RECORDS_FOR_SAMPLE: u32 = 100;

/// Finds a dataset and reads its splits.
///
/// The name is looked for on disk first, then on the `hub`. Only the dataset card and the files of
/// the splits in use are fetched from the hub.
///
/// # Errors
/// If the configuration is not [valid](DatasetConfig::validate), the dataset or one of its splits
/// does not exist, or a file, line or column is malformed. The message says which.
pub fn load_splits(config: &DatasetConfig, hub: &dyn OpenRepository) -> Result<Splits, Error> {
    config.validate()?;
    if !config.datasets.is_empty() {
        return mixture::load(config, hub);
    }
    let source = Source::open(config, hub)?;
    read_splits(config, &source).map_err(|error| source.rename(error))
}

fn read_splits(config: &DatasetConfig, source: &Source<'_>) -> Result<Splits, Error> {
    let mut memory = RowMemory::new(config.max_dataset_memory);
    let mut split = TrainSplit::open(config, None, source)?;
    let eval_name = split.eval_name.take();
    let sets_aside = eval_name.is_none() && config.test_size.is_some() && config.evaluation != Evaluation::Off;
    let limit = config.max_train_samples.filter(|_| !sets_aside);
    let train = split.rows(limit, &mut memory)?;
    let (aside, eval_name) = match eval_name {
        Some(name) => {
            let files = source.fetch(split.files_of(&name))?;
            let to_read = SplitToRead { name: &name, files: &files, limit: config.max_eval_samples };
            let eval = Some(split.reader.rows(to_read, &split.row_columns, &mut memory)?);
            (SetAside { train, train_numbers: None, eval }, Some(name))
        }
        None => {
            let aside = set_aside(config, train)?;
            let name = aside.eval.as_ref().map(|_| "test".to_owned());
            (aside, name)
        }
    };
    let SetAside { train, train_numbers, eval } = aside;
    let TrainSplit { name: train_name, row_columns, unused_columns, .. } = split;
    let source = format!("{source}, {row_columns}");
    Ok(Splits { train, train_numbers, eval, train_name, eval_name, source, unused_columns })
}

/// The rows of a dataset that is a part of a mixture.
struct Part {
    rows: Vec<Row>,
    source: String,
    unused_columns: Vec<String>,
}

/// Reads the training split of one dataset of a mixture.
fn read_part(
    config: &DatasetConfig,
    columns: Option<&[String]>,
    hub: &dyn OpenRepository,
    memory: &mut RowMemory,
) -> Result<Part, Error> {
    let source = Source::open(config, hub)?;
    let mut read = || {
        let split = TrainSplit::open(config, columns, &source)?;
        let rows = split.rows(None, memory)?;
        let source = format!("{source}, {}", split.row_columns);
        Ok(Part { rows, source, unused_columns: split.unused_columns })
    };
    let part = read();
    part.map_err(|error| source.rename(error))
}

/// Rows to train on and to evaluate on.
struct SetAside {
    train: Vec<Row>,
    train_numbers: Option<Vec<u64>>,
    eval: Option<Vec<Row>>,
}

/// Sets rows aside for evaluation, if any are wanted, and keeps as many of both as are wanted.
fn set_aside(config: &DatasetConfig, mut rows: Vec<Row>) -> Result<SetAside, Error> {
    let most = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
    let Some(test_size) = config.test_size.filter(|_| config.evaluation != Evaluation::Off) else {
        rows.truncate(most(config.max_train_samples));
        return Ok(SetAside { train: rows, train_numbers: None, eval: None });
    };
    let numbered = rows.into_iter().zip(1..).collect();
    let (rest, test) = holdout::train_test_split(numbered, test_size, config.seed)?;
    let (train, numbers) = rest.into_iter().take(most(config.max_train_samples)).unzip();
    let test = test.into_iter().take(most(config.max_eval_samples)).map(|(row, _)| row);
    Ok(SetAside { train, train_numbers: Some(numbers), eval: Some(test.collect()) })
}

/// The training split of a dataset, ready to be read.
struct TrainSplit<'a> {
    reader: SplitReader<'a>,
    splits: split_files::SplitFiles,
    files: Vec<PathBuf>,
    name: String,
    eval_name: Option<String>,
    row_columns: RowColumns,
    unused_columns: Vec<String>,
}

impl<'a> TrainSplit<'a> {
    /// Finds the files and looks at the first rows. `columns` are the only ones to use.
    fn open(config: &'a DatasetConfig, columns: Option<&'a [String]>, source: &'a Source<'a>) -> Result<Self, Error> {
        let (mut reader, splits) = source.split_files(config)?;
        let (name, eval_name) = choose_splits(config, source, &splits)?;
        let files = source.fetch(files_of(&splits, &name))?;
        if let Some(first) = files.first() {
            reader.recognise_delimiter(first, &|columns| has_rows(columns, &config.dataset_text_field))?;
        }
        let reader = SplitReader { source, files: reader, config, only: columns };
        let (row_columns, unused_columns) = reader.detect_columns(&files, &name)?;
        Ok(Self { reader, splits, files, name, eval_name, row_columns, unused_columns })
    }

    fn files_of(&self, split: &str) -> &[String] {
        files_of(&self.splits, split)
    }

    fn rows(&self, limit: Option<usize>, memory: &mut RowMemory) -> Result<Vec<Row>, Error> {
        let split = SplitToRead { name: &self.name, files: &self.files, limit };
        self.reader.rows(split, &self.row_columns, memory)
    }
}

fn files_of<'s>(splits: &'s split_files::SplitFiles, split: &str) -> &'s [String] {
    splits.iter().find(|(name, _)| name == split).map(|(_, files)| files.as_slice()).unwrap_or_default()
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
    let train = existing(config.dataset_train_split.as_deref().unwrap_or("train"))?;
    let eval = match (&config.dataset_test_split, config.evaluation) {
        (_, Evaluation::Off) => None,
        (Some(wanted), _) => Some(existing(wanted)?),
        (None, _) => EVAL_SPLITS.iter().find(|&&name| name != train && has(name)).map(|&name| name.to_owned()),
    };
    if eval.is_none() && config.test_size.is_none() && config.evaluation == Evaluation::Required {
        return Err(Error::OnlyOneSplit { location: source.to_string(), only: train });
    }
    Ok((train, eval))
}

/// Whether there are columns that rows can be made of.
fn has_rows(columns: &[String], text_field: &str) -> bool {
    let has = |name: &str| columns.iter().any(|column| column == name);
    FORMATS.iter().any(|declared| declared.columns(text_field).into_iter().all(has))
}

/// A split, its files, and the number of rows to read of it.
struct SplitToRead<'a> {
    name: &'a str,
    files: &'a [PathBuf],
    limit: Option<usize>,
}

/// Reads the files of a split one after the other.
struct SplitReader<'a> {
    source: &'a Source<'a>,
    files: Reader,
    config: &'a DatasetConfig,
    /// The only columns to use. `None`: all.
    only: Option<&'a [String]>,
}

impl SplitReader<'_> {
    /// How rows are made, and the columns that are not used.
    fn detect_columns(&self, files: &[PathBuf], split: &str) -> Result<(RowColumns, Vec<String>), Error> {
        let text_field = self.config.dataset_text_field.as_str();
        let mut candidates: Vec<&str> = FORMATS.iter().flat_map(|declared| declared.columns(text_field)).collect();
        candidates.push("text");
        for file in files {
            let mut sample = Record::new();
            let mut num_records = 0;
            self.files.sample(file, &candidates, &mut |_, record| {
                num_records += 1;
                for (name, value) in record {
                    if says_something(&value) {
                        sample.entry(name).or_insert(value);
                    }
                }
                Ok(if num_records < RECORDS_FOR_SAMPLE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            if num_records > 0 {
                let mut columns = self.files.columns(file)?;
                if let Some(only) = self.only {
                    if let Some(wanted) = only.iter().find(|&name| !columns.contains(name)) {
                        return Err(Error::MissingColumn { path: file.clone(), wanted: wanted.clone(), columns });
                    }
                    columns.retain(|name| only.contains(name));
                    sample.retain(|name, _| only.contains(name));
                }
                let found = self.row_columns(file, &columns, &sample)?;
                let unused = found.unused(&columns, &sample);
                return Ok((found, unused));
            }
        }
        Err(self.no_rows(split))
    }

    /// How rows are made of these columns.
    fn row_columns(&self, file: &Path, columns: &[String], sample: &Record) -> Result<RowColumns, Error> {
        let DatasetConfig { dataset_text_field, dataset_format, text_template, .. } = self.config;
        if let Some(text_template) = text_template {
            return by_template(text_template, columns);
        }
        let described = Columns { names: columns, sample, text_field: dataset_text_field };
        let found = match dataset_format {
            Some(format) => RowColumns::of_format(*format, &described),
            None => RowColumns::detect(&described),
        };
        let (path, columns) = (file.to_owned(), columns.to_owned());
        found.ok_or_else(|| match dataset_format {
            Some(format) => {
                let needs = Declared::of(*format).map(|declared| declared.columns(dataset_text_field).join("` and `"));
                Error::NotOfFormat { path, format: *format, needs: needs.unwrap_or_default(), columns }
            }
            None => {
                let advice = advice(&columns, sample);
                Error::NoTextColumn { path, wanted: dataset_text_field.clone(), columns, advice }
            }
        })
    }

    fn rows(
        &self,
        split: SplitToRead<'_>,
        row_columns: &RowColumns,
        memory: &mut RowMemory,
    ) -> Result<Vec<Row>, Error> {
        let SplitToRead { name, files, limit } = split;
        let limit = limit.unwrap_or(usize::MAX);
        let mut columns = row_columns.columns();
        columns.retain(|name| self.only.is_none_or(|only| only.iter().any(|column| column == name)));
        let required = row_columns.required();
        let mut rows = Vec::new();
        for file in files {
            if rows.len() >= limit {
                break;
            }
            let before = rows.len();
            let mut missing = required.clone();
            let mut of_another_format = None;
            self.files.read(file, &columns, &mut |at, record| {
                missing.retain(|&column| !record.contains_key(column));
                if of_another_format.is_none() {
                    of_another_format = row_columns.check_format(&record).err().map(|problem| (at, problem));
                }
                let row = row_columns.row(record, file, at)?;
                memory.spend(&row, file, (rows.len() - before) as u64 + 1)?;
                rows.push(row);
                Ok(if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            if rows.len() > before
                && let Some(&wanted) = missing.first()
            {
                let columns = self.files.columns(file)?;
                return Err(Error::MissingColumn { path: file.clone(), wanted: wanted.to_owned(), columns });
            }
            if let Some((at, problem)) = of_another_format {
                return Err(Error::BadRow { path: file.clone(), at, problem });
            }
        }
        rows.shrink_to_fit();
        if rows.is_empty() { Err(self.no_rows(name)) } else { Ok(rows) }
    }

    fn no_rows(&self, split: &str) -> Error {
        Error::NoRows { location: format!("{}, split `{split}`", self.source) }
    }
}

#[cfg(test)]
mod tests;
