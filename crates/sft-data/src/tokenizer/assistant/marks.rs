//! Marks inside the texts of messages, which show where the messages are in a rendered chat.
//!
//! A mark is a private-use character that stands for the index of its message. It is put between
//! other characters: after the first letter or digit of a text and before the last one. Text
//! between tags such as `<think>` and `</think>` counts as a text of its own. So templates that
//! strip texts, split them at tags, or look at how they start and end write the same with and
//! without marks.

use super::super::AddGenerationPrompt;
use super::Chat;
use serde_json::Value;
use std::ops::RangeInclusive;

/// The supplementary private-use areas. The second one is used if a chat has characters of the
/// first.
const AREAS: [RangeInclusive<char>; 2] = ['\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}'];
/// The longest text that counts as a tag, in bytes.
const MAX_TAG: usize = 64;
/// Keys whose values templates compare with names that they know.
const NAMES: [&str; 7] = ["role", "type", "id", "name", "tool_call_id", "channel", "recipient"];

/// Which texts of a chat have marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// Whatever the assistant says, including reasoning and arguments of tool calls, and the
    /// content of other messages. A message of the assistant that says nothing has a mark too.
    AllAndEmpty,
    /// The same without marks in messages that say nothing.
    All,
    /// The content of all messages.
    Content,
    /// The content of the assistant's messages.
    AssistantContent,
}

/// Where a message is in a rendered chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The index of the message.
    pub(super) message: usize,
    /// A byte position in the text without marks, inside what the message says.
    pub(super) at: usize,
}

/// Messages with marks, and where the marks are in the text of the whole chat.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) messages: Vec<Value>,
    pub(super) marks: Vec<Mark>,
    area: RangeInclusive<char>,
}

impl Marked {
    /// `None` if the template writes another text because of the marks.
    pub(super) fn of(chat: &Chat<'_>, text: &str, texts: Texts) -> Option<Self> {
        let area = AREAS.into_iter().find(|area| !text.chars().any(|c| area.contains(&c)))?;
        let mut messages = chat.messages.to_vec();
        for (index, message) in messages.iter_mut().enumerate() {
            let mark = char::from_u32(*area.start() as u32 + u32::try_from(index).ok()?)?;
            if !area.contains(&mark) {
                return None;
            }
            mark_message(message, mark, texts);
        }
        let mut marked = Self { messages, marks: Vec::new(), area };
        let rendered = chat.render(&marked.messages, AddGenerationPrompt::No).ok()?;
        let (found, marks) = marked.read(&rendered);
        marked.marks = marks;
        (found == text).then_some(marked)
    }

    /// Takes the marks out of a text.
    pub(super) fn read(&self, rendered: &str) -> (String, Vec<Mark>) {
        let mut text = String::with_capacity(rendered.len());
        let mut marks = Vec::new();
        for c in rendered.chars() {
            match self.area.contains(&c) {
                true => marks.push(Mark { message: (c as u32 - *self.area.start() as u32) as usize, at: text.len() }),
                false => text.push(c),
            }
        }
        (text, marks)
    }

    /// What a message goes on to say after its last mark, if this is in its content.
    pub(super) fn said_after_last_mark(&self, index: usize) -> Option<&str> {
        let content = self.messages.get(index)?.get("content")?.as_str()?;
        let last = content.char_indices().rfind(|(_, c)| self.area.contains(c)).map(|(at, c)| at + c.len_utf8())?;
        content.get(last..).map(str::trim_end)
    }

    /// The text after the last mark of the first `count` messages, rendered alone, and the index of
    /// the message that has this mark. `None` if the template refuses them.
    pub(super) fn tail_of_first(
        &self,
        chat: &Chat<'_>,
        count: usize,
        prompt: AddGenerationPrompt,
    ) -> Option<(String, Option<usize>)> {
        let messages = self.messages.get(..count).filter(|messages| !messages.is_empty())?;
        let (text, marks) = self.read(&chat.render(messages, prompt).ok()?);
        let last = marks.last();
        Some((text.get(last.map_or(0, |mark| mark.at)..)?.to_owned(), last.map(|mark| mark.message)))
    }
}

fn mark_message(message: &mut Value, mark: char, texts: Texts) {
    let Some(fields) = message.as_object_mut() else { return };
    let is_assistant = fields.get("role").and_then(Value::as_str) == Some("assistant");
    let mut num_marks = 0;
    for (key, value) in fields.iter_mut() {
        let is_marked = match texts {
            Texts::AllAndEmpty | Texts::All => key == "content" || is_assistant && !NAMES.contains(&key.as_str()),
            Texts::Content => key == "content",
            Texts::AssistantContent => key == "content" && is_assistant,
        };
        if is_marked {
            num_marks += mark_value(value, mark);
        }
    }
    if num_marks == 0
        && is_assistant
        && texts == Texts::AllAndEmpty
        && let Some(Value::String(content)) = fields.get_mut("content")
    {
        content.push(mark);
    }
}

/// Marks all texts in a value, to any depth. Returns the number of marks.
fn mark_value(value: &mut Value, mark: char) -> usize {
    let mut num_marks = 0;
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => {
                *text = mark_text(text, mark);
                num_marks += text.matches(mark).count();
            }
            Value::Array(values) => left.extend(values),
            Value::Object(fields) => {
                let fields = fields.iter_mut().filter(|(key, _)| !NAMES.contains(&key.as_str()));
                left.extend(fields.map(|(_, value)| value));
            }
            _ => {}
        }
    }
    num_marks
}

fn mark_text(text: &str, mark: char) -> String {
    let mut marked = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while !rest.is_empty() {
        let (start, end) = next_tag(rest).unwrap_or((rest.len(), rest.len()));
        mark_between_tags(&rest[..start], mark, &mut marked);
        marked.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    if marked.len() == text.len() && !text.trim().is_empty() {
        marked.insert(text.trim_end().len(), mark);
    }
    marked
}

fn mark_between_tags(text: &str, mark: char, marked: &mut String) {
    let mut letters = text.char_indices().filter(|(_, c)| c.is_alphanumeric());
    let Some((first, c)) = letters.next() else { return marked.push_str(text) };
    let first = first + c.len_utf8();
    marked.push_str(&text[..first]);
    marked.push(mark);
    let Some((last, _)) = letters.next_back() else { return marked.push_str(&text[first..]) };
    marked.push_str(&text[first..last]);
    marked.push(mark);
    marked.push_str(&text[last..]);
}

/// Where the next `<tag>` or `[tag]` starts and ends.
fn next_tag(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(start) = text[from..].find(['<', '[']).map(|at| from + at) {
        let close = if text[start..].starts_with('<') { '>' } else { ']' };
        let stop = |c: char| c == close || c.is_whitespace() || matches!(c, '<' | '[');
        if let Some(length) = text[start + 1..].find(stop).filter(|length| *length < MAX_TAG)
            && text[start + 1 + length..].starts_with(close)
        {
            return Some((start, start + length + 2));
        }
        from = start + 1;
    }
    None
}
