//! Finds the parts of a rendered chat that the assistant wrote.
//!
//! A template can mark them with `{% generation %}` blocks. Most templates have none. Then the chat
//! is rendered twice for each message of the assistant: up to the start of that turn, and including
//! the message. The difference is what the assistant wrote. This needs a template that renders the
//! first messages of a chat to the start of the chat's text; for other templates it is an error.

use super::AddGenerationPrompt;
use super::chat_template::{ChatTemplate, GENERATION_END, GENERATION_START, Marks};
use super::special::SpecialTokens;
use crate::{ChatContext, Error};
use serde_json::Value;
use std::ops::Range;

/// A rendered chat, and the byte ranges that the assistant wrote, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) assistant: Vec<Range<usize>>,
}

pub(super) fn render_with_spans(
    template: &ChatTemplate,
    messages: &[Value],
    context: &ChatContext,
    special: &SpecialTokens,
) -> Result<Rendered, Error> {
    let text = template.render(messages, context, special, AddGenerationPrompt::No)?;
    let assistant = if template.has_generation_blocks() {
        let marked = template.render_marked(messages, context, special, AddGenerationPrompt::No, Marks::Leave)?;
        marked_spans(&marked, &text).ok_or_else(|| Error::AssistantMask {
            problem: "the chat template's {% generation %} blocks do not match its text".to_owned(),
        })?
    } else {
        spans_by_prefix(template, messages, context, special, &text)?
    };
    Ok(Rendered { text, assistant })
}

/// Removes the marks from `marked` and returns where they were. `None` if the rest is not `text`.
fn marked_spans(marked: &str, text: &str) -> Option<Vec<Range<usize>>> {
    let mut spans = Vec::new();
    let mut start = None;
    let mut length = 0;
    for (at, c) in marked.char_indices() {
        match c {
            GENERATION_START => start = Some(length),
            GENERATION_END => spans.push(start.take()?..length),
            _ => {
                let end = length + c.len_utf8();
                if text.get(length..end)? != &marked[at..at + c.len_utf8()] {
                    return None;
                }
                length = end;
            }
        }
    }
    (length == text.len() && start.is_none()).then_some(spans)
}

fn spans_by_prefix(
    template: &ChatTemplate,
    messages: &[Value],
    context: &ChatContext,
    special: &SpecialTokens,
    text: &str,
) -> Result<Vec<Range<usize>>, Error> {
    let mut spans = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if message.get("role").and_then(Value::as_str) != Some("assistant") {
            continue;
        }
        let before = template.render(&messages[..index], context, special, AddGenerationPrompt::Yes)?;
        let after = template.render(&messages[..=index], context, special, AddGenerationPrompt::No)?;
        if !(after.starts_with(&before) && text.starts_with(&after)) {
            return Err(Error::AssistantMask {
                problem: format!(
                    "the chat template renders message {} differently with and without the messages after it, so the \
                     assistant's tokens cannot be found; mark them in the template with {{% generation %}}",
                    index + 1
                ),
            });
        }
        // The text after the last EOS is the layout between turns, which the model never generates.
        let turn = &after[before.len()..];
        let eos = special.get("eos_token").unwrap_or_default();
        let length = turn.rfind(eos).filter(|_| !eos.is_empty()).map_or(turn.len(), |at| at + eos.len());
        spans.push(before.len()..before.len() + length);
    }
    Ok(spans)
}

#[cfg(test)]
mod tests;
