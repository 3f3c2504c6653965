//! Messages whose content is a list of parts, as in `[{"type": "text", "text": "Hello"}]`.
//!
//! Some templates take such lists, others expect texts. One rendering of a made-up message tells
//! which. For templates that expect texts, the parts are joined.

use crate::untrusted::template::Failure;
use serde_json::{Value, json};

/// A text that no template contains.
const PROBE: &str = "probe-of-the-content-format";

/// What a template expects as the content of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentFormat {
    Text,
    Parts,
}

/// Whether the content of a message is a list.
pub(super) fn has_parts(messages: &[Value]) -> bool {
    messages.iter().any(|message| message.get("content").is_some_and(Value::is_array))
}

/// Finds out which content a template expects. A template that takes lists writes the text of a
/// part; another one fails, writes nothing, or writes the list itself. One that also writes texts
/// in quotes writes whatever it is given.
pub(super) fn probe(render: impl Fn(&[Value]) -> Result<String, Failure>) -> ContentFormat {
    let rendered = |content: Value| render(&[json!({"role": "user", "content": content})]);
    let quotes_probe = |text: &str| ["'", "\""].iter().any(|quote| text.contains(&format!("{quote}{PROBE}{quote}")));
    // A template that refuses a text, or does not write it, needs other messages than this one. It
    // gets what the row has.
    match rendered(json!(PROBE)) {
        Ok(of_text) if of_text.contains(PROBE) && !quotes_probe(&of_text) => {}
        _ => return ContentFormat::Parts,
    }
    match rendered(json!([{"type": "text", "text": PROBE}])) {
        Ok(of_parts) if of_parts.contains(PROBE) && !quotes_probe(&of_parts) => ContentFormat::Parts,
        _ => ContentFormat::Text,
    }
}

/// The messages with texts in place of lists.
///
/// # Errors
/// What is wrong with a part that is no text.
pub(super) fn joined(messages: &[Value]) -> Result<Vec<Value>, String> {
    let joined = |(index, message): (usize, &Value)| {
        let mut message = message.clone();
        if let Some(content) = message.get_mut("content")
            && let Value::Array(parts) = content
        {
            let texts: Vec<&str> = parts.iter().map(text_of).collect::<Result<_, _>>().map_err(|problem| {
                format!("message {}: {problem}, but the chat template takes only texts", index + 1)
            })?;
            *content = Value::from(texts.concat());
        }
        Ok(message)
    };
    messages.iter().enumerate().map(joined).collect()
}

fn text_of(part: &Value) -> Result<&str, String> {
    if let Value::String(text) = part {
        return Ok(text);
    }
    let kind = part.get("type").and_then(Value::as_str);
    match (kind, part.get("text").and_then(Value::as_str)) {
        (None | Some("text"), Some(text)) => Ok(text),
        (Some("text") | None, None) => Err("a part of the content has no text".to_owned()),
        (Some(kind), _) => Err(format!("a part of the content is of type {kind:?}")),
    }
}
