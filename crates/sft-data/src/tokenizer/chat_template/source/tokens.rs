//! The tokens of one tag.

use super::{ATTRIBUTE, CONCAT, DICT_METHODS, ITERATE};
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Operator,
}

/// A token, and what is written in its place.
#[derive(Debug)]
struct Token {
    kind: Kind,
    place: Range<usize>,
    before: String,
    /// The new text, if it is not the old one.
    text: Option<String>,
    after: String,
    /// For a bracket, the index of its partner.
    partner: usize,
}

/// An expression or statement with its delimiters.
#[derive(Debug)]
pub(super) struct Tag<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    pub(super) length: usize,
    is_statement: bool,
}

impl<'a> Tag<'a> {
    /// Splits the tag that `source` starts with. `None` if it is malformed.
    pub(super) fn scan(source: &'a str) -> Option<Self> {
        let is_statement = source.starts_with("{%");
        let close = if is_statement { "%}" } else { "}}" };
        let bytes = source.as_bytes();
        let mut at = if matches!(bytes.get(2), Some(b'-' | b'+')) { 3 } else { 2 };
        let mut tokens: Vec<Token> = Vec::new();
        let mut open = Vec::new();
        loop {
            at += source[at..].len() - source[at..].trim_start().len();
            let rest = &source[at..];
            if open.is_empty() {
                let controlled = rest.strip_prefix(['-', '+']).is_some_and(|rest| rest.starts_with(close));
                if rest.starts_with(close) || controlled {
                    let length = at + 2 + usize::from(controlled);
                    return Some(Self { source, tokens, length, is_statement });
                }
            }
            let (kind, length) = next_token(rest)?;
            let mut partner = 0;
            match &rest[..length] {
                "(" | "[" | "{" => open.push(tokens.len()),
                ")" | "]" | "}" => {
                    partner = open.pop()?;
                    tokens[partner].partner = tokens.len();
                }
                _ => {}
            }
            let text = (kind == Kind::Text).then(|| escapes(&rest[..length])).flatten();
            let place = at..at + length;
            tokens.push(Token { kind, place, before: String::new(), text, after: String::new(), partner });
            at += length;
        }
    }

