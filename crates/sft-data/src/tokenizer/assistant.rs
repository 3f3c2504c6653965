//! Finds the parts of a rendered chat that the assistant wrote.
//!
//! A template can mark them with `{% generation %}` blocks. Most templates have none. Then the chat
//! is rendered once more with marks inside the texts of the messages ([`marks`]), and the marks say
//! where in the text each message is. A turn of the assistant ([`turns`])
//!
//! - starts after the header that the generation prompt writes. A thinking block that the
//!   generation prompt opens is not part of the header: templates also write it around answers.
//! - ends with the first EOS after the message, or else with the token that ends the turn.
//!
//! The marks count only if the text without them is exactly the text of the chat. So a template may
//! strip texts, split them at tags, drop the reasoning of earlier turns or add an empty one. If the
//! marks change the text, a turn is found by rendering the messages before it ([`prefix`]), and if
//! that does not work either, it is an error.

mod marks;
mod prefix;
mod turns;

use super::AddGenerationPrompt;
use super::chat_template::{ChatTemplate, GENERATION_END, GENERATION_START, Marks};
use super::special::SpecialTokens;
use crate::{ChatContext, Error};
use marks::{Marked, Texts};
use serde_json::Value;
use std::ops::Range;
use tokenizers::Tokenizer;

/// What opens and closes a thinking block in the templates of reasoning models.
const THINKING: [(&str, &str); 5] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought", "<channel|>"),
];

/// A rendered chat, and what the assistant wrote in it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) turns: Vec<AssistantTurn>,
}

/// A turn of the assistant in a rendered chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AssistantTurn {
    /// The index of its message. `None` if the template marks its turns itself and their number is
    /// not that of the assistant's messages.
    pub(crate) message: Option<usize>,
    /// Its bytes, the token that ends it included.
    pub(crate) span: Range<usize>,
    /// The bytes of the token that ends it, if there is one.
    pub(crate) end_token: Option<Range<usize>>,
}

/// A chat and what turns it into text.
#[derive(Clone, Copy)]
pub(super) struct Chat<'a> {
    pub(super) template: &'a ChatTemplate,
    pub(super) messages: &'a [Value],
    pub(super) context: &'a ChatContext,
    pub(super) special: &'a SpecialTokens,
    pub(super) tokenizer: &'a Tokenizer,
}

impl Chat<'_> {
    fn render(&self, messages: &[Value], prompt: AddGenerationPrompt) -> Result<String, Error> {
        self.template.render(messages, self.context, self.special, prompt)
    }

    fn is_assistant(&self, index: usize) -> bool {
        self.messages.get(index).is_some_and(|message| role(message) == Some("assistant"))
    }

    /// Where EOS first is in a text.
    fn find_eos(&self, text: &str) -> Option<Range<usize>> {
        let eos = self.special.get("eos_token").filter(|eos| !eos.is_empty())?;
        text.find(eos).map(|start| start..start + eos.len())
    }

    /// Where added tokens are in a text, in order. Templates mark turns with them.
    fn added_tokens(&self, text: &str) -> Vec<Range<usize>> {
        let tokens = self.tokenizer.get_added_vocabulary().get_vocab().keys();
        let tokens = tokens.filter(|token| !token.trim().is_empty());
        let mut found: Vec<Range<usize>> =
            tokens.flat_map(|token| text.match_indices(token).map(|(start, _)| start..start + token.len())).collect();
        found.sort_by_key(|token| token.start);
        found
    }
}

fn role(message: &Value) -> Option<&str> {
    message.get("role").and_then(Value::as_str)
}

