//! What a run would learn from its rows: only the tokenizer and the data are read, no weights, and
//! there is no need for a GPU.

mod html;
mod text;

use crate::config::SftConfig;
use crate::hub::Hub;
use crate::trainer::load::{dataset_config, needs_hub};
use crate::verbs::{Answer, Colours};
use crate::{Error, summary};
use serde::Serialize;
use serde_json::Value;
use sft_data::{ChatTokenizer, Inspection, LocalFiles, OpenRepository, Row, Splits, load_splits};
use std::path::PathBuf;

/// What a run would learn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataInspection {
    /// Where the rows come from, and from which columns.
    pub source: String,
    /// Columns that nothing is taken from.
    pub unused_columns: Vec<String>,
    /// The longest row in tokens, if there is a limit.
    pub max_length: Option<usize>,
    /// The split to train on, then that to evaluate on.
    pub splits: Vec<SplitInspection>,
}

/// One split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitInspection {
    /// Its name.
    pub name: String,
    /// What its first row is: `text`, `messages`, `prompt and completion`, …
    pub format: Option<&'static str>,
    /// Its rows.
    #[serde(flatten)]
    pub inspection: Inspection,
}

impl Answer for DataInspection {
    fn text(&self, colours: Colours) -> String {
        self.to_text(colours)
    }

    fn json(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }

    fn html(&self) -> Option<String> {
        Some(self.to_html())
    }
}

/// Reads the rows that the configuration names and goes through them as a run would. The first
/// `num_rows` of each split are looked at closely. `hub` is for what is not on disk; without it
/// [`Hub::from_env`] is used, if anything has to be fetched.
///
/// # Errors
/// What is wrong with the configuration, the tokenizer or the dataset. A row that cannot be
/// prepared is part of the answer and no error.
pub fn inspect(config: &SftConfig, hub: Option<Hub>, num_rows: usize) -> Result<DataInspection, Error> {
    config.validate()?;
    let hub = match hub {
        None if needs_hub(config, false) => Some(Hub::from_env()?),
        hub => hub,
    };
    let model_dir = match &hub {
        Some(hub) => hub.model_config_dir(&config.model.model_name, &config.model.model_revision)?,
        None => PathBuf::from(&config.model.model_name),
    };
    let tokenizer = ChatTokenizer::load(&model_dir, &config.tokenizer)?;
    let files = hub.as_ref().map_or(&LocalFiles as &dyn OpenRepository, |hub| hub);
    let splits = load_splits(&dataset_config(config), files)?;
    let source = summary::source_line(&splits);
    let Splits { train, train_numbers, eval, train_name, eval_name, unused_columns, .. } = splits;
    let look = |name: String, rows: &[Row], numbers: Option<&[u64]>| {
        let inspected = sft_data::inspect(rows, &tokenizer, &config.prepare, num_rows);
        let mut inspection = inspected.map_err(|source| Error::Split { split: name.clone(), source })?;
        let shown = inspection.rows.iter_mut().map(|row| &mut row.row);
        for number in shown.chain(inspection.problems.iter_mut().map(|problem| &mut problem.row)) {
            *number = original_number(*number, numbers);
        }
        Ok::<_, Error>(SplitInspection { name, format: rows.first().map(format_of), inspection })
    };
    let mut inspected = vec![look(train_name, &train, train_numbers.as_deref())?];
    if let Some(rows) = eval {
        inspected.push(look(eval_name.unwrap_or_else(|| "test".to_owned()), &rows, None)?);
    }
    let max_length = config.prepare.max_length.filter(|length| *length > 0);
    Ok(DataInspection { source, unused_columns, max_length, splits: inspected })
}

/// Rows that were left when others were set apart keep the numbers that they had among them.
fn original_number(number: u64, numbers: Option<&[u64]>) -> u64 {
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    index.and_then(|index| numbers?.get(index)).copied().unwrap_or(number)
}

fn format_of(row: &Row) -> &'static str {
    match row {
        Row::Text(_) => "text",
        Row::Messages(_) => "messages",
        Row::PromptCompletion(_) => "prompt and completion",
        Row::Alpaca(_) => "instruction and output",
        Row::Tokens(_) => "token ids",
    }
}

#[cfg(test)]
mod tests;
