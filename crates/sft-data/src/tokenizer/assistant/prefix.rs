//! Finds turns by rendering the start of a chat.
//!
//! The chat is rendered twice for each message of the assistant: up to the start of that turn, and
//! including the message. The difference is what the assistant wrote. This needs a template that
//! renders the first messages of a chat to the start of the chat's text.

use super::super::AddGenerationPrompt;
use super::{Chat, Spans, without_thinking};
use crate::Error;
use std::ops::Range;

/// The turns of the assistant, or the index of a message whose turn cannot be found.
pub(super) fn spans(chat: &Chat<'_>, text: &str) -> Result<Spans, usize> {
    (0..chat.messages.len())
        .filter(|&index| chat.is_assistant(index))
        .map(|index| Ok((Some(index), span(chat, text, index).ok().flatten().ok_or(index)?)))
        .collect()
}

fn span(chat: &Chat<'_>, text: &str, index: usize) -> Result<Option<Range<usize>>, Error> {
    let before = chat.render(&chat.messages[..index], AddGenerationPrompt::Yes)?;
    let after = chat.render(&chat.messages[..=index], AddGenerationPrompt::No)?;
    let before = without_thinking(&before);
    if !(after.starts_with(before) && text.starts_with(&after)) {
        return Ok(None);
    }
    // The text after the last EOS is the layout between turns, which the model never generates.
    let turn = &after[before.len()..];
    let eos = chat.special.get("eos_token").unwrap_or_default();
    let length = turn.rfind(eos).filter(|_| !eos.is_empty()).map_or(turn.len(), |at| at + eos.len());
    Ok(Some(before.len()..before.len() + length))
}
