//! What the columns of a dataset mean, and how a record becomes a row.

mod advice;
mod messages;
mod sharegpt;

use super::read::Record;
use super::{ChatContext, Conversation, PromptCompletion, Row, Turn};
use crate::{Error, Position};
use messages::{Keys, Messages};
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;

pub(super) use advice::advice;

/// Which columns hold the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowColumns {
    /// A column of plain text.
    Text(String),
    /// A column of lists of messages.
    Messages(String),
    /// The columns `prompt` and `completion`.
    PromptCompletion,
    /// The columns `prompt` and `completion`, which hold messages as JSON text.
    PromptCompletionAsJson,
}

impl fmt::Display for RowColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(column) => write!(f, "texts in column `{column}`"),
            Self::Messages(column) => write!(f, "chats in column `{column}`"),
            Self::PromptCompletion => write!(f, "columns `prompt` and `completion`"),
            Self::PromptCompletionAsJson => write!(f, "chats in columns `prompt` and `completion`"),
        }
    }
}

const CONTEXT_COLUMNS: [&str; 2] = ["tools", "chat_template_kwargs"];
/// The system message of a ShareGPT row.
const SYSTEM_COLUMN: &str = "system";

impl RowColumns {
    /// Decides in TRL's order: prompt and completion, then messages, then the text column. If
    /// `text_field` is not `text`, the user chose it, so it comes first. `sample` holds the first
    /// value of each column that [says something](says_something).
    ///
    /// Messages may be JSON text, which TRL does not know: databases and tables have no lists.
    pub(super) fn detect(columns: &[String], sample: &Record, text_field: &str) -> Option<Self> {
        let has = |name: &str| columns.iter().any(|column| column == name);
        let text = || has(text_field).then(|| Self::Text(text_field.to_owned()));
        let is_chat = |name: &str| {
            let value = sample.get(name);
            value.is_some_and(|value| value.is_array() || messages::is_json_text(value))
        };
        if text_field != "text" && has(text_field) {
            return if is_chat(text_field) { Some(Self::Messages(text_field.to_owned())) } else { text() };
        }
        if has("prompt") && has("completion") {
            let as_json = ["prompt", "completion"].map(|name| sample.get(name).is_some_and(messages::is_json_text));
            return Some(if as_json == [true; 2] { Self::PromptCompletionAsJson } else { Self::PromptCompletion });
        }
        let chat = ["messages", "conversations"].into_iter().find(|&name| is_chat(name));
        chat.map(|name| Self::Messages(name.to_owned())).or_else(text)
    }

    /// The columns that every file must have.
    pub(super) fn required(&self) -> Vec<&str> {
        match self {
            Self::Text(column) | Self::Messages(column) => vec![column.as_str()],
            Self::PromptCompletion | Self::PromptCompletionAsJson => vec!["prompt", "completion"],
        }
    }

    /// The columns that must be read.
    pub(super) fn columns(&self) -> Vec<&str> {
        let mut columns = self.required();
        if !matches!(self, Self::Text(_)) {
            columns.extend(CONTEXT_COLUMNS);
        }
        if matches!(self, Self::Messages(_)) {
            columns.push(SYSTEM_COLUMN);
        }
        columns
    }

    /// The columns that nothing is taken from.
    pub(super) fn unused(&self, columns: &[String], sample: &Record) -> Vec<String> {
        let mut used = self.columns();
        used.retain(|&column| column != SYSTEM_COLUMN || self.is_sharegpt(sample));
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
                let mut context = context(&mut take).map_err(bad)?;
                if messages.keys == Keys::ShareGpt {
                    sharegpt::add_system(&mut messages.list, take(SYSTEM_COLUMN)).map_err(bad)?;
                    context.tools = context.tools.map(sharegpt::as_functions);
                }
                Ok(Row::from(Conversation { messages: messages.list, context }))
            }
            Self::PromptCompletion | Self::PromptCompletionAsJson => {
                let mut turn = |column: &str| match take(column) {
                    Value::String(text) if *self == Self::PromptCompletion => Ok(Turn::Text(compact(text))),
                    list @ (Value::Array(_) | Value::String(_)) => {
                        Messages::read(list, column).map(|messages| Turn::Messages(messages.list))
                    }
                    Value::Null if *self == Self::PromptCompletion => Ok(Turn::Text(String::new())),
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
