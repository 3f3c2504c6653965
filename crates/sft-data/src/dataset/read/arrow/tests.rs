use super::*;
use crate::testing::{golden, golden_path, message};
use serde_json::Value;
use std::fs;
use std::ops::ControlFlow;

fn rows(path: &Path) -> Result<Vec<Value>, Error> {
    let columns = columns(path)?;
    let wanted: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut rows = Vec::new();
    read(path, &wanted, Purpose::Rows, &mut |_, record| {
        rows.push(Value::Array(columns.iter().map(|column| record[column].clone()).collect()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

fn error_of(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.arrow");
    fs::write(&path, bytes).unwrap();
    let error = message(&rows(&path).unwrap_err());
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn rows_equal_those_of_datasets() {
    for case in golden("sources.json")["arrow"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let path = golden_path("arrow").join(file);
        assert_eq!(serde_json::to_value(columns(&path).unwrap()).unwrap(), case["columns"], "{file}");
        assert_eq!(Value::Array(rows(&path).unwrap()), case["rows"], "{file}");
    }
    let feather = rows(&golden_path("arrow/rows.feather")).unwrap();
    assert_eq!(feather, rows(&golden_path("arrow/file_lz4.arrow")).unwrap());
}

#[test]
fn only_the_columns_that_are_needed_are_converted() {
    let mut found = Vec::new();
    read(&golden_path("arrow/stream.arrow"), &["text", "none"], Purpose::Rows, &mut |at, record| {
        found.push((at, record.keys().cloned().collect::<Vec<_>>()));
        Ok(if found.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .unwrap();
    let text = || vec!["text".to_owned()];
    assert_eq!(found, [(Position::Row(1), text()), (Position::Row(2), text())]);
}

#[test]
fn damaged_files_say_what_to_do() {
    let bytes = |name: &str| fs::read(golden_path("arrow").join(name)).unwrap();
    let cut = "f.arrow: cannot be read as Arrow (it is cut off); fetch it again";
    for name in ["stream.arrow", "batches.arrow", "file_none.arrow", "file_zstd.arrow"] {
        let whole = bytes(name);
        for length in [1, 7, 9, 100, whole.len() / 2, whole.len() - 9] {
            let error = error_of(&whole[..length]);
            // A file lacks its end, and a stream breaks off inside a message.
            assert!(
                error.starts_with("f.arrow: cannot be read as Arrow (") && error.ends_with("fetch it again"),
                "{error}"
            );
        }
        assert_eq!(error_of(&whole[..whole.len() / 2]), cut, "{name}");
    }
    assert_eq!(error_of(b""), "f.arrow: cannot be read as Arrow (it is empty); fetch it again");
    assert!(error_of(b"FEA1....").starts_with("f.arrow: is Feather version 1; write it with version 2"));
    assert!(error_of(b"version https://git-lfs.github.com/spec/v1\n").contains("run `git lfs pull`"));
}

#[test]
fn types_that_are_no_text_are_refused_by_name() {
    use arrow_array::{Date32Array, RecordBatch};
    use arrow_schema::{DataType, Schema};
    use std::sync::Arc;
    let schema = Arc::new(Schema::new(vec![arrow_schema::Field::new("text", DataType::Date32, true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(Date32Array::from(vec![1]))]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut bytes, &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    assert_eq!(
        error_of(&bytes),
        "f.arrow, row 1: column `text`: its type is Date32, which is no text; write it as a text"
    );
}
