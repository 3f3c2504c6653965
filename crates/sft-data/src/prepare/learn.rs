//! Which bytes of a text count in the loss.

use super::config::{Learn, LossOn, Thinking, TrainOnEos};
use crate::Error;
use crate::tokenizer::{AssistantTurn, Rendered, thinking_blocks};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::Range;

/// Keys of a message that say whether it counts.
const WEIGHT_KEYS: [&str; 3] = ["weight", "train", "loss"];
/// Keys of a message that hold reasoning.
const REASONING_KEYS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// What a message says about itself: whether it counts in the loss. `None` if it says nothing.
///
/// # Errors
/// What is wrong with the value.
pub(crate) fn declared(message: &Map<String, Value>) -> Result<Option<bool>, String> {
    let mut declared: Option<bool> = None;
    for key in WEIGHT_KEYS {
        let counts = match (key, message.get(key)) {
            (_, None | Some(Value::Null)) => continue,
            ("weight", Some(Value::Number(weight))) if weight.as_f64() == Some(0.0) => false,
            ("weight", Some(Value::Number(weight))) if weight.as_f64() == Some(1.0) => true,
            ("weight", Some(weight)) => {
                return Err(format!("has `weight`: {weight}, but a message counts with 0 or 1; use one of them"));
            }
            (_, Some(Value::Bool(counts))) => *counts,
            // Some files keep a figure under this name.
            ("loss", Some(_)) => continue,
            (_, Some(other)) => return Err(format!("has `{key}`: {other}, not true or false")),
        };
        if declared.is_some_and(|before| before != counts) {
            let keys = WEIGHT_KEYS.join("`, `");
            return Err(format!("says both that it counts and that it does not; leave all but one of `{keys}` out"));
        }
        declared = Some(counts);
    }
    Ok(declared)
}

/// Whether some message says that it does not count. Then only what the assistant says counts, as
/// in the files that have such messages.
pub(super) fn leaves_out_some(messages: &[Value]) -> bool {
    messages.iter().any(|message| counts(message) == Some(false))
}

fn counts(message: &Value) -> Option<bool> {
    message.as_object().and_then(|message| declared(message).ok().flatten())
}

impl Learn {
    /// What counts in a chat, whose messages may have a say in it.
    pub(super) fn of_chat(self, messages: &[Value]) -> Result<Self, Error> {
        if !leaves_out_some(messages) {
            return Ok(self);
        }
        let refuse = |problem: String| Err(Error::NotForRow { option: self.option, problem });
        let is_assistant = |message: &Value| message["role"] == "assistant";
        let says_more = |message: &Value| !is_assistant(message) && counts(message) == Some(true);
        if let Some(index) = messages.iter().position(says_more) {
            return refuse(format!(
                "message {} counts in the loss by its own `weight` or `train`, but only messages of the assistant can; \
                 remove the key",
                index + 1
            ));
        }
        match self.on {
            LossOn::All => refuse(
                "every token is to count, but a message says that it does not (`weight`, `train` or `loss`); leave one of \
                 the two out"
                    .to_owned(),
            ),
            LossOn::Default | LossOn::Completion => Ok(Self { on: LossOn::Assistant, ..self }),
            LossOn::Assistant | LossOn::AssistantAnywhere | LossOn::Last => Ok(self),
        }
    }

    /// Whether every token of a chat counts, whoever says it.
    pub(super) fn needs_no_turns(self) -> bool {
        !self.on.is_assistant() && self.thinking != Thinking::Mask && self.eos == TrainOnEos::Turn
    }

