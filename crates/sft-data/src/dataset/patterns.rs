//! Patterns over file names, with the meaning they have in the `datasets` library.
//!
//! `*` and `?` stay within a folder, `**` as a whole part of a path spans folders, and `[…]` is a
//! set of characters. Like Python's `fsspec`, this module translates a pattern to a regular
//! expression. (The `globset` crate works on bytes: its `?` does not match one Chinese character.)

use regex::{Regex, escape};
use std::fmt::Write as _;

/// The longest pattern that is compiled, which is as long as a path can be on most systems. Much
/// longer ones would take minutes.
const MAX_PATTERN_BYTES: usize = 4096;
/// Length of the start of a pattern that a warning quotes.
const MAX_QUOTED_CHARACTERS: usize = 100;

/// A compiled pattern.
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern. `None` if it matches nothing, because it has a malformed set or is
    /// longer than any path.
    pub(super) fn new(pattern: &str) -> Option<Self> {
        let regex = (pattern.len() <= MAX_PATTERN_BYTES).then(|| Regex::new(&to_regex(pattern)).ok()).flatten();
        if regex.is_none() {
            let start: String = pattern.chars().take(MAX_QUOTED_CHARACTERS).collect();
            tracing::warn!("the pattern {start:?} in the dataset card is malformed or too long, so it matches no file");
        }
        regex.map(Self)
    }

    /// Whether the pattern matches the whole name, in which `/` separates folders.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

/// Whether the text has any character with a special meaning.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn to_regex(pattern: &str) -> String {
    let mut parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    let mut regex = "(?s)^".to_owned();
    while let Some(part) = parts.next() {
        match (part, parts.peek().is_some()) {
            ("**", true) => regex.push_str("(?:[^/]+/)*"),
            ("**", false) => regex.push_str(".+"),
            (part, is_folder) => {
                push_part(part, &mut regex);
                regex.push_str(if is_folder { "/" } else { "" });
            }
        }
    }
    regex + "$"
}

/// Translates one part of a path.
fn push_part(part: &str, regex: &mut String) {
    let mut rest = part;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, set(rest)) {
            ('*', _) => regex.push_str("[^/]*"),
            ('?', _) => regex.push_str("[^/]"),
            ('[', Some((set, after))) => {
                push_set(set, regex);
                rest = after;
            }
            _ => regex.push_str(&escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
}

/// Splits what follows a `[` into the set and the rest after its `]`. `None` if the set is not
/// closed. A `]` at the start of a set is a member of it.
fn set(text: &str) -> Option<(&str, &str)> {
    let members = text.strip_prefix(['!', '^']).unwrap_or(text);
    let first = members.chars().next()?.len_utf8();
    let end = text.len() - members.len() + first + members[first..].find(']')?;
    Some((&text[..end], &text[end + 1..]))
}

fn push_set(set: &str, regex: &mut String) {
    let members = set.strip_prefix(['!', '^']);
    regex.push_str(if members.is_some() { "[[^" } else { "[[" });
    let mut members = members.unwrap_or(set).chars().peekable();
    while let Some(first) = members.next() {
        let mut ahead = members.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                members = ahead;
                let _ = write!(regex, "{}-{}", escape(&first.to_string()), escape(&last.to_string()));
            }
            _ => regex.push_str(&escape(&first.to_string())),
        }
    }
    regex.push_str("]&&[^/]]");
}

#[cfg(test)]
mod tests;
