use super::*;
use crate::Error;
use crate::dataset::read::Reader;
use crate::testing::{golden, golden_path};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;

fn declared(format: Format, options: Value) -> Result<Options, String> {
    Options::declared(format, options.as_object().unwrap())
}

#[test]
fn odd_files_and_options_are_read_as_datasets_reads_them() {
    for case in golden("readers.json").as_array().unwrap() {
        let path = golden_path("readers").join(case["file"].as_str().unwrap());
        let format = Format::of(case["file"].as_str().unwrap()).unwrap();
        let reader = Reader::declared(format, case["options"].as_object().unwrap()).unwrap();
        let found = all(&reader, &path);
        match case.get("error") {
            Some(_) => assert!(found.is_err(), "{case}"),
            None => {
                let (columns, rows) = found.unwrap();
                assert_eq!(json!(columns), case["columns"], "{case}");
                assert_eq!(json!(rows), case["rows"], "{case}");
            }
        }
    }
}

/// The columns of a file, and the values of each row in their order.
fn all(reader: &Reader, path: &Path) -> Result<(Vec<String>, Vec<Vec<Value>>), Error> {
    let columns = reader.columns(path)?;
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut rows = Vec::new();
    // Numbers that are not finite are missing values in a sample.
    reader.sample(path, &names, &mut |_, record| {
        rows.push(names.iter().map(|name| record.get(*name).cloned().unwrap_or_default()).collect());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((columns, rows))
}

#[test]
fn an_option_that_would_change_the_rows_is_refused() {
    for (format, options, expected) in [
        (Format::Csv, json!({"sep": "||"}), "`sep` is \"||\", which is not supported here; supported is a single"),
        (Format::Csv, json!({"header": 1}), "`header` is 1"),
        (Format::Csv, json!({"comment": "#"}), "`comment` is \"#\", which is not supported here; supported is null"),
        (Format::Csv, json!({"encoding": "latin-1"}), "`encoding` is \"latin-1\""),
        (Format::Csv, json!({"names": ["a", "b", "a"]}), "`names` has \"a\" twice"),
        (Format::Csv, json!({"skiprows": [0, 2]}), "`skiprows` is [0,2]"),
        (Format::Csv, json!({"na_values": {"a": "x"}}), "`na_values`"),
        (Format::Tsv, json!({"quoting": 2}), "`quoting` is 2"),
        (Format::Json, json!({"field": 3}), "`field` is 3"),
        (Format::Text, json!({"sample_by": "paragraph"}), "`sample_by` is \"paragraph\""),
        (Format::Text, json!({"features": [{"name": "line", "dtype": "string"}]}), "`features`"),
        (Format::Parquet, json!({"columns": ["text"]}), "`columns` is [\"text\"]"),
    ] {
        let error = declared(format, options).unwrap_err();
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn defaults_and_options_without_effect_are_accepted() {
    for (format, options) in [
        (
            Format::Csv,
            json!({"sep": ",", "header": "infer", "comment": null, "chunksize": 5, "skipfooter": 0, "encoding": "UTF_8"}),
        ),
        (Format::Json, json!({"field": null, "encoding_errors": null, "chunksize": 1, "sep": ";"})),
        (Format::Text, json!({"sample_by": "line", "keep_linebreaks": false})),
        (Format::Parquet, json!({"batch_size": 10, "columns": null, "not_known": 1})),
    ] {
        let mut expected = Options::of(format);
        let found = declared(format, options).unwrap();
        expected.csv.delimiter_is_declared = found.csv.delimiter_is_declared;
        assert_eq!(found, expected);
    }
}
