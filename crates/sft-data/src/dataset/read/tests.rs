use super::*;
use crate::testing::{golden, golden_path, message};
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use serde_json::json;
use std::fs;
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

fn read(path: &Path, format: Format, columns: &[&str], on_record: &mut OnRecord<'_>) -> Result<(), Error> {
    Reader::new(format).read(path, columns, on_record)
}

fn columns(path: &Path, format: Format) -> Result<Vec<String>, Error> {
    Reader::new(format).columns(path)
}

fn all(path: &Path) -> Result<Vec<(Position, Record)>, Error> {
    let format = Format::of(&path.to_string_lossy()).unwrap();
    let columns = columns(path, format)?;
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut records = Vec::new();
    read(path, format, &columns, &mut |at, record| {
        records.push((at, record));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(records)
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The column `text` of a file with this content.
    fn texts(&self, name: &str, content: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
        let records = all(&self.file(name, content)).map_err(|error| message(&error))?;
        Ok(records.into_iter().map(|(_, record)| record["text"].as_str().unwrap_or("(none)").to_owned()).collect())
    }

    /// The error of reading the file, without the folder.
    fn error(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let error = self.texts(name, content).unwrap_err();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn values_equal_those_of_datasets() {
    for case in golden("files.json").as_array().unwrap() {
        let path = golden_path("files").join(case["file"].as_str().unwrap());
        let column = case["column"].as_str().unwrap();
        let found: Vec<Value> = all(&path).unwrap().into_iter().map(|(_, mut record)| record[column].take()).collect();
        assert_eq!(Value::Array(found), case["values"], "{}", path.display());
    }
}

#[test]
fn rows_are_read_from_json_in_every_arrangement() {
    let folder = Folder::new();
    let two = ["a", "b"];
    for (name, content) in [
        ("lines.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}"),
        ("blank_lines.jsonl", "\n{\"text\":\"a\"}\n\n  \n{\"text\":\"b\"}\n\n"),
        ("array.jsonl", "[{\"text\":\"a\"},\n{\"text\":\"b\"}]"),
        ("spaced.json", "\n\n  [ {\"text\":\"a\"}, {\"text\":\"b\"} ]\n"),
        ("data.json", "{\"version\": \"1\", \"data\": [{\"text\":\"a\"},{\"text\":\"b\"}]}"),
        ("pretty_data.json", "{\n \"data\": [\n {\"text\":\"a\"},\n {\"text\":\"b\"}\n ]\n}\n"),
        ("pretty.json", "{\n \"text\": \"a\"\n}\n{\n \"text\": \"b\"\n}\n"),
        ("texts.json", "[\"a\", \"b\"]"),
        ("bom.json", "\u{feff}{\"text\":\"a\"}\n{\"text\":\"b\"}"),
    ] {
        assert_eq!(folder.texts(name, content).unwrap(), two, "{name}");
    }
    assert_eq!(folder.texts("one.jsonl", "{\"text\":\"a\", \"data\": [1]}").unwrap(), ["a"]);
    assert_eq!(folder.texts("one_pretty.json", "{\n\"text\":\"a\"}").unwrap(), ["a"]);
    assert!(folder.texts("empty.jsonl", "").unwrap().is_empty());
    assert!(folder.texts("blank.json", " \n\n").unwrap().is_empty());
    assert!(folder.texts("empty_array.json", "[]").unwrap().is_empty());
}

#[test]
fn bad_json_is_located() {
    let folder = Folder::new();
    for (name, content, expected) in [
        ("a.jsonl", "{\"text\":\"a\"}\n{\"text\": a}\n", "a.jsonl, line 2: bad JSON in column 10: expected value"),
        (
            "b.jsonl",
            "{\"text\":\"a\"}\n\n{\"text\":",
            "b.jsonl, line 3: bad JSON in column 8: EOF while parsing a value; is the file cut off?",
        ),
        ("c.json", "[{\"text\":\"a\"},\n{\"text\":}]", "c.json, line 2: bad JSON in column 9: expected value"),
        ("d.json", "\n{\n\"text\": \"a\",\n}", "d.json, line 4: bad JSON in column 1: trailing comma"),
        ("e.jsonl", "{\"text\":\"a\"}\n[1]\n", "e.jsonl, line 2: a list where an object with columns is expected"),
        ("f.json", "[1]", "f.json, row 1: a number where an object with columns is expected"),
        ("g.jsonl", "{\"text\":\"\\ud800\"}\n", "g.jsonl, line 1: bad JSON in column 16: unexpected end of hex escape"),
        ("h.jsonl", "{'text': 'a'}\n", "h.jsonl, line 1: bad JSON in column 2: key must be a string"),
    ] {
        assert_eq!(folder.error(name, content), expected);
    }
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert!(folder.error("deep.jsonl", format!("{{\"text\": {deep}}}")).contains("recursion limit"));
}

#[test]
fn bad_utf8_is_located() {
    let folder = Folder::new();
    let expected = "line 2: not UTF-8 from byte 3 on; convert the file to UTF-8";
    assert_eq!(folder.error("a.txt", b"ok\nab\xff\xfe\n"), format!("a.txt, {expected}"));
    assert_eq!(
        folder.error("a.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}"),
        "a.jsonl, line 2: not UTF-8 from byte 10 on; convert the file to UTF-8"
    );
    assert_eq!(folder.error("a.csv", b"text,b\nab\xff,1\n"), format!("a.csv, {expected}"));
    assert_eq!(folder.error("a.json", b"[\"a\",\n\"\xff\"]"), "a.json, line 2: not UTF-8; convert the file to UTF-8");
}

#[test]
fn csv_and_tsv_files_are_read() {
    let folder = Folder::new();
    assert_eq!(
        folder.texts("a.csv", "id,text\r\n1,\"a, \"\"b\"\"\nc\"\r\n2,\r\n3\r\n").unwrap(),
        ["a, \"b\"\nc", "(none)", "(none)"].map(str::to_owned).to_vec()
    );
    assert_eq!(folder.texts("b.tsv", "text\tid\na,b\t1\n\nc\t2\n").unwrap(), ["a,b", "c"]);
    assert_eq!(folder.texts("c.csv", "\u{feff}text\nNA\nnull\n").unwrap(), ["(none)", "(none)"]);
    assert_eq!(folder.error("d.csv", "id,text\n1,a\n2,b,c\n"), "d.csv, line 3: 3 fields, but the header has 2");
    let open = "id,text\n1,a\n2,\"b\n3,c\n4,d\n";
    assert!(folder.error("e.csv", open).starts_with("e.csv, line 3: a quote is opened here and never closed"));
    assert!(folder.error("o.csv", "text,id\na,1\n\",").starts_with("o.csv, line 3: a quote is opened here"));
    assert!(folder.error("p.csv", "\"text\n").starts_with("p.csv, line 1: a quote is opened here"));
    assert_eq!(folder.texts("q.csv", "text,id\n\"a\nb\"c").unwrap(), ["a\nbc"]);
    assert_eq!(folder.texts("f.csv", "id,text\n1,\"a\nb\"\n\n").unwrap(), ["a\nb"]);
    assert_eq!(folder.texts("g.csv", "text,id\n\"a\nb\",5\" pipe\n").unwrap(), ["a\nb"]);
    assert!(folder.texts("empty.csv", "").unwrap().is_empty());
    assert!(folder.texts("header.csv", "text\n").unwrap().is_empty());
}

#[test]
fn lines_end_as_in_python() {
    let folder = Folder::new();
    assert_eq!(folder.texts("a.txt", "a\r\nb\rc\n\nd").unwrap(), ["a", "b", "c", "", "d"]);
    assert!(folder.texts("empty.txt", "").unwrap().is_empty());
    assert_eq!(folder.texts("end.txt", "\n").unwrap(), [""]);
}

#[test]
fn compressed_files_are_read_and_damage_is_reported() {
    let folder = Folder::new();
    let content = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n".repeat(5000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(content.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstandard = zstd::encode_all(content.as_bytes(), 1).unwrap();
    assert_eq!(folder.texts("a.jsonl.gz", &gzip).unwrap().len(), 10_000);
    assert_eq!(folder.texts("a.jsonl.zst", &zstandard).unwrap().len(), 10_000);
    // The first bytes decide, not the name.
    assert_eq!(folder.texts("b.jsonl", &gzip).unwrap().len(), 10_000);
    for (name, bytes) in [("cut.jsonl.gz", &gzip), ("cut.jsonl.zst", &zstandard)] {
        let error = folder.error(name, &bytes[..bytes.len() / 2]);
        assert!(error.starts_with(&format!("{name}: compressed data is damaged or cut off")), "{error}");
    }
    assert!(folder.error("lfs.jsonl", "version https://git-lfs.github.com/spec/v1\noid x\n").contains("git lfs pull"));
}

#[test]
fn damaged_parquet_is_an_error_and_never_a_panic() {
    let folder = Folder::new();
    for name in ["rows_zstd.parquet", "rows_none.parquet", "chats.parquet"] {
        let whole = fs::read(golden_path("files").join(name)).unwrap();
        for length in (0..whole.len()).step_by(7) {
            let error = folder.error("cut.parquet", &whole[..length]);
            assert!(error.starts_with("cut.parquet"), "{error}");
        }
        let mut random = crate::testing::Random(5);
        for _ in 0..300 {
            let mut damaged = whole.clone();
            for _ in 0..1 + random.below(4) {
                let position = random.below(damaged.len());
                damaged[position] = random.below(256) as u8;
            }
            let path = folder.file("damaged.parquet", damaged);
            let _ = all(&path);
        }
    }
    assert!(folder.error("text.parquet", "{\"text\": \"a\"}").contains("cannot be read as Parquet"));
}

/// With dictionary encoding, the file holds the value once.
#[test]
fn a_small_parquet_file_cannot_repeat_a_value_without_end() {
    let folder = Folder::new();
    let path = folder.file("repeated.parquet", "");
    let schema = Arc::new(parse_message_type("message rows { required binary text (UTF8); }").unwrap());
    let mut writer = SerializedFileWriter::new(fs::File::create(&path).unwrap(), schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values = vec![ByteArray::from("a".repeat(1 << 19).as_str()); 3300];
    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 2 << 20);
    let error = read(&path, Format::Parquet, &["text"], &mut |_, _| Ok(ControlFlow::Continue(()))).unwrap_err();
    assert!(message(&error).contains("is more than a file of"), "{error}");
}

#[test]
fn reading_stops_when_the_callback_says_so() {
    for name in ["rows.jsonl", "array.json", "rows.csv", "lines.txt", "rows_snappy.parquet"] {
        let path = golden_path("files").join(name);
        let mut count = 0;
        read(&path, Format::of(name).unwrap(), &["text"], &mut |_, record| {
            assert!(record.contains_key("text"));
            count += 1;
            Ok(if count < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .unwrap();
        assert_eq!(count, 2, "{name}");
    }
}

#[test]
fn columns_of_json_are_those_of_all_first_records() {
    let folder = Folder::new();
    let path = folder.file("a.jsonl", "{\"b\":1}\n{\"a\":1,\"b\":2}\n");
    assert_eq!(columns(&path, Format::Json).unwrap(), ["b", "a"]);
    let path = golden_path("files/chats.parquet");
    assert_eq!(columns(&path, Format::Parquet).unwrap(), ["messages", "score"]);
    // Only the requested columns of a Parquet file are read.
    read(&path, Format::Parquet, &["score", "nope"], &mut |_, record| {
        assert_eq!(json!(record), json!({"score": record["score"]}));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
}

#[test]
fn a_number_that_is_not_finite_is_an_error_in_a_used_column_only() {
    let folder = Folder::new();
    let path = folder.file("a.jsonl", "{\"text\":\"a\",\"score\":1}\n{\"text\":\"b\",\"score\":[{\"x\":-Infinity}]}\n");
    let read_columns = |columns: &[&str]| {
        let mut texts = Vec::new();
        read(&path, Format::Json, columns, &mut |_, record| {
            texts.push(record["text"].clone());
            Ok(ControlFlow::Continue(()))
        })
        .map(|()| texts)
        .map_err(|error| message(&error))
    };
    assert_eq!(read_columns(&["text"]).unwrap(), ["a", "b"]);
    let error = read_columns(&["text", "score"]).unwrap_err();
    assert!(error.ends_with("a.jsonl, line 2: column `score` holds NaN or Infinity; replace it by null or a text"));
    let path = folder.file("a.json", "[{\"text\":\"a\"},\n{\"text\":NaN}]");
    let error = read(&path, Format::Json, &["text"], &mut |_, _| Ok(ControlFlow::Continue(()))).unwrap_err();
    assert!(
        message(&error).ends_with("a.json, row 2: column `text` holds NaN or Infinity; replace it by null or a text")
    );
}

#[test]
fn a_column_that_is_there_twice_is_named() {
    let folder = Folder::new();
    let twice = "{\"text\":\"a\"}\n{\"id\":1,\"id\":2,\"text\":\"b\"}\n";
    let expected = "line 2: bad JSON in column 12: the column `id` is there twice";
    assert_eq!(folder.error("a.jsonl", twice), format!("a.jsonl, {expected}"));
    assert!(folder.error("b.json", "[{\"text\":\"a\",\"text\":\"b\"}]").ends_with("the column `text` is there twice"));
    // Python keeps the last value of a key inside a value.
    assert_eq!(folder.texts("c.jsonl", "{\"text\":\"a\",\"x\":{\"y\":1,\"y\":2}}").unwrap(), ["a"]);
    let error = all(&golden_path("readers/twice.parquet")).unwrap_err();
    assert!(message(&error).ends_with("twice.parquet: has two columns `text`; rename one of them"));
}

#[test]
fn other_encodings_are_read_or_refused() {
    let folder = Folder::new();
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let lines = "\u{feff}{\"text\":\"中文 🙂\"}\r\n{\"text\":\"b\"}\r\n";
    for (name, bytes) in
        [("little.jsonl", utf16(lines, u16::to_le_bytes)), ("big.jsonl", utf16(lines, u16::to_be_bytes))]
    {
        assert_eq!(folder.texts(name, &bytes).unwrap(), ["中文 🙂", "b"], "{name}");
        let error = folder.error(name, &bytes[..bytes.len() - 1]);
        assert!(error.contains("is not valid UTF-16; is it damaged or cut off?"), "{error}");
        let error = folder.error(name, &bytes[2..]);
        assert!(error.ends_with("seems to be UTF-16 without a byte order mark; convert it to UTF-8"), "{error}");
    }
    let little = utf16(lines, u16::to_le_bytes);
    assert_eq!(
        folder.texts("packed.jsonl", zstd::encode_all(little.as_slice(), 1).unwrap()).unwrap(),
        ["中文 🙂", "b"]
    );
    for start in [&b"\xff\xfe\0\0{\0\0\0"[..], &b"\0\0\xfe\xff\0\0\0{"[..]] {
        assert_eq!(folder.error("a.jsonl", start), "a.jsonl: is UTF-32; convert it to UTF-8");
    }
}

#[test]
fn a_line_without_end_is_refused() {
    let folder = Folder::new();
    // A few kilobytes that hold one long line or record.
    let long = |start: &str| {
        let content = Read::chain(start.as_bytes(), std::io::repeat(b'a').take(300 << 20));
        let mut packed = Vec::new();
        zstd::stream::copy_encode(content, &mut packed, 1).unwrap();
        packed
    };
    for (name, start) in [("a.txt", ""), ("a.jsonl", "{\"text\":\""), ("a.json", "[\""), ("a.csv", "text\n\"")] {
        let error = folder.error(name, long(start));
        assert!(error.ends_with(": has a line or a record of more than 256 MiB; is it damaged? Split it"), "{error}");
    }
}

#[test]
fn a_row_of_very_many_values_is_refused() {
    let folder = Folder::new();
    let content = format!("{{\"text\":\"a\",\"x\":[{}0]}}", "0,".repeat(8_000_000));
    assert!(folder.error("a.jsonl", &content).ends_with("a row of more than 8000000 values"));
    assert!(folder.error("a.json", format!("[{content}]")).ends_with("a row of more than 8000000 values"));
}

#[test]
fn progress_is_told_of_reading_and_not_of_a_sample() {
    let folder = Folder::new();
    let path = folder.file("a.jsonl", format!("{{\"text\":\"{}\"}}\n", "a".repeat(1000)).repeat(9000));
    let size = fs::metadata(&path).unwrap().len();
    let mut ignore = |_, _| Ok(ControlFlow::Continue(()));
    let told = crate::testing::progress_of(|| Reader::new(Format::Json).read(&path, &[], &mut ignore).unwrap());
    assert!(told.len() == 3 && told.iter().all(|(_, total)| *total == size), "{told:?}");
    assert_eq!(told.last(), Some(&(size, size)));
    let path = golden_path("files/rows_zstd.parquet");
    let told =
        crate::testing::progress_of(|| Reader::new(Format::Parquet).read(&path, &["text"], &mut ignore).unwrap());
    assert_eq!(told, [(5, 5)]);
    let told = crate::testing::progress_of(|| Reader::new(Format::Parquet).sample(&path, &[], &mut ignore).unwrap());
    assert!(told.is_empty());
}

#[test]
fn the_delimiter_is_recognised_from_the_header() {
    let folder = Folder::new();
    let fits = |columns: &[String]| columns.iter().any(|column| column == "text");
    for (name, content, expected) in [
        ("a.csv", "text;label\nhello world;1\nsecond;2\n", ["hello world", "second"]),
        ("b.csv", "id\ttext\n1\tx,y\n2\tz\n", ["x,y", "z"]),
        ("c.csv", "id|text\n1|x;y\n2|z\n", ["x;y", "z"]),
        ("d.tsv", "id,text\n1,x\n2,z\n", ["x", "z"]),
        ("e.csv", "text,a;text\nx,1\ny,2\n", ["x", "y"]),
    ] {
        let path = folder.file(name, content);
        let mut reader = Reader::new(Format::of(name).unwrap());
        reader.recognise_delimiter(&path, &fits).unwrap();
        let mut texts = Vec::new();
        reader
            .read(&path, &["text"], &mut |_, mut record| {
                texts.push(record["text"].take());
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        assert_eq!(texts, expected, "{name}");
    }
    // What the card declares holds, and where nothing fits, nothing changes.
    let path = folder.file("f.csv", "text;label\na;b\n");
    let mut declared = Reader::declared(Format::Csv, json!({"sep": ","}).as_object().unwrap()).unwrap();
    declared.recognise_delimiter(&path, &fits).unwrap();
    assert_eq!(declared.columns(&path).unwrap(), ["text;label"]);
    let mut reader = Reader::new(Format::Csv);
    reader.recognise_delimiter(&path, &|_| false).unwrap();
    assert_eq!(reader, Reader::new(Format::Csv));
}
