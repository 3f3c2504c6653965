//! Rows of token ids that another program made, with `labels` or masks, as TRL takes them.

use super::format::{Columns, other};
use super::{RowColumns, RowFormat, kind};
use crate::{IGNORE_INDEX, Labels, Row, TokenizedRow};
use serde_json::Value;
use std::fmt;

#[derive(Debug)]
pub(super) struct TokenColumns {
    /// The columns that say what counts, for the summary.
    has: Vec<&'static str>,
    /// A column that shows that a row is several ones.
    is_packed: bool,
}

const COUNTS: [&str; 3] = ["labels", "completion_mask", "assistant_masks"];
const SEGMENTS: &str = "seq_lengths";

impl TokenColumns {
    pub(super) fn detect(columns: &Columns<'_>) -> Option<RowColumns> {
        let has = COUNTS.into_iter().filter(|name| columns.has(name)).collect();
        let is_packed = columns.has(SEGMENTS);
        columns.has("input_ids").then(|| other(Self { has, is_packed }))
    }
}

impl fmt::Display for TokenColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("token ids in column `input_ids`")?;
        self.has.iter().try_for_each(|name| write!(f, ", with `{name}`"))
    }
}

impl RowFormat for TokenColumns {
    fn required(&self) -> Vec<&str> {
        vec!["input_ids"]
    }

    fn optional(&self) -> Vec<&str> {
        COUNTS.into_iter().chain(["attention_mask"]).collect()
    }

    fn row(&self, take: &mut dyn FnMut(&str) -> Value) -> Result<Row, String> {
        if self.is_packed {
            return Err(format!(
                "column `{SEGMENTS}` says that rows are packed, which only this training does; give the rows one by one, \
                 and set `packing`"
            ));
        }
        let input_ids = match take("input_ids") {
            Value::Null => Vec::new(),
            value => list(value, "input_ids")?.iter().map(token_id).collect::<Result<Vec<u32>, _>>()?,
        };
        let mut column = |name: &str| -> Result<Option<Vec<Value>>, String> {
            let values = match take(name) {
                Value::Null => return Ok(None),
                value => list(value, name)?,
            };
            if values.len() == input_ids.len() {
                return Ok(Some(values));
            }
            Err(format!("column `{name}` has {} entries and `input_ids` has {}", values.len(), input_ids.len()))
        };
        let mask = |values: Option<Vec<Value>>, name: &str| -> Result<Option<Vec<bool>>, String> {
            values.map(|values| values.iter().map(|value| is_on(value, name)).collect()).transpose()
        };
        let labels = column("labels")?;
        let labels = labels.map(|labels| counted(&labels, &input_ids)).transpose()?;
        let completion_mask = mask(column("completion_mask")?, "completion_mask")?;
        let assistant_masks = mask(column("assistant_masks")?, "assistant_masks")?;
        let attention_mask = mask(column("attention_mask")?, "attention_mask")?;
        let kept = without_padding(attention_mask, input_ids.len())?;
        let labels_of = |counts: Option<Vec<bool>>| -> Option<Labels> {
            counts.map(|counts| counts.get(kept.clone()).unwrap_or_default().iter().copied().collect())
        };
        Ok(Row::from(TokenizedRow {
            labels: labels_of(labels),
            completion_mask: labels_of(completion_mask),
            assistant_masks: labels_of(assistant_masks),
            input_ids: input_ids.get(kept.clone()).unwrap_or_default().to_vec(),
        }))
    }
}

fn list(value: Value, column: &str) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(format!("column `{column}` holds {}, not a list of numbers", kind(&other))),
    }
}

fn token_id(value: &Value) -> Result<u32, String> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| format!("column `input_ids` holds {value}, which is no token id"))
}

fn is_on(value: &Value, column: &str) -> Result<bool, String> {
    match (value, value.as_u64()) {
        (Value::Bool(is_on), _) => Ok(*is_on),
        (_, Some(0)) => Ok(false),
        (_, Some(1)) => Ok(true),
        _ => Err(format!("column `{column}` holds {value}, not 0 or 1")),
    }
}

/// Which tokens the labels count.
fn counted(labels: &[Value], input_ids: &[u32]) -> Result<Vec<bool>, String> {
    let counts = |(index, (label, &id)): (usize, (&Value, &u32))| match label.as_i64() {
        Some(IGNORE_INDEX) => Ok(false),
        Some(label) if label == i64::from(id) => Ok(true),
        _ => Err(format!(
            "label {} of column `labels` is {label} and its token is {id}; a label is its token or {IGNORE_INDEX}, and is \
             not shifted",
            index + 1
        )),
    };
    labels.iter().zip(input_ids).enumerate().map(counts).collect()
}

/// The tokens that are no padding.
fn without_padding(attention_mask: Option<Vec<bool>>, length: usize) -> Result<std::ops::Range<usize>, String> {
    let Some(mask) = attention_mask else { return Ok(0..length) };
    let start = mask.iter().position(|&is_on| is_on).unwrap_or_default();
    let end = mask.iter().rposition(|&is_on| is_on).map_or(start, |last| last + 1);
    match mask.get(start..end).unwrap_or_default().iter().all(|&is_on| is_on) {
        true => Ok(start..end),
        false => {
            Err("column `attention_mask` has a 0 between two 1s, but only padding at either end can be left out; \
                      remove the column or those tokens"
                .to_owned())
        }
    }
}
