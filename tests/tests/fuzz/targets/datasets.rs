//! Rows, and the card of a dataset.

use super::*;

/// Reads a dataset and encodes it.
fn read_dataset(name: &Path) {
    let config = DatasetConfig {
        dataset_name: name.to_string_lossy().into_owned(),
        test_size: Some(0.2),
        ..DatasetConfig::default()
    };
    let Ok(splits) = sft_data::load_splits(&config, &LocalFiles) else { return };
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sft-data/tests/goldens/tokenizers/qwen");
    let tokenizer = ChatTokenizer::from_dir(&tokenizer).unwrap();
    let packed = PrepareConfig {
        packing: true,
        packing_strategy: PackingStrategy::BestFitDecreasingSplit,
        max_length: Some(16),
        ..PrepareConfig::default()
    };
    let assistant = PrepareConfig { assistant_only_loss: true, ..PrepareConfig::default() };
    for config in [PrepareConfig::default(), packed, assistant] {
        let _ = sft_data::prepare(&splits.train, &tokenizer, &config);
    }
}

/// Dropped tokenizers leave no cached words behind.
#[test]
fn rows_put_into_tokens_leave_nothing() {
    let _turn = crate::one_at_a_time();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sft-data/tests/goldens/tokenizers/qwen");
    // Letters, because each digit is a word and there are only ten of them.
    let letter = |number: usize| char::from(b'a' + (number % 26) as u8);
    let text: String =
        (0..600).flat_map(|number| [' ', letter(number), letter(number / 26), letter(number / 3)]).collect();
    let rows = vec![Row::Text(text); 8];
    let prepare = || {
        let tokenizer = ChatTokenizer::from_dir(&dir).unwrap();
        sft_data::prepare(&rows, &tokenizer, &PrepareConfig::default()).unwrap();
        crate::MEMORY.current_usage()
    };
    // The minimum of several, because threads that are about to end still hold memory for a moment.
    let fewest = || (0..20).map(|_| prepare()).min().unwrap();
    let before = fewest();
    let kept = fewest().saturating_sub(before);
    assert!(kept < 20 * 5000, "{kept} bytes are left of 20 times");
}

fn compressed(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

#[test]
fn dataset_text() {
    let file = |name: &str| data_golden(&format!("files/{name}"));
    let chats =
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": "[]"}"#;
    let turns = r#"[{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}],
        "chat_template_kwargs": {"thinking": true}}, {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]"#;
    let gzip = compressed(|bytes| {
        flate2::write::GzEncoder::new(bytes, flate2::Compression::best()).write_all(&file("rows.jsonl")).unwrap()
    });
    let target = Target {
        seeds: vec![
            seed(
                "rows.jsonl",
                file("rows.jsonl"),
                Content::Text(&["[", "]", "{", "}", "\"", "\n", "null", "1e9", "\\u", ":"]),
            ),
            seed("chats.json", format!("[{chats}, {chats}, {chats}]").into_bytes(), Content::Json),
            seed("array.json", file("array.json"), Content::Json),
            seed(
                "prompts.json",
                br#"[{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d e"}]"#.to_vec(),
                Content::Json,
            ),
            seed("turns.json", turns.as_bytes().to_vec(), Content::Json),
            seed("rows.csv", file("rows.csv"), Content::Text(&["\"", ",", "\n", "\r", "\"\"", "text"])),
            seed("rows.tsv", file("rows.tsv"), Content::Bytes),
            seed("lines.txt", file("lines.txt"), Content::Bytes),
            seed("rows.jsonl.gz", gzip, Content::Bytes),
            seed("rows.jsonl.zst", zstd::bulk::compress(&file("rows.jsonl"), 9).unwrap(), Content::Bytes),
        ],
        beside: vec![],
        bytes_per_byte: JSON + TOKENS,
        read: Box::new(|_, path| read_dataset(path)),
    };
    target.fuzz("dataset_text");
}

#[test]
fn dataset_parquet() {
    let names = [
        "chats.parquet",
        "rows_none.parquet",
        "rows_snappy.parquet",
        "rows_gzip.parquet",
        "rows_lz4.parquet",
        "rows_zstd.parquet",
    ];
    let target = Target {
        seeds: names.map(|name| seed(name, data_golden(&format!("files/{name}")), Content::Bytes)).into(),
        beside: vec![],
        bytes_per_byte: JSON + TOKENS,
        read: Box::new(|_, path| read_dataset(path)),
    };
    target.fuzz("dataset_parquet");
}

#[test]
fn dataset_arrow() {
    let names = [
        "dictionary.arrow",
        "file_lz4.arrow",
        "file_zstd.arrow",
        "fixed_list.arrow",
        "messages.arrow",
        "none.arrow",
        "rows.feather",
        "stream.arrow",
        "string_view.arrow",
        "struct.arrow",
    ];
    let target = Target {
        seeds: names.map(|name| seed(name, data_golden(&format!("arrow/{name}")), Content::Bytes)).into(),
        beside: vec![],
        bytes_per_byte: JSON + TOKENS,
        read: Box::new(|_, path| read_dataset(path)),
    };
    target.fuzz("dataset_arrow");
}

#[test]
fn dataset_saved() {
    let file = |name: &str| data_golden(&format!("saved/shards/{name}"));
    let shards = ["data-00000-of-00003.arrow", "data-00001-of-00003.arrow", "data-00002-of-00003.arrow"];
    let target = Target {
        seeds: vec![seed("state.json", file("state.json"), Content::Json)],
        beside: shards.into_iter().chain(["dataset_info.json"]).map(|name| (name, file(name))).collect(),
        bytes_per_byte: JSON + TOKENS,
        read: Box::new(|dir, _| read_dataset(dir)),
    };
    target.fuzz("dataset_saved");
}

#[test]
fn dataset_zip() {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, file) in [("data/train.jsonl", "rows.jsonl"), ("data/test.csv", "rows.csv")] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&data_golden(&format!("files/{file}"))).unwrap();
    }
    let target = Target {
        seeds: vec![seed("rows.zip", archive.finish().unwrap().into_inner(), Content::Bytes)],
        beside: vec![],
        bytes_per_byte: JSON + TOKENS,
        read: Box::new(|_, path| read_dataset(path)),
    };
    target.fuzz("dataset_zip");
}

#[test]
fn dataset_card() {
    const WORDS: [&str; 16] =
        ["&a ", "*a", "[", "]", "{", "}", ": ", "- ", "\n", "---", "!!binary ", "|", ">", "<<: *a", "**/", "configs:"];
    let card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: rows-*.jsonl\n  - split: test\n    path:\n    - rows.jsonl\n---\n# Rows\n";
    let rows = data_golden("files/rows.jsonl");
    let target = Target {
        seeds: vec![seed("README.md", card.as_bytes().to_vec(), Content::Text(&WORDS))],
        beside: vec![("rows.jsonl", rows.clone()), ("rows-1.jsonl", rows)],
        bytes_per_byte: JSON + TOKENS,
        read: Box::new(|dir, _| read_dataset(dir)),
    };
    target.fuzz("dataset_card");
}
