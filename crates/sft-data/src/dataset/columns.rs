//! What the columns of a dataset mean, and how a record becomes a row.

mod advice;
mod alpaca;
mod format;
mod messages;
mod preference;
mod sharegpt;
mod template;
mod tokens;

use super::read::Record;
use super::{ChatContext, Conversation, PromptCompletion, Row, Turn};
use crate::{Error, Position};
use messages::{Keys, Messages};
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub(super) use advice::advice;
pub use format::DatasetFormat;
pub(super) use format::{Columns, Declared, FORMATS};
pub(super) use template::by_template;

/// How records of one format become rows.
pub(super) trait RowFormat: fmt::Debug + fmt::Display + Send + Sync {
    /// The columns that every file must have.
    fn required(&self) -> Vec<&str>;

    /// Further columns that are used if they are there.
    fn optional(&self) -> Vec<&str>;

    /// The row of a record, whose values `take` hands over. A missing one is null.
    ///
    /// # Errors
    /// What is wrong with the record and what to do.
    fn row(&self, take: &mut dyn FnMut(&str) -> Value) -> Result<Row, String>;
}

/// Which columns hold the rows.
#[derive(Debug, Clone)]
pub(super) enum RowColumns {
    /// A column of plain text.
    Text(String),
    /// A column of lists of messages.
    Messages(String),
    /// The columns `prompt` and `completion`.
    PromptCompletion,
    /// The columns `prompt` and `completion`, which hold messages as JSON text.
    PromptCompletionAsJson,
    /// What one of the formats in files of their own says.
    Other(Arc<dyn RowFormat>),
}

impl fmt::Display for RowColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(column) => write!(f, "texts in column `{column}`"),
            Self::Messages(column) => write!(f, "chats in column `{column}`"),
            Self::PromptCompletion => write!(f, "columns `prompt` and `completion`"),
            Self::PromptCompletionAsJson => write!(f, "chats in columns `prompt` and `completion`"),
            Self::Other(format) => format.fmt(f),
        }
    }
}

const CONTEXT_COLUMNS: [&str; 2] = ["tools", "chat_template_kwargs"];
/// Tools as OpenAI's older files have them.
const FUNCTIONS_COLUMN: &str = "functions";
/// The system message of a ShareGPT row.
const SYSTEM_COLUMN: &str = "system";

impl RowColumns {
    /// Decides in TRL's order: token ids, prompt and completion, messages, the text column. If
    /// `text_field` is not `text`, the user chose it, so it comes first. `sample` holds the first
    /// value of each column that [says something](says_something).
    ///
    /// Messages may be JSON text, which TRL does not know: databases and tables have no lists.
    pub(super) fn detect(columns: &Columns<'_>) -> Option<Self> {
        let text_field = columns.text_field;
        if text_field != "text" && columns.has(text_field) {
            let column = text_field.to_owned();
            return Some(if columns.is_chat(text_field) { Self::Messages(column) } else { Self::Text(column) });
        }
        FORMATS.iter().find_map(|declared| declared.read(columns))
    }

    /// Reads what the user chose.
    pub(super) fn of_format(format: DatasetFormat, columns: &Columns<'_>) -> Option<Self> {
        Declared::of(format)?.read(columns)
    }

    /// The columns that every file must have.
    pub(super) fn required(&self) -> Vec<&str> {
        match self {
            Self::Text(column) | Self::Messages(column) => vec![column.as_str()],
            Self::PromptCompletion | Self::PromptCompletionAsJson => vec!["prompt", "completion"],
            Self::Other(format) => format.required(),
        }
    }

    /// The columns that must be read.
    pub(super) fn columns(&self) -> Vec<&str> {
        let mut columns = self.required();
        match self {
            Self::Text(_) => {}
            Self::Messages(_) => columns.extend(CONTEXT_COLUMNS.into_iter().chain([FUNCTIONS_COLUMN, SYSTEM_COLUMN])),
            Self::PromptCompletion | Self::PromptCompletionAsJson => columns.extend(CONTEXT_COLUMNS),
            Self::Other(format) => columns.extend(format.optional()),
        }
        columns
    }

    /// The columns that nothing is taken from.
    pub(super) fn unused(&self, columns: &[String], sample: &Record) -> Vec<String> {
        let mut used = self.columns();
        let is_chat = matches!(self, Self::Messages(_));
        used.retain(|&column| !is_chat || column != SYSTEM_COLUMN || self.is_sharegpt(sample));
        columns.iter().filter(|column| !used.contains(&column.as_str())).cloned().collect()
    }

    fn is_sharegpt(&self, sample: &Record) -> bool {
        let Self::Messages(column) = self else { return false };
        let value = sample.get(column).cloned().unwrap_or_default();
        Messages::read(value, column).is_ok_and(|messages| messages.keys == Keys::ShareGpt)
    }

