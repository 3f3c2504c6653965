//! What the columns of a dataset mean, and how a record becomes a row.

use super::read::Record;
use super::{ChatContext, Conversation, PromptCompletion, Row, Turn};
use crate::{Error, Position};
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;

/// Which columns hold the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowColumns {
    /// A column of plain text.
    Text(String),
    /// A column of lists of messages.
    Messages(String),
    /// The columns `prompt` and `completion`.
    PromptCompletion,
}

impl fmt::Display for RowColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(column) => write!(f, "texts in column `{column}`"),
            Self::Messages(column) => write!(f, "chats in column `{column}`"),
            Self::PromptCompletion => write!(f, "columns `prompt` and `completion`"),
        }
    }
}

const CONTEXT_COLUMNS: [&str; 2] = ["tools", "chat_template_kwargs"];

impl RowColumns {
    /// Decides in TRL's order: prompt and completion, then messages, then the text column. If
    /// `text_field` is not `text`, the user chose it, so it comes first. `sample` holds the first
    /// value of each column that is not null.
    pub(super) fn detect(columns: &[String], sample: &Record, text_field: &str) -> Option<Self> {
        let has = |name: &str| columns.iter().any(|column| column == name);
        let text = || has(text_field).then(|| Self::Text(text_field.to_owned()));
        if text_field != "text" && has(text_field) {
            return if is_list(sample.get(text_field)) { Some(Self::Messages(text_field.to_owned())) } else { text() };
        }
        if has("prompt") && has("completion") {
            return Some(Self::PromptCompletion);
        }
        let chat = ["messages", "conversations"].into_iter().find(|&name| is_list(sample.get(name)));
        chat.map(|name| Self::Messages(name.to_owned())).or_else(text)
    }

    /// The columns that must be read.
    pub(super) fn columns(&self) -> Vec<&str> {
        let mut columns = match self {
            Self::Text(column) => return vec![column.as_str()],
            Self::Messages(column) => vec![column.as_str()],
            Self::PromptCompletion => vec!["prompt", "completion"],
        };
        columns.extend(CONTEXT_COLUMNS);
        columns
    }

    /// Converts a record to a row. A missing value becomes an empty text or an empty list.
    pub(super) fn row(&self, mut record: Record, path: &Path, at: Position) -> Result<Row, Error> {
        let bad = |problem: String| Error::BadRow { path: path.to_owned(), at, problem };
        let mut take = |column: &str| record.get_mut(column).map(Value::take).unwrap_or_default();
        match self {
            Self::Text(column) => match take(column) {
                Value::String(text) => Ok(Row::Text(text)),
                Value::Null => Ok(Row::Text(String::new())),
                other => Err(bad(format!("column `{column}` holds {}, not a text", kind(&other)))),
            },
            Self::Messages(column) => {
                let messages = messages(take(column), column).map_err(bad)?;
                Ok(Row::Messages(Conversation { messages, context: context(take).map_err(bad)? }))
            }
            Self::PromptCompletion => {
                let mut turn = |column: &str| match take(column) {
                    Value::String(text) => Ok(Turn::Text(text)),
                    list @ Value::Array(_) => messages(list, column).map(Turn::Messages),
                    Value::Null => Ok(Turn::Text(String::new())),
                    other => Err(format!("column `{column}` holds {}, not a text or messages", kind(&other))),
                };
                let (prompt, completion) = (turn("prompt").map_err(bad)?, turn("completion").map_err(bad)?);
                let context = context(take).map_err(bad)?;
                Ok(Row::PromptCompletion(Box::new(PromptCompletion { prompt, completion, context })))
            }
        }
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

fn is_list(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_array)
}

/// Checks messages, and renames `from` and `value` to `role` and `content`, as TRL does.
fn messages(value: Value, column: &str) -> Result<Vec<Value>, String> {
    let list = match value {
        Value::Array(list) => list,
        Value::Null => return Ok(Vec::new()),
        other => return Err(format!("column `{column}` holds {}, not a list of messages", kind(&other))),
    };
    list.into_iter()
        .enumerate()
        .map(|(index, message)| {
            let wrong = |found: &str| format!("message {} of column `{column}` {found}", index + 1);
            let Value::Object(message) = message else {
                return Err(wrong(&format!("is {}, not an object with `role` and `content`", kind(&message))));
            };
            let message: Map<String, Value> = message.into_iter().map(|(key, value)| rename(key, value)).collect();
            match message.get("role") {
                Some(Value::String(_)) => Ok(Value::Object(message)),
                _ => {
                    let keys = message.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    Err(wrong(&format!("has no `role`; it has {keys}")))
                }
            }
        })
        .collect()
}

/// Renames the keys and roles of the ShareGPT format, which chat templates do not know.
fn rename(key: String, value: Value) -> (String, Value) {
    match key.as_str() {
        "from" => {
            let role = match value.as_str() {
                Some("human") => Value::from("user"),
                Some("gpt") => Value::from("assistant"),
                _ => value,
            };
            ("role".to_owned(), role)
        }
        "value" => ("content".to_owned(), value),
        _ => (key, value),
    }
}

fn context(mut take: impl FnMut(&str) -> Value) -> Result<ChatContext, String> {
    let tools = match take("tools") {
        Value::Null => None,
        // The fields of tools differ, so a table stores them as JSON text.
        Value::String(text) => {
            let parsed = serde_json::from_str(&text).map_err(|error| format!("column `tools` is not JSON: {error}"))?;
            Some(parsed).filter(|tools: &Value| !tools.is_null())
        }
        tools => Some(tools),
    };
    let template_kwargs = match take("chat_template_kwargs") {
        Value::Object(arguments) => arguments,
        Value::Null => Map::new(),
        other => return Err(format!("column `chat_template_kwargs` holds {}, not an object", kind(&other))),
    };
    Ok(ChatContext { tools, template_kwargs })
}

#[cfg(test)]
mod tests;
