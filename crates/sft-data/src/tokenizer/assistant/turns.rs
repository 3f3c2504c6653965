//! From marks to the turns of the assistant.

use super::super::AddGenerationPrompt;
use super::marks::{Mark, Marked};
use super::{Chat, Spans, common_prefix, common_suffix, without_thinking};
use std::cell::OnceCell;
use std::ops::Range;

/// The turns of the assistant, or the index of a message whose turn cannot be found.
pub(super) fn spans(chat: &Chat<'_>, text: &str, marked: &Marked) -> Result<Spans, usize> {
    let finder = Finder { chat, text, marked, prompted: OnceCell::new() };
    let mut spans = Spans::new();
    for index in (0..chat.messages.len()).filter(|&index| chat.is_assistant(index)) {
        let span = match finder.turn(index).ok_or(index)? {
            Turn::At(span) => span,
            Turn::NotWritten => continue,
        };
        if spans.last().is_some_and(|(_, last)| last.end > span.start) {
            return Err(index);
        }
        spans.push((Some(index), span));
    }
    Ok(spans)
}

struct Finder<'a> {
    chat: &'a Chat<'a>,
    text: &'a str,
    marked: &'a Marked,
    prompted: OnceCell<Option<String>>,
}

/// The text from what a message says to the next message.
#[derive(Debug, Clone, Copy)]
struct Rest {
    /// The last mark of the message or, if it has none, of a message before it.
    at: usize,
    /// Where the rest starts.
    from: usize,
    /// Where the next message has its first mark.
    to: usize,
    /// The message that has the mark at `at`.
    of: Option<usize>,
}

enum Turn {
    At(Range<usize>),
    /// The template writes nothing for this message.
    NotWritten,
}

/// The place of a message in the text.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The last mark of a message before it.
    before: Option<Mark>,
    /// Its own first and last mark. `None` if the template writes nothing that it says.
    own: Option<(usize, usize)>,
    /// The first mark of a message after it, or the end of the text.
    after: usize,
}

