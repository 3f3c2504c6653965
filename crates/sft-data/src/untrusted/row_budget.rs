//! A limit on what the rows of a file hold together.
//!
//! With a dictionary, a small file can repeat a large value in every row.

use super::content_size::{HumanBytes, max_content_bytes};
use crate::Error;
use serde_json::{Map, Value};
use std::path::Path;

/// Size that is counted for a row, a list or an object in addition to what it holds.
const OVERHEAD_BYTES: u64 = 32;
/// Size that is counted for a number or a missing value.
const SCALAR_BYTES: u64 = 8;

/// How much the rows of a file may still hold.
pub(crate) struct RowBudget<'a> {
    path: &'a Path,
    file_bytes: u64,
    bytes_left: u64,
}

impl<'a> RowBudget<'a> {
    /// What the rows of a file of this size may hold.
    pub(crate) fn of_file(path: &'a Path, file_bytes: u64) -> Self {
        Self { path, file_bytes, bytes_left: max_content_bytes(file_bytes) }
    }

    /// Subtracts the size of a row. `row` is its number, counted from 1.
    pub(crate) fn spend(&mut self, row: u64, record: &Map<String, Value>) -> Result<(), Error> {
        let bytes = entries_bytes(record).max(OVERHEAD_BYTES);
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(|| {
            let problem =
                format!("row {row} is more than a file of {} may hold; is it damaged?", HumanBytes(self.file_bytes));
            Error::BadFile { path: self.path.to_owned(), problem }
        })?;
        Ok(())
    }
}

fn entries_bytes(entries: &Map<String, Value>) -> u64 {
    entries.iter().map(|(name, value)| name.len() as u64 + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(value_bytes).sum::<u64>() + OVERHEAD_BYTES,
        Value::Object(entries) => entries_bytes(entries) + OVERHEAD_BYTES,
        _ => SCALAR_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_cannot_repeat_a_large_value_without_end() {
        let row = json!({"text": "a".repeat(1 << 20), "list": [1, {"a": null}]});
        let mut budget =
            RowBudget { path: Path::new("f"), file_bytes: 1 << 20, bytes_left: max_content_bytes(1 << 20) };
        let rows = (1..).take_while(|&number| budget.spend(number, row.as_object().unwrap()).is_ok()).count();
        assert!((1900..=2056).contains(&rows), "{rows}");
        let error = budget.spend(9, row.as_object().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "f: row 9 is more than a file of 1 MiB may hold; is it damaged?");
    }

    #[test]
    fn rows_without_content_are_counted_too() {
        let mut budget = RowBudget { path: Path::new("f"), file_bytes: 0, bytes_left: 3 * OVERHEAD_BYTES };
        assert_eq!((1..).take_while(|&number| budget.spend(number, &Map::new()).is_ok()).count(), 3);
    }
}
