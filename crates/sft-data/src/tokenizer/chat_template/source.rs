//! Prepares a template's source for the engine.
//!
//! Jinja2 reads every line end as `\n`, and transformers adds the block `{% generation %}`. Some
//! constructs of Jinja2 do something else in the engine, and no setting changes that. Most of them
//! become calls of functions that do what Python does:
//!
//! | source | becomes |
//! |---|---|
//! | `a ~ b ~ c` | `__concat(a, b, c)`: numbers are written as in Python |
//! | `{% for x in y %}` | `{% for x in __iterate((y)) %}`: `None` cannot be iterated over |
//! | `a.items` without a call | `__attribute(a, "items")`: the method of a dictionary, not its key |
//! | `{# a comment #}` | `{% set __comment = none %}` |
//!
//! A source that cannot be split into tokens is left as it is, because the engine reports the
//! error.

mod tokens;

use std::fmt::Write as _;
use tokens::Tag;

/// Python's `str` of the arguments, joined.
pub(super) const CONCAT: &str = "__concat";
/// What a loop runs over.
pub(super) const ITERATE: &str = "__iterate";
/// An attribute that may be a method of a dictionary.
pub(super) const ATTRIBUTE: &str = "__attribute";
/// The filter that replaces `{% generation %}`.
pub(super) const GENERATION_BLOCK: &str = "__generation_block";
/// A variable that nothing reads.
const COMMENT: &str = "__comment";
/// The methods of Python's dictionaries.
pub(super) const DICT_METHODS: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];

/// A source that the engine can compile.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) text: String,
    pub(super) has_generation_blocks: bool,
}

pub(super) fn rewrite(source: &str) -> Rewritten {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut rewritten = Rewritten { text: String::with_capacity(source.len() + 64), has_generation_blocks: false };
    let mut rest = source.as_str();
    while let Some(at) = next_tag(rest) {
        rewritten.text.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = if rest.starts_with("{#") { rewritten.push_comment(rest) } else { rewritten.push_tag(rest) };
        match length {
            Some(length) => rest = &rest[length..],
            None => break,
        }
    }
    rewritten.text.push_str(rest);
    rewritten
}

/// Where the next expression, statement or comment starts.
fn next_tag(text: &str) -> Option<usize> {
    text.match_indices('{').map(|(at, _)| at).find(|at| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')))
}

impl Rewritten {
    /// Appends a statement in place of the comment that `rest` starts with: Jinja2 removes the
    /// whitespace around both by the same rules, the engine does not. Returns the comment's length.
    fn push_comment(&mut self, rest: &str) -> Option<usize> {
        let length = rest[2..].find("#}")? + 4;
        let comment = &rest[..length];
        let (before, after) = whitespace_control(comment);
        let lines = "\n".repeat(comment.matches('\n').count());
        let _ = write!(self.text, "{{%{before} set {COMMENT} = none{lines} {after}%}}");
        Some(length)
    }

    /// Appends the tag that `rest` starts with. Returns its length, or `None` if it is malformed.
    fn push_tag(&mut self, rest: &str) -> Option<usize> {
        let mut tag = Tag::scan(rest)?;
        let whole = &rest[..tag.length];
        if !rest.starts_with("{%") {
            tag.rewrite_expressions();
            self.text.push_str(&tag.write());
            return Some(tag.length);
        }
        match tag.only_name() {
            Some("raw") => {
                let length = tag.length + end_of_raw(&rest[tag.length..])?;
                self.text.push_str(&rest[..length]);
                return Some(length);
            }
            Some("generation") => {
                self.has_generation_blocks = true;
                let (before, after) = whitespace_control(whole);
                // Names that are set in the block are unknown after it.
                let _ = write!(self.text, "{{%{before} filter {GENERATION_BLOCK} %}}{{% with {after}%}}");
            }
            Some("endgeneration") => {
                let (before, after) = whitespace_control(whole);
                let _ = write!(self.text, "{{%{before} endwith %}}{{% endfilter {after}%}}");
            }
            // transformers does not turn these on, or what they need.
            name if matches!(tag.first_name(), Some("autoescape" | "do")) || tag.ignores_missing() => {
                let name = name.or(tag.first_name()).unwrap_or_default();
                let _ = write!(self.text, "{{% unsupported_statement_{name} %}}");
            }
            _ => {
                tag.rewrite_expressions();
                if tag.first_name() == Some("for") {
                    tag.wrap_iterated();
                }
                self.text.push_str(&tag.write());
            }
        }
        Some(tag.length)
    }
}

/// The `-` or `+` at either end of a tag, or nothing.
fn whitespace_control(tag: &str) -> (&'static str, &'static str) {
    let control = |byte: Option<&u8>| match byte {
        Some(b'-') => "-",
        Some(b'+') => "+",
        _ => "",
    };
    let bytes = tag.as_bytes();
    (control(bytes.get(2)), control(bytes.len().checked_sub(3).and_then(|at| bytes.get(at))))
}

/// The length of the text of a raw block, with its end tag.
fn end_of_raw(text: &str) -> Option<usize> {
    text.match_indices("{%").find_map(|(start, _)| {
        let length = text[start..].find("%}")?;
        let name = text[start + 2..start + length].trim_matches(['-', '+']).trim();
        (name == "endraw").then_some(start + length + 2)
    })
}

#[cfg(test)]
mod tests;