    /// Converts a record to a row. A missing value becomes an empty text or an empty list.
    pub(super) fn row(&self, mut record: Record, path: &Path, at: Position) -> Result<Row, Error> {
        let bad = |problem: String| Error::BadRow { path: path.to_owned(), at, problem };
        let mut take = |column: &str| record.get_mut(column).map(Value::take).unwrap_or_default();
        match self {
            Self::Text(column) => match take(column) {
                Value::String(text) => Ok(Row::Text(compact(text))),
                Value::Null => Ok(Row::Text(String::new())),
                other => Err(bad(format!("column `{column}` holds {}, not a text", kind(&other)))),
            },
            Self::Messages(column) => {
                let mut messages = Messages::read(take(column), column).map_err(bad)?;
                if messages.keys == Keys::ChatMl {
                    let named = |(index, found)| format!("message {} of column `{column}` {found}", index + 1);
                    messages::check_results(&messages.list).map_err(named).map_err(bad)?;
                }
                let mut context = context(&mut take).map_err(bad)?;
                context.tools = with_functions(context.tools, take(FUNCTIONS_COLUMN)).map_err(bad)?;
                if messages.keys == Keys::ShareGpt {
                    sharegpt::add_system(&mut messages.list, take(SYSTEM_COLUMN)).map_err(bad)?;
                    context.tools = context.tools.map(sharegpt::as_functions);
                }
                Ok(Row::from(Conversation { messages: messages.list, context }))
            }
            Self::Other(format) => format.row(&mut take).map_err(bad),
            Self::PromptCompletion | Self::PromptCompletionAsJson => {
                let is_plain = matches!(self, Self::PromptCompletion);
                let mut turn = |column: &str| match take(column) {
                    Value::String(text) if is_plain => Ok(Turn::Text(compact(text))),
                    list @ (Value::Array(_) | Value::String(_)) => {
                        Messages::read(list, column).map(|messages| Turn::Messages(messages.list))
                    }
                    Value::Null if is_plain => Ok(Turn::Text(String::new())),
                    Value::Null => Ok(Turn::Messages(Vec::new())),
                    other => Err(format!("column `{column}` holds {}, not a text or messages", kind(&other))),
                };
                let (prompt, completion) = (turn("prompt").map_err(bad)?, turn("completion").map_err(bad)?);
                let context = context(&mut take).map_err(bad)?;
                Ok(Row::from(PromptCompletion { prompt, completion, context }))
            }
        }
    }
}

impl RowColumns {
    /// A record that has nothing of this format, but what another one needs, would become an empty
    /// row.
    ///
    /// # Errors
    /// What the record has instead.
    pub(super) fn check_format(&self, record: &Record) -> Result<(), String> {
        let has = |column: &str| record.get(column).is_some_and(says_something);
        let required = self.required();
        if required.iter().any(|&column| record.contains_key(column)) {
            return Ok(());
        }
        // Only of columns that nobody names by an option.
        let others = FORMATS.iter().map(|declared| declared.columns("text"));
        match others.into_iter().find(|columns| columns.iter().all(|&column| has(column))) {
            None => Ok(()),
            Some(found) => Err(format!(
                "has no `{}`, which other rows have, but `{}`; rows of a dataset are of one format, so write all in \
                 one way",
                required.join("` or `"),
                found.join("` and `")
            )),
        }
    }
}

/// Whether a value shows what its column holds.
pub(super) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !matches!(text.trim(), "" | "[]" | "null"),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}

/// The kind of a value, for error messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A text without room to grow.
fn compact(mut text: String) -> String {
    text.shrink_to_fit();
    text
}

fn context(mut take: impl FnMut(&str) -> Value) -> Result<ChatContext, String> {
    Ok(ChatContext { tools: tools(take("tools"))?, template_kwargs: template_kwargs(take("chat_template_kwargs"))? })
}

fn tools(value: Value) -> Result<Option<Value>, String> {
    let tools = match from_json_text(value, "tools")? {
        Value::Null => return Ok(None),
        Value::Array(tools) => tools,
        other => return Err(format!("column `tools` holds {}, not a list of tools", kind(&other))),
    };
    if let Some((index, tool)) = tools.iter().enumerate().find(|(_, tool)| !tool.is_object()) {
        let found = kind(tool);
        return Err(format!("tool {} of column `tools` is {found}, not an object with a JSON schema", index + 1));
    }
    Ok(Some(Value::Array(tools)))
}

/// Tools from OpenAI's older column, in the form in which chat templates expect them.
fn with_functions(tools: Option<Value>, functions: Value) -> Result<Option<Value>, String> {
    match from_json_text(functions, FUNCTIONS_COLUMN)? {
        Value::Null => Ok(tools),
        Value::Array(functions) if functions.is_empty() => Ok(tools),
        Value::Array(_) if tools.is_some() => Err("has both `tools` and `functions`; leave one of them out".to_owned()),
        list @ Value::Array(_) => Ok(Some(sharegpt::as_functions(list))),
        other => Err(format!("column `{FUNCTIONS_COLUMN}` holds {}, not a list of functions", kind(&other))),
    }
}

fn template_kwargs(value: Value) -> Result<Map<String, Value>, String> {
    match from_json_text(value, "chat_template_kwargs")? {
        Value::Object(arguments) => Ok(arguments),
        Value::Null => Ok(Map::new()),
        other => Err(format!("column `chat_template_kwargs` holds {}, not an object", kind(&other))),
    }
}

/// The fields of tools differ from row to row, so a table stores them as JSON text. An empty text
/// is nothing.
fn from_json_text(value: Value, column: &str) -> Result<Value, String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Ok(Value::Null),
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|error| format!("column `{column}` is not JSON: {error}"))
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests;