impl Finder<'_> {
    fn turn(&self, index: usize) -> Option<Turn> {
        let place = self.place(index)?;
        let from = place.before.map_or(0, |mark| mark.at);
        let region = self.text.get(from..place.own.map_or(place.after, |(first, _)| first))?;
        let prompt = self.tail(index, AddGenerationPrompt::Yes, place.before.map(|mark| mark.message));
        let header = prompt.as_deref().and_then(|prompt| header_at_start(region, prompt));
        let Some(header) = header.or_else(|| self.header_anywhere(region, place.own.is_some())) else {
            return self.says_nothing(index).then_some(Turn::NotWritten);
        };
        let start = from + header;
        let end = match place.own {
            Some((_, last)) => {
                self.end(index, Rest { at: last, from: last, to: place.after, of: Some(index) }, prompt.as_deref())
            }
            None => {
                let of = place.before.map(|mark| mark.message);
                self.end_token(index, Rest { at: from, from: start, to: place.after, of })
            }
        };
        match (end, place.own) {
            (Some(end), _) => Some(Turn::At(start..end)),
            // Only a token that ends the turn shows that there is one.
            (None, None) => Some(Turn::NotWritten),
            (None, Some(_)) => None,
        }
    }

    /// `None` if the template writes the messages in another order, or this one several times.
    fn place(&self, index: usize) -> Option<Place> {
        let marks = &self.marked.marks;
        let is_own = |mark: &Mark| mark.message == index;
        let first = marks.iter().position(is_own);
        let end = marks.iter().rposition(is_own).map(|last| last + 1);
        let (first, end) = first.zip(end).unwrap_or_else(|| {
            let next = marks.iter().rposition(|mark| mark.message < index).map_or(0, |last| last + 1);
            (next, next)
        });
        let own = marks.get(first..end)?;
        let before = first.checked_sub(1).and_then(|before| marks.get(before)).copied();
        let after = marks.get(end..)?;
        let is_in_order = own.iter().all(is_own)
            && before.is_none_or(|mark| mark.message < index)
            && after.first().is_none_or(|mark| mark.message > index);
        is_in_order.then(|| Place {
            before,
            own: own.first().zip(own.last()).map(|(first, last)| (first.at, last.at)),
            after: after.first().map_or(self.text.len(), |mark| mark.at),
        })
    }

    /// What the template writes after the last mark of the first `count` messages, if this is a
    /// mark of the message `of`.
    fn tail(&self, count: usize, prompt: AddGenerationPrompt, of: Option<usize>) -> Option<String> {
        let (tail, last) = self.marked.tail_of_first(self.chat, count, prompt)?;
        (last == of).then_some(tail)
    }

    /// The length of a region up to the end of a header that is somewhere in it. This finds the
    /// turn of a first message, and of one whose predecessors the template refuses or writes
    /// differently without it.
    fn header_anywhere(&self, region: &str, ends_in_turn: bool) -> Option<usize> {
        let prompt = self.generation_prompt();
        let prompt = without_thinking(&prompt);
        let header = prompt.trim();
        if header.is_empty() {
            return self.only_tokens(region);
        }
        let at = if ends_in_turn { region.rfind(header) } else { region.find(header) }?;
        let space = &prompt.trim_start()[header.len()..];
        let header_end = at + header.len();
        Some(header_end + common_prefix(region.get(header_end..)?, space).len())
    }

    /// What follows the whole chat to start one more turn of the assistant. Empty if unknown.
    fn generation_prompt(&self) -> String {
        let prompt = self.prompted().and_then(|prompted| prompted.strip_prefix(self.text)).unwrap_or_default();
        if !prompt.trim().is_empty() {
            return prompt.to_owned();
        }
        // The template writes it whether asked to or not, or ends the last turn in another way.
        let count = self.chat.messages.len();
        let tail = self.tail(count, AddGenerationPrompt::Yes, count.checked_sub(1)).unwrap_or_default();
        let end = self.chat.find_eos(&tail).or_else(|| self.chat.added_tokens(&tail).into_iter().next());
        end.and_then(|end| tail.get(end.end..)).unwrap_or_default().to_owned()
    }

    /// The length of the tokens that a region starts with, if nothing follows but space and the
    /// first letter of the message.
    fn only_tokens(&self, region: &str) -> Option<usize> {
        let before = region.get(..region.char_indices().next_back()?.0)?;
        let tokens = self.chat.added_tokens(before);
        let mut end = 0;
        for token in tokens {
            if !before.get(end..token.start)?.trim().is_empty() {
                return None;
            }
            end = token.end;
        }
        before.get(end..)?.trim().is_empty().then_some(end)
    }

    fn says_nothing(&self, index: usize) -> bool {
        self.marked.messages.get(index) == self.chat.messages.get(index)
    }

    /// Where the turn of a message ends that the template writes.
    fn end(&self, index: usize, mut rest: Rest, prompt: Option<&str>) -> Option<usize> {
        let said = self.marked.said_after_last_mark(index).unwrap_or_default();
        if self.text.get(rest.from..rest.to)?.starts_with(said) {
            rest.from += said.len();
        }
        if let Some(end) = self.end_token(index, rest) {
            return Some(end);
        }
        // No token ends the turn, only the layout.
        let alone = self.tail(index + 1, AddGenerationPrompt::No, rest.of)?;
        let header = prompt.filter(|_| self.always_writes_prompt()).map_or("", |prompt| common_suffix(&alone, prompt));
        let layout = alone.strip_suffix(header).filter(|_| !header.trim().is_empty()).unwrap_or(&alone);
        Some(rest.at + common_prefix(self.text.get(rest.at..rest.to)?, layout).len())
    }

    /// Where the token ends that ends the turn of a message: EOS, or else a token that the template
    /// also writes if the chat ends with this message.
    fn end_token(&self, index: usize, rest: Rest) -> Option<usize> {
        let text = self.text.get(rest.from..rest.to)?;
        if let Some(eos) = self.chat.find_eos(text) {
            return Some(rest.from + eos.end);
        }
        let tokens = self.chat.added_tokens(text);
        let Some(alone) = self.tail(index + 1, AddGenerationPrompt::No, rest.of) else {
            return tokens.first().map(|token| rest.from + token.end);
        };
        let skipped = rest.from - rest.at;
        let common = common_prefix(self.text.get(rest.at..rest.to)?, &alone).len().saturating_sub(skipped);
        let num_common = tokens.iter().take_while(|token| token.end <= common).count();
        let ends_turn = match num_common {
            0 if self.chat.added_tokens(alone.get(skipped..).unwrap_or_default()).is_empty() => None,
            0 => tokens.first(),
            _ if self.always_writes_prompt() => tokens.first(),
            count => tokens.get(count - 1),
        };
        ends_turn.map(|token| rest.from + token.end)
    }

    /// Whether the template writes the generation prompt whether asked to or not, or has none.
    fn always_writes_prompt(&self) -> bool {
        self.prompted().is_some_and(|prompted| prompted == self.text)
    }

    /// The whole chat with a generation prompt.
    fn prompted(&self) -> Option<&str> {
        let render = || self.chat.render(self.chat.messages, AddGenerationPrompt::Yes).ok();
        self.prompted.get_or_init(render).as_deref()
    }
}

/// The length of the header that a region starts with, according to how the messages before it end
/// if they are rendered alone with a generation prompt.
fn header_at_start(region: &str, prompt: &str) -> Option<usize> {
    let header = without_thinking(prompt);
    // Templates differ in the space between the header and what the assistant says.
    region.starts_with(header.trim_end()).then(|| common_prefix(region, header).len())
}
