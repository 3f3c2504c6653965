//! The formats of rows, declared: their names, the columns that show them, and what reads them.

use super::alpaca::AlpacaColumns;
use super::preference::PreferenceColumns;
use super::tokens::TokenColumns;
use super::{RowColumns, messages};
use crate::dataset::read::Record;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the rows of a dataset are. The names are the common ones of such files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetFormat {
    /// A column of text.
    Text,
    /// A column of lists of messages with `role` and `content`, as in OpenAI's files for
    /// fine-tuning. `openai` is another name for it.
    #[serde(alias = "openai")]
    Messages,
    /// A column of lists of messages with `from` and `value`.
    Sharegpt,
    /// The columns `prompt` and `completion`.
    PromptCompletion,
    /// The columns `instruction`, `input` and `output`, with `history` and `system`.
    Alpaca,
    /// The column `input_ids`, with `labels` or masks.
    Tokenized,
    /// The columns `chosen` and `rejected`, with or without `prompt`. What was chosen is learnt.
    Preference,
}

serde_plain::derive_display_from_serialize!(DatasetFormat);
serde_plain::derive_fromstr_from_deserialize!(DatasetFormat);

/// The columns of a file, and what they hold.
#[derive(Debug, Clone, Copy)]
pub(in crate::dataset) struct Columns<'a> {
    pub(in crate::dataset) names: &'a [String],
    /// The first value of each column that says something.
    pub(in crate::dataset) sample: &'a Record,
    pub(in crate::dataset) text_field: &'a str,
}

impl Columns<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|column| column == name)
    }

    pub(super) fn is_list(&self, name: &str) -> bool {
        self.sample.get(name).is_some_and(serde_json::Value::is_array)
    }

    /// Whether a column holds lists of messages, which may be JSON text.
    pub(super) fn is_chat(&self, name: &str) -> bool {
        self.is_list(name) || self.sample.get(name).is_some_and(messages::is_json_text)
    }
}

/// A format, as it is found and read.
pub(in crate::dataset) struct Declared {
    pub(in crate::dataset) format: DatasetFormat,
    /// The columns that a file of this format has; `TEXT_FIELD` stands for the text field.
    pub(in crate::dataset) needs: &'static [&'static str],
    /// How rows are read, if the columns are there.
    read: fn(&Columns<'_>) -> Option<RowColumns>,
}

/// Stands for the column that `dataset_text_field` names.
const TEXT_FIELD: &str = "";

/// The formats. Where nothing else is said, the first one whose columns are there is read. The
/// order is TRL's, and what TRL does not know comes last.
pub(in crate::dataset) static FORMATS: [Declared; 7] = [
    Declared { format: DatasetFormat::Tokenized, needs: &["input_ids"], read: TokenColumns::detect },
    Declared { format: DatasetFormat::PromptCompletion, needs: &["prompt", "completion"], read: prompt_completion },
    Declared { format: DatasetFormat::Messages, needs: &["messages"], read: chat },
    Declared { format: DatasetFormat::Sharegpt, needs: &["conversations"], read: chat },
    Declared { format: DatasetFormat::Text, needs: &[TEXT_FIELD], read: text },
    Declared { format: DatasetFormat::Alpaca, needs: &["instruction", "output"], read: AlpacaColumns::detect },
    Declared { format: DatasetFormat::Preference, needs: &["chosen", "rejected"], read: PreferenceColumns::detect },
];

impl Declared {
    pub(in crate::dataset) fn of(format: DatasetFormat) -> Option<&'static Self> {
        FORMATS.iter().find(|declared| declared.format == format)
    }

    /// The columns that it needs.
    pub(in crate::dataset) fn columns<'a>(&self, text_field: &'a str) -> Vec<&'a str> {
        self.needs.iter().map(|&name| if name == TEXT_FIELD { text_field } else { name }).collect()
    }

    pub(super) fn read(&self, columns: &Columns<'_>) -> Option<RowColumns> {
        (self.read)(columns)
    }
}

fn text(columns: &Columns<'_>) -> Option<RowColumns> {
    columns.has(columns.text_field).then(|| RowColumns::Text(columns.text_field.to_owned()))
}

fn chat(columns: &Columns<'_>) -> Option<RowColumns> {
    let chat = ["messages", "conversations", columns.text_field].into_iter().find(|&name| columns.is_chat(name));
    let is_own = |name: &&str| *name != columns.text_field || *name != "text";
    chat.filter(is_own).map(|name| RowColumns::Messages(name.to_owned()))
}

fn prompt_completion(columns: &Columns<'_>) -> Option<RowColumns> {
    if !(columns.has("prompt") && columns.has("completion")) {
        return None;
    }
    let as_json = ["prompt", "completion"].map(|name| columns.sample.get(name).is_some_and(messages::is_json_text));
    Some(if as_json == [true; 2] { RowColumns::PromptCompletionAsJson } else { RowColumns::PromptCompletion })
}

/// A format that is read by a part of its own.
pub(super) fn other(format: impl super::RowFormat + 'static) -> RowColumns {
    RowColumns::Other(Arc::new(format))
}