    /// The name that a statement consists of.
    pub(super) fn only_name(&self) -> Option<&'a str> {
        self.first_name().filter(|_| self.tokens.len() == 1)
    }

    /// The name that a statement starts with.
    pub(super) fn first_name(&self) -> Option<&'a str> {
        self.tokens.first().filter(|token| token.kind == Kind::Name).map(|token| &self.source[token.place.clone()])
    }

    /// Whether this is an `include` that may find nothing.
    pub(super) fn ignores_missing(&self) -> bool {
        self.first_name() == Some("include") && (1..self.tokens.len()).any(|index| self.text(index) == "ignore")
    }

    /// The tag with everything that was rewritten.
    pub(super) fn write(&self) -> String {
        let mut text = String::with_capacity(self.length + 32);
        let mut at = 0;
        for token in &self.tokens {
            text.push_str(&self.source[at..token.place.start]);
            text.push_str(&token.before);
            text.push_str(token.text.as_deref().unwrap_or(&self.source[token.place.clone()]));
            text.push_str(&token.after);
            at = token.place.end;
        }
        text.push_str(&self.source[at..self.length]);
        text
    }

    pub(super) fn rewrite_expressions(&mut self) {
        self.rewrite_methods();
        self.rewrite_concatenations(0..self.tokens.len());
    }

    /// Wraps what the loop of a `for` statement runs over.
    pub(super) fn wrap_iterated(&mut self) {
        let mut tokens = self.at_this_depth(0..self.tokens.len());
        let Some(start) = tokens.find(|&index| self.text(index) == "in").map(|index| index + 1) else { return };
        let end = tokens.find(|&index| self.is_keyword(index, "if") || self.is_keyword(index, "recursive"));
        let end = end.unwrap_or(self.tokens.len());
        drop(tokens);
        if start < end {
            self.tokens[start].before.insert_str(0, &format!("{ITERATE}(("));
            self.tokens[end - 1].after.push_str("))");
        }
    }

    /// Rewrites attributes that are methods of dictionaries and are not called.
    fn rewrite_methods(&mut self) {
        let mut first = 0;
        if self.is_statement && self.first_name() == Some("set") {
            // A namespace may have attributes of these names.
            first = (0..self.tokens.len()).find(|&index| self.text(index) == "=").unwrap_or(self.tokens.len());
        }
        for index in first.max(2)..self.tokens.len() {
            let is_method = self.text(index - 1) == "." && DICT_METHODS.contains(&self.text(index));
            let is_called = self.tokens.get(index + 1).is_some() && self.text(index + 1) == "(";
            if !is_method || is_called {
                continue;
            }
            let Some(start) = self.start_of_primary(index - 1) else { continue };
            self.tokens[start].before.insert_str(0, &format!("{ATTRIBUTE}("));
            self.tokens[index - 1].text = Some(", ".to_owned());
            self.tokens[index].text = Some(format!("{:?}", self.text(index)));
            self.tokens[index].after.push(')');
        }
    }

    /// Where the value starts whose attribute follows the dot at `dot`. `None` after a filter's or
    /// test's name.
    fn start_of_primary(&self, dot: usize) -> Option<usize> {
        let mut at = dot;
        loop {
            let last = at.checked_sub(1)?;
            if matches!(self.text(last), ")" | "]" | "}") {
                at = self.tokens[last].partner;
                // A bracket after a value is a call or a subscript of it.
                if at == 0 || !self.ends_operand(at - 1) {
                    return Some(at);
                }
                continue;
            }
            at = last;
            match at.checked_sub(1).map(|before| self.text(before)) {
                Some(".") => at -= 1,
                Some("|" | "is") => return None,
                _ => return Some(at),
            }
        }
    }

    /// Replaces each chain of `~` by a call.
    fn rewrite_concatenations(&mut self, range: Range<usize>) {
        let mut index = range.start;
        let mut done = range.start;
        while index < range.end {
            if self.opens(index) {
                let partner = self.tokens[index].partner;
                self.rewrite_concatenations(index + 1..partner);
                index = partner;
            } else if index >= done && self.text(index) == "~" {
                done = self.rewrite_chain(index, &range);
            }
            index += 1;
        }
    }

    /// Replaces the chain whose first `~` is at `index`. Returns the index after its last operand.
    fn rewrite_chain(&mut self, index: usize, range: &Range<usize>) -> usize {
        let mut start = index;
        while start > range.start {
            let before = start - 1;
            if self.closes(before) {
                start = self.tokens[before].partner;
            } else if self.bounds_operand(before, range) {
                break;
            } else {
                start = before;
            }
        }
        let mut end = index;
        while end < range.end && (end == index || !self.bounds_operand(end, range)) {
            if self.text(end) == "~" {
                self.tokens[end].text = Some(",".to_owned());
            }
            end = if self.opens(end) { self.tokens[end].partner + 1 } else { end + 1 };
        }
        self.tokens[start].before.insert_str(0, &format!("{CONCAT}("));
        self.tokens[end - 1].after.push(')');
        end
    }

    /// Whether an operand of `~` ends before this token: operators that bind less tightly do that.
    fn bounds_operand(&self, index: usize, range: &Range<usize>) -> bool {
        let text = self.text(index);
        let after = |word: &str| index > range.start && self.is_keyword(index - 1, word);
        match self.tokens[index].kind {
            Kind::Operator => match text {
                "," | ":" | "=" | "==" | "!=" | "<" | ">" | "<=" | ">=" => true,
                // A sign is part of the operand.
                "+" | "-" => index > range.start && self.ends_operand(index - 1),
                _ => false,
            },
            Kind::Name if self.is_statement && index == 0 => true,
            Kind::Name if index > range.start && self.text(index - 1) == "." => false,
            Kind::Name => match text {
                "and" | "or" | "if" | "else" => true,
                "not" => !after("is"),
                "in" => !(after("is") || after("not") && index > range.start + 1 && self.is_keyword(index - 2, "is")),
                "recursive" => self.first_name() == Some("for") && index > 0 && self.ends_operand(index - 1),
                _ => false,
            },
            Kind::Number | Kind::Text => false,
        }
    }

    /// Whether a value may end with this token.
    fn ends_operand(&self, index: usize) -> bool {
        match self.tokens[index].kind {
            Kind::Operator => self.closes(index),
            Kind::Name => {
                let is_word = ["and", "or", "not", "in", "is", "if", "else"].contains(&self.text(index));
                !(is_word && self.is_keyword(index, self.text(index)) || self.is_statement && index == 0)
            }
            Kind::Number | Kind::Text => true,
        }
    }

    /// Whether the token is this word, and not an attribute.
    fn is_keyword(&self, index: usize, word: &str) -> bool {
        self.tokens[index].kind == Kind::Name && self.text(index) == word && (index == 0 || self.text(index - 1) != ".")
    }

    fn opens(&self, index: usize) -> bool {
        matches!(self.text(index), "(" | "[" | "{")
    }

    fn closes(&self, index: usize) -> bool {
        matches!(self.text(index), ")" | "]" | "}")
    }

    /// The tokens of the range that are not in brackets.
    fn at_this_depth(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let mut index = range.start;
        std::iter::from_fn(move || {
            let found = (index < range.end).then_some(index)?;
            index = if self.opens(found) { self.tokens[found].partner + 1 } else { found + 1 };
            Some(found)
        })
    }

    /// The token as it is in the source.
    fn text(&self, index: usize) -> &'a str {
        &self.source[self.tokens[index].place.clone()]
    }
}