    /// The bytes of a chat that count.
    pub(super) fn in_chat(self, messages: &[Value], rendered: &Rendered) -> Result<Vec<Range<usize>>, Error> {
        let Rendered { text, turns } = rendered;
        let weighs = leaves_out_some(messages);
        if weighs && turns.iter().any(|turn| turn.message.is_none()) {
            return Err(Error::AssistantMask {
                problem: "the chat template has not one {% generation %} block for each message of the assistant, so \
                          messages cannot be left out by `weight`; name another template with `chat_template_path`"
                    .to_owned(),
            });
        }
        let is_left_out = |turn: &&AssistantTurn| {
            let message = turn.message.and_then(|index| messages.get(index));
            message.and_then(counts) == Some(false)
        };
        let is_learnt = |index: usize, turn: &AssistantTurn| match self.on {
            LossOn::Last => index + 1 == turns.len() && !is_left_out(&turn),
            _ => !is_left_out(&turn),
        };
        let learnt = turns.iter().enumerate().filter(|(index, turn)| is_learnt(*index, turn)).map(|(_, turn)| turn);
        let mut spans: Vec<Range<usize>> = match self.on.is_assistant() {
            true => learnt.map(|turn| turn.span.clone()).collect(),
            false => std::iter::once(0..text.len()).collect(),
        };
        if self.thinking == Thinking::Mask {
            for turn in turns {
                let said = text.get(turn.span.clone()).unwrap_or_default();
                for block in thinking_blocks(said) {
                    remove(&mut spans, turn.span.start + block.start..turn.span.start + block.end);
                }
            }
        }
        let unlearnt_ends = match self.eos {
            TrainOnEos::Turn => 0,
            TrainOnEos::Last => turns.len().saturating_sub(1),
            TrainOnEos::None => turns.len(),
        };
        for end in turns.iter().take(unlearnt_ends).filter_map(|turn| turn.end_token.clone()) {
            remove(&mut spans, end);
        }
        Ok(spans)
    }

    /// The bytes of a plain text that count, or `None` if all do. The text ends with `eos`.
    pub(super) fn in_text(self, text: &str, eos: &str) -> Option<Vec<Range<usize>>> {
        let blocks = if self.thinking == Thinking::Mask { thinking_blocks(text) } else { Vec::new() };
        let ends = self.eos == TrainOnEos::None && !eos.is_empty() && text.ends_with(eos);
        if blocks.is_empty() && !ends {
            return None;
        }
        let mut spans: Vec<Range<usize>> = std::iter::once(0..text.len()).collect();
        blocks.into_iter().for_each(|block| remove(&mut spans, block));
        if ends {
            remove(&mut spans, text.len() - eos.len()..text.len());
        }
        Some(spans)
    }

    /// The messages without reasoning, if they are to have none.
    pub(super) fn without_thinking(self, messages: &[Value]) -> Cow<'_, [Value]> {
        let mut messages = Cow::Borrowed(messages);
        if self.thinking == Thinking::Drop {
            let said_by_assistant = messages.to_mut().iter_mut().filter(|message| message["role"] == "assistant");
            said_by_assistant.for_each(drop_thinking);
        }
        messages
    }

    pub(super) fn text_without_thinking(self, text: &str) -> Cow<'_, str> {
        match self.thinking {
            Thinking::Drop => text_without_thinking(text).into(),
            Thinking::Keep | Thinking::Mask => text.into(),
        }
    }
}

/// Whether reasoning in a key of its own is not in the text that the template made.
pub(super) fn leaves_out_reasoning(messages: &[Value], rendered: &str) -> bool {
    let reasoning = messages.iter().flat_map(|message| REASONING_KEYS.map(|key| message[key].as_str()));
    let mut said = reasoning.flatten().map(str::trim).filter(|text| !text.is_empty());
    said.any(|text| !rendered.contains(text))
}

fn drop_thinking(message: &mut Value) {
    let Some(message) = message.as_object_mut() else { return };
    REASONING_KEYS.iter().for_each(|key| drop(message.shift_remove(*key)));
    match message.get_mut("content") {
        Some(Value::String(text)) => *text = text_without_thinking(text),
        Some(Value::Array(parts)) => {
            for part in parts {
                if let Some(Value::String(text)) = part.get_mut("text") {
                    *text = text_without_thinking(text);
                }
            }
        }
        _ => {}
    }
}

/// Space after a block belongs to it.
fn text_without_thinking(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for block in thinking_blocks(text) {
        kept.push_str(text.get(from..block.start).unwrap_or_default());
        let rest = text.get(block.end..).unwrap_or_default();
        from = text.len() - rest.trim_start().len();
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    kept
}

/// Takes a range out of spans, which are in order.
fn remove(spans: &mut Vec<Range<usize>>, out: Range<usize>) {
    let parts = |span: &Range<usize>| [span.start..span.end.min(out.start), span.start.max(out.end)..span.end];
    *spans = spans.iter().flat_map(parts).filter(|part| part.start < part.end).collect();
}
