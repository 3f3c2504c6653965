//! Arrow's IPC format, row by row: streams and files, which hold the same messages after a mark.
//! Feather version 2 is such a file.

mod value;

use super::progress::{Progress, Purpose};
use super::{OnRecord, Record};
use crate::untrusted::arrow::{Stated, Values, catch_panics, check, damaged};
use crate::untrusted::regular_file;
use crate::untrusted::row_budget::RowBudget;
use crate::{Error, Position};
use arrow_ipc::reader::StreamReader;
use arrow_schema::ArrowError;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What a file begins and ends with. A stream has no such mark.
const FILE_MARK: &[u8] = b"ARROW1";
/// The mark of a file and what fills it up to 8 bytes.
const FILE_MARK_BYTES: u64 = 8;
const FEATHER_1: &[u8] = b"FEA1";

pub(super) fn columns(path: &Path) -> Result<Vec<String>, Error> {
    catch_panics(path, || {
        let Opened { reader, .. } = open(path, &[])?;
        Ok(reader.schema().fields().iter().map(|field| field.name().clone()).collect())
    })
}

pub(super) fn read(path: &Path, columns: &[&str], purpose: Purpose, on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    catch_panics(path, || read_rows(path, columns, purpose, on_record))
}

fn read_rows(path: &Path, columns: &[&str], purpose: Purpose, on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    let Opened { reader, stated, file_bytes } = open(path, columns)?;
    if !stated.has_end && purpose == Purpose::Rows {
        tracing::warn!("{} does not end with the mark that writers put there; rows may be missing", path.display());
    }
    let mut progress = Progress::of_rows(stated.rows, purpose);
    let mut budget = RowBudget::of_file(path, file_bytes);
    let mut number = 0;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(path, brief(&error)))?;
        let mut values = Values::of_batch(stated.max_values);
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            number += 1;
            let at = Position::Row(number);
            let mut record = Record::new();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                let value = value::value(field, column, row, &mut values).map_err(|problem| Error::BadRow {
                    path: path.to_owned(),
                    at,
                    problem: format!("column `{}`: {problem}", field.name()),
                })?;
                record.insert(field.name().clone(), value);
            }
            budget.spend(number, &record)?;
            progress.advance(1);
            if on_record(at, record)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

struct Opened {
    reader: StreamReader<BufReader<File>>,
    stated: Stated,
    file_bytes: u64,
}

fn open(path: &Path, columns: &[&str]) -> Result<Opened, Error> {
    let failed = |source| Error::io(path, source);
    let bad = |problem: &str| Error::BadFile { path: path.to_owned(), problem: problem.to_owned() };
    let mut file = regular_file::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut start = Vec::new();
    (&mut file).take(64).read_to_end(&mut start).map_err(failed)?;
    if start.starts_with(b"version https://git-lfs") {
        return Err(bad("is a Git LFS pointer, not the file itself; run `git lfs pull`"));
    }
    if start.starts_with(FEATHER_1) {
        return Err(bad("is Feather version 1; write it with version 2, or as Parquet"));
    }
    if start.is_empty() {
        return Err(damaged(path, "it is empty"));
    }
    let first = if start.starts_with(FILE_MARK) { FILE_MARK_BYTES } else { 0 };
    if first > 0 {
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(FILE_MARK.len() as u64))).map_err(failed)?;
        file.read_to_end(&mut end).map_err(failed)?;
        if end != FILE_MARK || length < 2 * FILE_MARK_BYTES {
            return Err(damaged(path, "it is cut off"));
        }
    }
    file.seek(SeekFrom::Start(first)).map_err(failed)?;
    let stated = check(&file, length).map_err(|error| damaged(path, error))?;
    file.seek(SeekFrom::Start(first)).map_err(failed)?;
    let reader = StreamReader::try_new(BufReader::new(file), None).map_err(|error| damaged(path, brief(&error)))?;
    let schema = reader.schema();
    let mut names = HashSet::new();
    if let Some(field) = schema.fields().iter().find(|field| !names.insert(field.name())) {
        return Err(bad(&format!("has two columns `{}`; rename one of them", field.name())));
    }
    if columns.is_empty() {
        return Ok(Opened { reader, stated, file_bytes: length });
    }
    let fields = schema.fields().iter().enumerate();
    let wanted: Vec<usize> =
        fields.filter(|(_, field)| columns.contains(&field.name().as_str())).map(|(index, _)| index).collect();
    let mut file = reader.get_ref().get_ref().try_clone().map_err(failed)?;
    file.seek(SeekFrom::Start(first)).map_err(failed)?;
    let reader =
        StreamReader::try_new(BufReader::new(file), Some(wanted)).map_err(|error| damaged(path, brief(&error)))?;
    Ok(Opened { reader, stated, file_bytes: length })
}

/// The first line of the library's message.
fn brief(error: &ArrowError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