fn next_token(rest: &str) -> Option<(Kind, usize)> {
    let first = rest.chars().next()?;
    let while_true = |accepted: fn(char) -> bool| rest.find(|c| !accepted(c)).unwrap_or(rest.len());
    if first == '\'' || first == '"' {
        return Some((Kind::Text, length_of_text(rest, first)?));
    }
    if first.is_ascii_digit() {
        return Some((Kind::Number, length_of_number(rest.as_bytes())));
    }
    if first == '_' || first.is_alphabetic() {
        return Some((Kind::Name, while_true(|c| c == '_' || c.is_alphanumeric())));
    }
    let is_double = ["**", "//", "==", "!=", "<=", ">="].iter().any(|operator| rest.starts_with(operator));
    Some((Kind::Operator, if is_double { 2 } else { first.len_utf8() }))
}

fn length_of_text(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn length_of_number(bytes: &[u8]) -> usize {
    let mut at = 0;
    let is_decimal = !matches!(bytes.get(1), Some(b'x' | b'X' | b'b' | b'B' | b'o' | b'O'));
    while let Some(byte) = bytes.get(at) {
        let followed_by_digit = |offset: usize| bytes.get(at + offset).is_some_and(u8::is_ascii_digit);
        match byte {
            b'e' | b'E' if is_decimal && matches!(bytes.get(at + 1), Some(b'+' | b'-')) && followed_by_digit(2) => {
                at += 3;
            }
            b'.' if is_decimal && followed_by_digit(1) => at += 2,
            byte if byte.is_ascii_alphanumeric() || *byte == b'_' => at += 1,
            _ => break,
        }
    }
    at
}

/// Replaces an escape that the engine does not know. It writes `\a` as it stands, and a character's
/// name too.
fn escapes(text: &str) -> Option<String> {
    let mut replaced = String::new();
    let mut done = 0;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if byte != b'\\' {
            continue;
        }
        match bytes.next()?.1 {
            b'a' => {
                replaced.push_str(&text[done..at]);
                replaced.push_str("\\x07");
                done = at + 2;
            }
            b'N' => return Some("raise_exception('names of characters in texts are not supported')".to_owned()),
            _ => {}
        }
    }
    (done > 0).then(|| replaced + &text[done..])
}
