//! Preferences: of `chosen` and `rejected`, what was chosen is the completion.
//!
//! The prompt is the column `prompt`, or else what the two have in common, as TRL's
//! `extract_prompt` finds it.

use super::format::{Columns, other};
use super::messages::Messages;
use super::{CONTEXT_COLUMNS, RowColumns, RowFormat, context, kind};
use crate::{PromptCompletion, Row, Turn};
use serde_json::Value;
use std::fmt;

#[derive(Debug)]
pub(super) struct PreferenceColumns;

impl PreferenceColumns {
    pub(super) fn detect(columns: &Columns<'_>) -> Option<RowColumns> {
        (columns.has("chosen") && columns.has("rejected")).then(|| other(Self))
    }
}

impl fmt::Display for PreferenceColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("preferences, of which `chosen` is learnt as the completion and `rejected` is not used")
    }
}

impl RowFormat for PreferenceColumns {
    fn required(&self) -> Vec<&str> {
        vec!["chosen", "rejected"]
    }

    fn optional(&self) -> Vec<&str> {
        ["prompt"].into_iter().chain(CONTEXT_COLUMNS).collect()
    }

    fn row(&self, take: &mut dyn FnMut(&str) -> Value) -> Result<Row, String> {
        let mut turn = |column: &str| match take(column) {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(Turn::Text(text))),
            list @ Value::Array(_) => Messages::read(list, column).map(|read| Some(Turn::Messages(read.list))),
            other => Err(format!("column `{column}` holds {}, not a text or messages", kind(&other))),
        };
        let (prompt, chosen, rejected) = (turn("prompt")?, turn("chosen")?, turn("rejected")?);
        let context = context(take)?;
        let (prompt, completion) = match (prompt, chosen, rejected) {
            (_, None, _) => return Err("has nothing in column `chosen`".to_owned()),
            (Some(Turn::Messages(prompt)), Some(Turn::Messages(mut chosen)), _) => {
                // Some files repeat the prompt.
                if chosen.starts_with(&prompt) {
                    chosen.drain(..prompt.len());
                }
                (Turn::Messages(prompt), Turn::Messages(chosen))
            }
            (Some(prompt @ Turn::Text(_)), Some(chosen @ Turn::Text(_)), _) => (prompt, chosen),
            (_, Some(Turn::Messages(chosen)), Some(Turn::Messages(rejected))) => by_message(chosen, &rejected)?,
            (_, Some(Turn::Text(chosen)), Some(Turn::Text(rejected))) => by_character(&chosen, &rejected)?,
            (_, Some(_), None) => return Err("has no `prompt` and nothing in column `rejected`".to_owned()),
            _ => return Err("has text in one of `chosen` and `rejected` and messages in the other".to_owned()),
        };
        Ok(Row::from(PromptCompletion { prompt, completion, context }))
    }
}

const SAME: &str = "has the same in `chosen` and `rejected`, so the prompt cannot be told from the answer; add a column \
                    `prompt`";

fn by_message(mut chosen: Vec<Value>, rejected: &[Value]) -> Result<(Turn, Turn), String> {
    let common = chosen.iter().zip(rejected).take_while(|(a, b)| a == b).count();
    if common == chosen.len() || common == 0 {
        return Err(match common {
            0 => "has no `prompt`, and `chosen` and `rejected` start with different messages".to_owned(),
            _ => SAME.to_owned(),
        });
    }
    let completion = chosen.split_off(common);
    Ok((Turn::Messages(chosen), Turn::Messages(completion)))
}

/// A space at the end of what both have in common belongs to the answer.
fn by_character(chosen: &str, rejected: &str) -> Result<(Turn, Turn), String> {
    let letters = chosen.char_indices().zip(rejected.chars());
    let Some(((at, _), _)) = letters.into_iter().find(|((_, a), b)| a != b) else { return Err(SAME.to_owned()) };
    let (prompt, _) = chosen.split_at(at);
    let prompt = prompt.strip_suffix(' ').unwrap_or(prompt);
    let completion = chosen.get(prompt.len()..).unwrap_or_default();
    Ok((Turn::Text(prompt.to_owned()), Turn::Text(completion.to_owned())))
}
