//! The ShareGPT format: messages with `from` and `value`, and the names that its files give to
//! those who speak.
//!
//! TRL renames the keys and leaves the names, so a template that asks for `user` and `assistant`
//! drops every message without a word. Here the names become those that templates know, and an
//! unknown one is an error. Calls of functions, their results, the column `system` and tools that
//! are not wrapped are read as LLaMA-Factory reads them.

use super::kind;
use super::messages::{check_content, has, renamed};
use serde_json::{Map, Value, json};

/// Who speaks.
enum Speaker {
    Role(&'static str),
    /// The assistant, who calls functions.
    FunctionCall,
}

const KNOWN: &str = "human, user, gpt, chatgpt, bing, bard, assistant, system, function_call, observation, tool and \
                     function_response";

impl Speaker {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "human" | "user" => Self::Role("user"),
            "gpt" | "chatgpt" | "bing" | "bard" | "assistant" => Self::Role("assistant"),
            "system" => Self::Role("system"),
            "observation" | "tool" | "function_response" => Self::Role("tool"),
            "function_call" => Self::FunctionCall,
            _ => return None,
        })
    }
}

/// A message with `role` and `content`. The error says what the message has or lacks.
pub(super) fn message(message: Map<String, Value>) -> Result<Value, String> {
    if let Some(both) =
        [("from", "role"), ("value", "content")].iter().find(|(a, b)| has(&message, a) && has(&message, b))
    {
        return Err(format!("has both `{}` and `{}`; leave one of them out", both.0, both.1));
    }
    let from = match message.get("from") {
        Some(Value::String(from)) => from.clone(),
        other => return Err(format!("has {} as its `from`, not a text", other.map_or("nothing", kind))),
    };
    let speaker = Speaker::of(&from)
        .ok_or_else(|| format!("is from {from:?}, which is no known role of ShareGPT; known are {KNOWN}"))?;
    let key = if has(&message, "value") { "value" } else { "content" };
    check_content(message.get(key), key)?;
    let mut message = match key {
        "value" => renamed(message, &[("from", "role"), ("value", "content")]),
        _ => renamed(message, &[("from", "role")]),
    };
    let role = match speaker {
        Speaker::Role(role) => role,
        Speaker::FunctionCall => {
            let calls = tool_calls(message.get("content").unwrap_or(&Value::Null))?;
            message.insert("content".to_owned(), Value::from(""));
            message.insert("tool_calls".to_owned(), calls);
            "assistant"
        }
    };
    message.insert("role".to_owned(), Value::from(role));
    Ok(Value::Object(message))
}

/// The calls in the value of a `function_call`: JSON text of one call or of a list of them.
fn tool_calls(value: &Value) -> Result<Value, String> {
    let wrong = |found: String| {
        format!("is a function_call {found}; its value is JSON such as {{\"name\": \"f\", \"arguments\": {{}}}}")
    };
    let value = match value {
        Value::String(text) => {
            serde_json::from_str(text).map_err(|error| wrong(format!("that is not JSON ({error})")))?
        }
        value => value.clone(),
    };
    let calls = match value {
        Value::Array(calls) if !calls.is_empty() => calls,
        call => vec![call],
    };
    let calls = calls.into_iter().map(|call| match call {
        Value::Object(call) if call.get("name").is_some_and(Value::is_string) && call.contains_key("arguments") => {
            Ok(json!({"type": "function", "function": call}))
        }
        Value::Object(call) => {
            let keys = call.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(wrong(format!("with the keys {keys}")))
        }
        other => Err(wrong(format!("that holds {}", kind(&other)))),
    });
    calls.collect()
}

/// Puts the text of the column `system` in front as a message.
pub(super) fn add_system(messages: &mut Vec<Value>, system: Value) -> Result<(), String> {
    let system = match system {
        Value::Null => return Ok(()),
        Value::String(text) if text.is_empty() => return Ok(()),
        Value::String(text) => text,
        other => return Err(format!("column `system` holds {}, not a text", kind(&other))),
    };
    let first = messages.first().filter(|message| message["role"] == "system").map(|message| &message["content"]);
    match first {
        Some(content) if *content == Value::from(system.as_str()) => Ok(()),
        Some(_) => Err("has a system message and another text in column `system`; leave one of them out".to_owned()),
        // A row without messages stays empty.
        None if messages.is_empty() => Ok(()),
        None => {
            messages.insert(0, json!({"role": "system", "content": system}));
            Ok(())
        }
    }
}

/// Tools in the form in which chat templates expect them.
pub(super) fn as_functions(tools: Value) -> Value {
    let Value::Array(tools) = tools else { return tools };
    let wrapped = tools.into_iter().map(|tool| match tool.get("type").is_none() && tool.get("name").is_some() {
        true => json!({"type": "function", "function": tool}),
        false => tool,
    });
    wrapped.collect()
}
