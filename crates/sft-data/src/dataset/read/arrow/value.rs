//! One value of a column, as JSON.

use crate::untrusted::arrow::Values;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field};
use serde_json::{Map, Value};

/// The extension type of texts that hold JSON. `datasets` reads them as what they hold.
const JSON: &str = "arrow.json";

/// The value in a row of a column. The error says what cannot be used.
pub(super) fn value(field: &Field, column: &ArrayRef, row: usize, values: &mut Values) -> Result<Value, String> {
    values.spend(1)?;
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($kind:ty) => {
            column.as_primitive_opt::<$kind>().map(|numbers| Value::from(numbers.value(row)))
        };
    }
    let found = match field.data_type() {
        DataType::Null => Some(Value::Null),
        DataType::Boolean => column.as_boolean_opt().map(|values| Value::from(values.value(row))),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => {
            column.as_primitive_opt::<Float16Type>().map(|numbers| Value::from(numbers.value(row).to_f32()))
        }
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::Utf8 => column.as_string_opt::<i32>().map(|texts| text(field, texts.value(row))).transpose()?,
        DataType::LargeUtf8 => column.as_string_opt::<i64>().map(|texts| text(field, texts.value(row))).transpose()?,
        DataType::Utf8View => column.as_string_view_opt().map(|texts| text(field, texts.value(row))).transpose()?,
        DataType::Binary => column.as_binary_opt::<i32>().map(|values| bytes(values.value(row))).transpose()?,
        DataType::LargeBinary => column.as_binary_opt::<i64>().map(|values| bytes(values.value(row))).transpose()?,
        DataType::BinaryView => column.as_binary_view_opt().map(|values| bytes(values.value(row))).transpose()?,
        DataType::List(item) => {
            column.as_list_opt::<i32>().map(|lists| list(item, &lists.value(row), values)).transpose()?
        }
        DataType::LargeList(item) => {
            column.as_list_opt::<i64>().map(|lists| list(item, &lists.value(row), values)).transpose()?
        }
        DataType::FixedSizeList(item, _) => {
            column.as_fixed_size_list_opt().map(|lists| list(item, &lists.value(row), values)).transpose()?
        }
        DataType::Struct(_) => {
            column.as_struct_opt().map(|structs| object(structs, row, values).map(Value::Object)).transpose()?
        }
        DataType::Map(_, _) => column.as_map_opt().map(|maps| map(&maps.value(row), values)).transpose()?,
        DataType::Dictionary(_, of) => match column.as_any_dictionary_opt() {
            Some(dictionary) => {
                let index = key(dictionary.keys(), row).filter(|index| *index < dictionary.values().len());
                let index = index.ok_or("a key is not in its dictionary; is the file damaged?")?;
                let field = Field::new(field.name(), DataType::clone(of), true);
                Some(value(&field, dictionary.values(), index, values)?)
            }
            None => None,
        },
        other => return Err(format!("its type is {other}, which is no text; write it as a text")),
    };
    found.ok_or_else(|| "it is not of its type; is the file damaged?".to_owned())
}

/// A key of a dictionary.
fn key(keys: &dyn Array, row: usize) -> Option<usize> {
    macro_rules! key {
        ($kind:ty) => {
            usize::try_from(keys.as_primitive_opt::<$kind>()?.value(row)).ok()
        };
    }
    match keys.data_type() {
        DataType::Int8 => key!(Int8Type),
        DataType::Int16 => key!(Int16Type),
        DataType::Int32 => key!(Int32Type),
        DataType::Int64 => key!(Int64Type),
        DataType::UInt8 => key!(UInt8Type),
        DataType::UInt16 => key!(UInt16Type),
        DataType::UInt32 => key!(UInt32Type),
        DataType::UInt64 => key!(UInt64Type),
        _ => None,
    }
}

fn text(field: &Field, text: &str) -> Result<Value, String> {
    if field.metadata().get(EXTENSION_TYPE_NAME_KEY).is_some_and(|name| name == JSON) {
        return serde_json::from_str(text).map_err(|error| format!("a value is declared as JSON and is not: {error}"));
    }
    Ok(Value::from(text))
}

/// Some writers do not mark a column of bytes as text.
fn bytes(bytes: &[u8]) -> Result<Value, String> {
    std::str::from_utf8(bytes).map(Value::from).map_err(|_| "a value is bytes, not UTF-8 text".to_owned())
}

fn list(item: &Field, items: &ArrayRef, values: &mut Values) -> Result<Value, String> {
    (0..items.len()).map(|row| value(item, items, row, values)).collect::<Result<_, _>>().map(Value::Array)
}

fn object(structs: &StructArray, row: usize, values: &mut Values) -> Result<Map<String, Value>, String> {
    let fields = structs.fields().iter().zip(structs.columns());
    fields.map(|(field, column)| Ok((field.name().clone(), value(field, column, row, values)?))).collect()
}

/// The entries of a map, whose structs hold keys and values.
fn map(entries: &StructArray, values: &mut Values) -> Result<Value, String> {
    let (Some(key_field), Some(value_field)) = (entries.fields().first(), entries.fields().get(1)) else {
        return Err("a map has no keys and values; is the file damaged?".to_owned());
    };
    let entry = |row| {
        let key = match value(key_field, entries.column(0), row, values)? {
            Value::String(key) => key,
            other => other.to_string(),
        };
        Ok((key, value(value_field, entries.column(1), row, values)?))
    };
    (0..entries.len()).map(entry).collect::<Result<_, String>>().map(Value::Object)
}
