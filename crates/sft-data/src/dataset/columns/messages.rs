//! Lists of messages as files have them.

use super::{kind, says_something, sharegpt};
use crate::prepare::learn;
use serde_json::{Map, Value, json};

/// The messages of a record, as objects with `role` and `content`.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) list: Vec<Value>,
    /// What the keys were in the file.
    pub(super) keys: Keys,
}

/// The two spellings of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Keys {
    /// `role` and `content`.
    #[default]
    ChatMl,
    /// `from` and `value`.
    ShareGpt,
}

impl Messages {
    /// Reads a list, or a text that holds one as JSON. Nothing is an empty list.
    pub(super) fn read(value: Value, column: &str) -> Result<Self, String> {
        let not_a_list = |found: &str| format!("column `{column}` holds {found}, not a list of messages");
        let list = match value {
            Value::Array(list) => list,
            Value::Null => return Ok(Self::default()),
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(Value::Array(list)) => list,
                Ok(Value::Null) => return Ok(Self::default()),
                _ if text.trim().is_empty() => return Ok(Self::default()),
                _ => return Err(not_a_list("a text")),
            },
            other => return Err(not_a_list(kind(&other))),
        };
        let mut messages = Self { list: Vec::with_capacity(list.len()), keys: Keys::default() };
        for (index, message) in list.into_iter().enumerate() {
            let wrong = |found: String| format!("message {} of column `{column}` {found}", index + 1);
            let Value::Object(message) = message else {
                return Err(wrong(format!("is {}, not an object with `role` and `content`", kind(&message))));
            };
            learn::declared(&message).map_err(wrong)?;
            if has(&message, "from") {
                messages.keys = Keys::ShareGpt;
                messages.list.push(sharegpt::message(message).map_err(wrong)?);
            } else {
                messages.list.push(chatml(message).map_err(wrong)?);
            }
        }
        Ok(messages)
    }
}

/// Whether a value is the JSON text of a list of messages.
pub(super) fn is_json_text(value: &Value) -> bool {
    let Value::String(text) = value else { return false };
    // Most texts are not JSON; their first character shows it.
    if !text.trim_start().starts_with('[') {
        return false;
    }
    let is_message =
        |value: &Value| value.as_object().is_some_and(|message| has(message, "role") || has(message, "from"));
    match serde_json::from_str(text) {
        Ok(list @ Value::Array(_)) if says_something(&list) => {
            list.as_array().is_some_and(|list| list.iter().all(is_message))
        }
        _ => false,
    }
}

/// Whether a key is there. In a table, a key that a message lacks is null.
pub(super) fn has(message: &Map<String, Value>, key: &str) -> bool {
    message.get(key).is_some_and(|value| !value.is_null())
}

fn chatml(message: Map<String, Value>) -> Result<Value, String> {
    // TRL renames `value` even where there is no `from`.
    let rename = !has(&message, "content") && has(&message, "value");
    let message = if rename { renamed(message, &[("value", "content")]) } else { message };
    match message.get("role") {
        Some(Value::String(_)) => {}
        None | Some(Value::Null) => {
            let keys = message.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!("has no `role`; it has {keys}"));
        }
        Some(other) => return Err(format!("has {} as its `role`, not a text", kind(other))),
    }
    check_content(message.get("content"), "content")?;
    with_tool_calls(message).map(Value::Object)
}

/// Calls in the form in which templates expect them. OpenAI's older files have one in a key of its
/// own, and results of the role `function`.
fn with_tool_calls(mut message: Map<String, Value>) -> Result<Map<String, Value>, String> {
    match message.get("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(calls)) if calls.iter().all(Value::is_object) => {}
        Some(Value::Array(_)) => return Err("has `tool_calls` that are no objects".to_owned()),
        Some(other) => return Err(format!("has {} as its `tool_calls`, not a list", kind(other))),
    }
    if has(&message, "function_call") {
        if has(&message, "tool_calls") {
            return Err("has both `tool_calls` and `function_call`; leave one of them out".to_owned());
        }
        let call = message.shift_remove("function_call").unwrap_or_default();
        if !call.get("name").is_some_and(Value::is_string) {
            return Err("has a `function_call` without a `name`".to_owned());
        }
        message.insert("tool_calls".to_owned(), json!([{"type": "function", "function": call}]));
    }
    if message.get("role").is_some_and(|role| role == "function") {
        message.insert("role".to_owned(), Value::from("tool"));
    }
    Ok(message)
}

/// The results of tools must have been asked for in a chat with `role` and `content`. ShareGPT
/// knows no such rule.
///
/// # Errors
/// The index of a message, and what is wrong with it.
pub(super) fn check_results(messages: &[Value]) -> Result<(), (usize, String)> {
    let mut ids: Vec<&str> = Vec::new();
    let mut is_asked = false;
    for (index, message) in messages.iter().enumerate() {
        is_asked |= message["role"] == "assistant";
        let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        ids.extend(calls.iter().filter_map(|call| call["id"].as_str()));
        if message["role"] != "tool" {
            continue;
        }
        if !is_asked {
            return Err((index, "is the result of a tool, but no message before it calls one".to_owned()));
        }
        let id = message["tool_call_id"].as_str().filter(|id| !ids.is_empty() && !ids.contains(id));
        if let Some(id) = id {
            return Err((index, format!("has the `tool_call_id` {id:?}, which no call before it has")));
        }
    }
    Ok(())
}

/// A number would be printed by some templates and refused by others.
pub(super) fn check_content(content: Option<&Value>, key: &str) -> Result<(), String> {
    match content {
        Some(other @ (Value::Bool(_) | Value::Number(_))) => {
            Err(format!("has {} as its `{key}`: {other}; write it as text", kind(other)))
        }
        _ => Ok(()),
    }
}

/// The same object with other names for some keys. The new names must be free or null.
pub(super) fn renamed(message: Map<String, Value>, names: &[(&str, &str)]) -> Map<String, Value> {
    let new_name = |key: &str| names.iter().find(|(old, _)| *old == key).map(|(_, new)| *new);
    let is_replaced = |key: &str| names.iter().any(|(_, new)| *new == key);
    let kept = message.into_iter().filter(|(key, _)| !is_replaced(key));
    kept.map(|(key, value)| (new_name(&key).map_or(key.clone(), str::to_owned), value)).collect()
}
