//! Parquet, read row by row.

use super::OnRecord;
use super::progress::{Progress, Purpose};
use crate::untrusted::parquet::{after_page_check, catch_panics};
use crate::untrusted::regular_file;
use crate::{Error, Position};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

pub(super) fn columns(path: &Path) -> Result<Vec<String>, Error> {
    catch_panics(path, || {
        let reader = open(path)?;
        let schema = reader.metadata().file_metadata().schema();
        Ok(schema.get_fields().iter().map(|field| field.name().to_owned()).collect())
    })
}

pub(super) fn read(path: &Path, columns: &[&str], purpose: Purpose, on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    catch_panics(path, || read_rows(path, columns, purpose, on_record))
}

fn read_rows(path: &Path, columns: &[&str], purpose: Purpose, on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    let reader = open(path)?;
    let num_rows = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
    let mut progress = Progress::of_rows(num_rows, purpose);
    let mut budget = after_page_check(path, &reader, columns)?;
    let schema = reader.metadata().file_metadata().schema();
    let wanted = schema.get_fields().iter().filter(|field| columns.contains(&field.name())).cloned().collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build();
    let projection = projection.map_err(|error| damaged(path, &error))?;
    let rows = reader.get_row_iter(Some(projection)).map_err(|error| damaged(path, &error))?;
    for (number, row) in (1..).zip(rows) {
        let at = Position::Row(number);
        let bad = |problem: String| Error::BadRow { path: path.to_owned(), at, problem };
        let row = row.map_err(|error| bad(error.to_string()))?;
        let record = object(&row).map_err(bad)?;
        budget.spend(number, &record)?;
        progress.advance(1);
        if on_record(at, record)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<Arc<SerializedFileReader<File>>, Error> {
    let file = regular_file::open(path).map_err(|source| Error::io(path, source))?;
    let reader = SerializedFileReader::new(file).map(Arc::new).map_err(|error| damaged(path, &error))?;
    let fields = reader.metadata().file_metadata().schema().get_fields();
    let mut names = HashSet::new();
    match fields.iter().find(|field| !names.insert(field.name())) {
        Some(field) => {
            let problem = format!("has two columns `{}`; rename one of them", field.name());
            Err(Error::BadFile { path: path.to_owned(), problem })
        }
        None => Ok(reader),
    }
}

fn damaged(path: &Path, error: &ParquetError) -> Error {
    Error::BadFile { path: path.to_owned(), problem: format!("cannot be read as Parquet ({error}); fetch it again") }
}

fn object(row: &Row) -> Result<Map<String, Value>, String> {
    let value = |field, name| json(field).map_err(|problem| format!("column `{name}`: {problem}"));
    row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(field, name)?))).collect()
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
        // Some writers do not mark a column of bytes as text.
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
        // Only a chat template can use dates and decimals, and it gets them as text.
        other => Value::from(other.to_string()),
    })
}
