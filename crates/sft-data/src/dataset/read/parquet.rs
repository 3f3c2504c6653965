//! Parquet, read row by row. Pages are checked before the library takes memory for them, and rows
//! that come to much more than the file, as a dictionary allows, are refused.

mod pages;

use super::{OnRecord, most_bytes};
use crate::{Error, Position, guard};
use pages::Column;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

pub(super) fn columns(path: &Path) -> Result<Vec<String>, Error> {
    guarded(path, || {
        let reader = open(path)?;
        let schema = reader.metadata().file_metadata().schema();
        Ok(schema.get_fields().iter().map(|field| field.name().to_owned()).collect())
    })
}

pub(super) fn read(path: &Path, columns: &[&str], on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    guarded(path, || read_rows(path, columns, on_record))
}

fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    guard::guarded(work).unwrap_or_else(|_| {
        let problem = "cannot be read as Parquet (it is damaged); fetch it again".to_owned();
        Err(Error::BadFile { path: path.to_owned(), problem })
    })
}

fn read_rows(path: &Path, columns: &[&str], on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    let reader = open(path)?;
    let schema = reader.metadata().file_metadata().schema();
    let size = check_pages(path, &reader, columns)?;
    let mut left = most_bytes(size);
    let wanted = schema.get_fields().iter().filter(|field| columns.contains(&field.name())).cloned().collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build();
    let projection = projection.map_err(|error| damaged(path, &error))?;
    let rows = reader.get_row_iter(Some(projection)).map_err(|error| damaged(path, &error))?;
    for (index, row) in rows.enumerate() {
        let at = Position::Row(index as u64 + 1);
        let bad = |problem: String| Error::BadRow { path: path.to_owned(), at, problem };
        let row = row.map_err(|error| bad(error.to_string()))?;
        let record = object(&row).map_err(bad)?;
        let bytes: u64 = record.iter().map(|(name, value)| name.len() as u64 + text_bytes(value)).sum();
        left = left.checked_sub(bytes.max(LEAST_ROW_BYTES)).ok_or_else(|| {
            let problem = format!("row {} is more than a file of {size} bytes may hold; is it damaged?", index + 1);
            Error::BadFile { path: path.to_owned(), problem }
        })?;
        if on_record(at, record)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// What a row takes that holds nothing.
const LEAST_ROW_BYTES: u64 = 32;

fn text_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(text_bytes).sum::<u64>() + LEAST_ROW_BYTES,
        Value::Object(entries) => {
            entries.iter().map(|(name, value)| name.len() as u64 + text_bytes(value)).sum::<u64>() + LEAST_ROW_BYTES
        }
        _ => 8,
    }
}

/// Looks at the headers of all pages to be read; returns the size of the file.
fn check_pages(path: &Path, reader: &SerializedFileReader<File>, columns: &[&str]) -> Result<u64, Error> {
    let failed = |source| Error::io(path, source);
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    for chunk in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let name = chunk.column_path().parts().first();
        if !name.is_some_and(|name| columns.contains(&name.as_str())) {
            continue;
        }
        let (start, length) = chunk.byte_range();
        let num_values = u64::try_from(chunk.num_values()).unwrap_or(0);
        let column = Column { start, length: length.min(size.saturating_sub(start)), num_values };
        pages::check(&file, &column).map_err(|error| {
            let problem =
                format!("cannot be read as Parquet (column {} has {error}); fetch it again", chunk.column_path());
            Error::BadFile { path: path.to_owned(), problem }
        })?;
    }
    Ok(size)
}

fn open(path: &Path) -> Result<Arc<SerializedFileReader<File>>, Error> {
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    SerializedFileReader::new(file).map(Arc::new).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &ParquetError) -> Error {
    Error::BadFile { path: path.to_owned(), problem: format!("cannot be read as Parquet ({error}); fetch it again") }
}

fn object(row: &Row) -> Result<Map<String, Value>, String> {
    row.get_column_iter().map(|(name, field)| Ok((name.clone(), json(field)?))).collect()
}

fn json(field: &Field) -> Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::from(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float16(value) => Value::from(f32::from(*value)),
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        Field::Str(text) => Value::from(text.as_str()),
        // Some writers leave out the mark that a column of bytes is text.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::from(text),
            Err(_) => return Err("a value is bytes, not UTF-8 text".to_owned()),
        },
        Field::Group(row) => Value::Object(object(row)?),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(json).collect::<Result<_, _>>()?),
        Field::MapInternal(map) => {
            let entry = |(key, value): &(Field, Field)| {
                let key = match json(key)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                Ok((key, json(value)?))
            };
            Value::Object(map.entries().iter().map(entry).collect::<Result<_, String>>()?)
        }
        // Dates and decimals are never trained on as they are; a template sees them as text.
        other => Value::from(other.to_string()),
    })
}