pub(super) fn render_with_turns(chat: &Chat<'_>) -> Result<Rendered, Error> {
    let text = chat.render(chat.messages, AddGenerationPrompt::No)?;
    let spans = if chat.template.has_generation_blocks() {
        let Chat { template, messages, context, special, .. } = *chat;
        let marked = template.render_marked(messages, context, special, AddGenerationPrompt::No, Marks::Leave)?;
        let spans = marked_spans(&marked, &text).ok_or_else(|| Error::AssistantMask {
            problem: "the chat template's {% generation %} blocks do not match its text".to_owned(),
        })?;
        let messages: Vec<usize> = (0..messages.len()).filter(|&index| chat.is_assistant(index)).collect();
        let is_one_each = messages.len() == spans.len();
        let of = |index: usize| messages.get(index).copied().filter(|_| is_one_each);
        spans.into_iter().enumerate().map(|(index, span)| (of(index), span)).collect()
    } else {
        unmarked_spans(chat, &text)?
    };
    let turn = |(message, span): (Option<usize>, Range<usize>)| {
        let end_token = end_token(chat, &text, &span);
        AssistantTurn { message, span, end_token }
    };
    let turns = spans.into_iter().map(turn).collect();
    Ok(Rendered { text, turns })
}

/// The token that a turn ends with, if nothing but space follows it.
fn end_token(chat: &Chat<'_>, text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let said = text.get(span.clone())?.trim_end();
    let eos = chat.special.get("eos_token").filter(|eos| !eos.is_empty());
    let added = chat.tokenizer.get_added_vocabulary().get_added_tokens_decoder().values();
    let special = added.filter(|token| token.special).map(|token| token.content.as_str());
    let mut ends = eos.into_iter().chain(special.filter(|token| !token.trim().is_empty()));
    let token = ends.find(|token| said.ends_with(token))?;
    let end = span.start + said.len();
    Some(end - token.len()..end)
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

/// The turns that a template does not mark itself, each with the index of its message.
type Spans = Vec<(Option<usize>, Range<usize>)>;

fn unmarked_spans(chat: &Chat<'_>, text: &str) -> Result<Spans, Error> {
    if !(0..chat.messages.len()).any(|index| chat.is_assistant(index)) {
        return Ok(Vec::new());
    }
    let mut problem = None;
    for texts in [Texts::AllAndEmpty, Texts::All, Texts::Content, Texts::AssistantContent] {
        let Some(marked) = Marked::of(chat, text, texts) else { continue };
        match turns::spans(chat, text, &marked) {
            Ok(spans) => return Ok(spans),
            Err(message) => problem = problem.or(Some(message)),
        }
    }
    prefix::spans(chat, text).map_err(|message| {
        let message = problem.unwrap_or(message) + 1;
        Error::AssistantMask {
            problem: format!(
                "the chat template renders message {message} differently with and without the messages after it, so \
                 the assistant's tokens cannot be found; mark them in the template with {{% generation %}}"
            ),
        }
    })
}

/// The start that two texts have in common.
fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let length = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    a.get(..length).unwrap_or_default()
}

/// The end that two texts have in common.
fn common_suffix<'a>(a: &'a str, b: &str) -> &'a str {
    let length: usize =
        a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    a.get(a.len() - length..).unwrap_or_default()
}

/// The thinking blocks in a text, tags included. A text that closes one before it opens one starts
/// inside of it: some templates open it in the generation prompt. One that is not closed is none.
pub(crate) fn thinking_blocks(text: &str) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut from = 0;
    while let Some(rest) = text.get(from..) {
        let closed = THINKING.iter().filter_map(|(open, close)| {
            let end = rest.find(close)?;
            let start = match rest.get(..end)?.find(open) {
                Some(start) => start,
                None if from == 0 => 0,
                None => return None,
            };
            Some(from + start..from + end + close.len())
        });
        let Some(block) = closed.min_by_key(|block| block.end) else { break };
        from = block.end;
        blocks.push(block);
    }
    blocks
}

/// A prompt without the open or empty thinking block that it ends with.
fn without_thinking(prompt: &str) -> &str {
    let end = prompt.trim_end();
    let opened = THINKING.iter().find_map(|(open, close)| {
        let end = end.strip_suffix(close).unwrap_or(end).trim_end();
        end.strip_suffix(open)
    });
    opened.unwrap_or(prompt)
}

#[cfg(test)]
mod tests;
