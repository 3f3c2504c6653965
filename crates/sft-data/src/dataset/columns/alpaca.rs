//! The format of Alpaca: `instruction`, `input` and `output`, with `history` and `system`.

use super::format::{Columns, other};
use super::{RowColumns, RowFormat, from_json_text, kind};
use crate::{Alpaca, Row};
use serde_json::Value;
use std::fmt;

#[derive(Debug)]
pub(super) struct AlpacaColumns;

impl AlpacaColumns {
    pub(super) fn detect(columns: &Columns<'_>) -> Option<RowColumns> {
        (columns.has("instruction") && columns.has("output")).then(|| other(Self))
    }
}

impl fmt::Display for AlpacaColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alpaca rows in columns `instruction`, `input` and `output`")
    }
}

impl RowFormat for AlpacaColumns {
    fn required(&self) -> Vec<&str> {
        vec!["instruction", "output"]
    }

    fn optional(&self) -> Vec<&str> {
        vec!["input", "history", "system"]
    }

    fn row(&self, take: &mut dyn FnMut(&str) -> Value) -> Result<Row, String> {
        let mut text = |column: &str| match take(column) {
            Value::String(text) => Ok(text),
            Value::Null => Ok(String::new()),
            other => Err(format!("column `{column}` holds {}, not a text", kind(&other))),
        };
        let (instruction, input) = (text("instruction")?, text("input")?);
        let (output, system) = (text("output")?, text("system")?);
        let history = history(take("history"))?;
        Ok(Row::from(Alpaca { instruction, input, output, history, system }))
    }
}

fn history(value: Value) -> Result<Vec<[String; 2]>, String> {
    let wrong = |found: &str| {
        format!("column `history` holds {found}; it is a list of pairs such as [[\"instruction\", \"answer\"]]")
    };
    let turns = match from_json_text(value, "history")? {
        Value::Null => return Ok(Vec::new()),
        Value::Array(turns) => turns,
        other => return Err(wrong(kind(&other))),
    };
    let pair = |turn: Value| match turn {
        Value::Array(pair) => match <[Value; 2]>::try_from(pair) {
            Ok([Value::String(instruction), Value::String(answer)]) => Ok([instruction, answer]),
            Ok([a, b]) => Err(wrong(&format!("a pair of {} and {}", kind(&a), kind(&b)))),
            Err(list) => Err(wrong(&format!("a turn of {} parts", list.len()))),
        },
        other => Err(wrong(&format!("{} as a turn", kind(&other)))),
    };
    turns.into_iter().map(pair).collect()
}
