//! Plain text: each line is a row, in the column `text`.

use super::input::{next_line, open, utf8};
use super::options::Options;
use super::progress::Purpose;
use super::{OnRecord, Record};
use crate::{Error, Position};
use serde_json::Value;
use std::path::Path;

pub(super) fn read(
    path: &Path,
    options: &Options,
    purpose: Purpose,
    on_record: &mut OnRecord<'_>,
) -> Result<(), Error> {
    let mut reader = open(path, options.encoding, purpose)?;
    let mut buffer = Vec::new();
    let mut number = 0;
    while let Some(line) = next_line(&mut reader, &mut buffer, path)? {
        // A single carriage return also ends a line, as in Python's text mode.
        for line in line.split(|&byte| byte == b'\r') {
            number += 1;
            let at = Position::Line(number);
            let text = utf8(line, path, at)?;
            let record = Record::from_iter([("text".to_owned(), Value::from(text))]);
            if on_record(at, record)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
