//! What is read, and how.

use std::io::Write as _;
use std::path::Path;

use causal_lm::{CausalLm, Config, ModelOptions, TokenBatch};
use checkpoint_callbacks::{DirectoryStore, EarlyStopping, LossSpike, Publication, publish, verify};
use galore_optim::{AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ParameterGroup, WeightUpdate};
use sft_data::{
    AddGenerationPrompt, AddSpecialTokens, ChatTokenizer, DatasetConfig, HubConfig, LossOn, Packing, PrepareConfig,
    Row, SpecialTokensInText,
};
use tch::{Device, Kind, Tensor};
use trainer_core::testing::{PlainStore, ToyLearner, ToySource};
use trainer_core::{CheckpointStore, IntervalStrategy, MetricsFile, SaveStrategy, Trainer, TrainingArguments};
use whole_program_tests::goldens;

use crate::mutate::Content;
use crate::{Seed, Target};

/// A `Value` of JSON takes 32 bytes and, in an object, its key and place besides: for `{"":{"":…`, some 40 times the text.
const JSON: usize = 200;

/// With a vocabulary this small nearly each byte becomes a token, which the tokenizers library holds in some 400 bytes while it encodes.
const TOKENS: usize = 400;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(goldens::path(name)).unwrap()
}

/// A file of another crate's goldens.
fn data_golden(name: &str) -> Vec<u8> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    std::fs::read(crates.join("sft-data/tests/goldens").join(name)).unwrap()
}

fn seed(name: &'static str, bytes: Vec<u8>, content: Content) -> Seed {
    Seed { name, bytes, content }
}

#[test]
fn config() {
    let target = Target {
        seeds: vec![
            seed("config.json", golden("models/llama/config.json"), Content::Json),
            seed("generation_config.json", golden("models/llama/generation_config.json"), Content::Json),
        ],
        beside: vec![("model.safetensors", golden("models/llama/model.safetensors"))],
        bytes_per_byte: JSON,
        read: Box::new(|dir, _| {
            if Config::from_dir(dir).is_ok()
                && let Ok((model, _)) = CausalLm::load(dir, ModelOptions::default())
            {
                let _ = model.loss(&TokenBatch::new(&[1, 2, 3], &[2, 3, -1], &[3], Device::Cpu).unwrap());
                let _ = model.files();
            }
        }),
    };
    target.fuzz("config");
}

#[test]
fn weights() {
    let target = Target {
        seeds: vec![seed("model.safetensors", golden("models/qwen2/model.safetensors"), Content::Safetensors)],
        beside: vec![("config.json", golden("models/qwen2/config.json"))],
        bytes_per_byte: JSON,
        read: Box::new(|dir, _| drop(CausalLm::load(dir, ModelOptions::default()))),
    };
    target.fuzz("weights");
}

#[test]
fn weights_index() {
    let weights = golden("models/qwen2/model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&weights).unwrap();
    let mut names: Vec<&str> = file.names();
    names.sort_unstable();
    let (first, second) = names.split_at(names.len() / 2);
    let shard = |names: &[&str]| {
        safetensors::serialize(names.iter().map(|name| (*name, file.tensor(name).unwrap())), None).unwrap()
    };
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let map: serde_json::Map<_, _> = first
        .iter()
        .map(|name| (name, one))
        .chain(second.iter().map(|name| (name, two)))
        .map(|(name, file)| ((*name).to_owned(), file.into()))
        .collect();
    let index = serde_json::json!({"metadata": {"total_size": weights.len()}, "weight_map": map});
    let target = Target {
        seeds: vec![
            seed("model.safetensors.index.json", index.to_string().into_bytes(), Content::Json),
            seed(one, shard(first), Content::Safetensors),
        ],
        beside: vec![("config.json", golden("models/qwen2/config.json")), (two, shard(second))],
        bytes_per_byte: JSON,
        read: Box::new(|dir, _| drop(CausalLm::load(dir, ModelOptions::default()))),
    };
    target.fuzz("weights_index");
}

#[test]
fn tokenizer() {
    fuzz_tokenizer("tokenizer", tokenizer_seeds("qwen"));
}

#[test]
fn tokenizer_llama() {
    let mut seeds = tokenizer_seeds("llama");
    let file = |name| data_golden(&format!("tokenizers/llama/{name}"));
    seeds.push(seed("special_tokens_map.json", file("special_tokens_map.json"), Content::Json));
    // The place of the template before there was chat_template.jinja.
    let template = serde_json::json!({ "chat_template": String::from_utf8(file("chat_template.jinja")).unwrap() });
    seeds.push(seed("chat_template.json", template.to_string().into_bytes(), Content::Json));
    fuzz_tokenizer("tokenizer_llama", seeds);
}

/// What is not BPE: other models, and with them other normalizers, pre-tokenizers, post-processors and decoders.
#[test]
fn tokenizer_others() {
    let added = serde_json::json!([{
        "id": 0, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
    }]);
    let unigram = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [0], "tokens": ["</s>"]}}},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 1, "byte_fallback": false, "vocab": [
            ["</s>", 0.0], ["<unk>", 0.0], ["▁", -1.5], ["▁the", -2.0], ["qu", -2.5], ["ick", -2.5], ["o", -3.0], ["e", -3.0],
        ]},
    });
    let word_piece = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["</s>", 0], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"</s>": 0, "[UNK]": 1, "[CLS]": 2, "the": 3, "quick": 4, "b": 5, "##ro": 6, "##wn": 7, "fox": 8, "1": 9}},
    });
    let word_level = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Whitespace"},
        ]},
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "_"}, "content": " "}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"</s>": 0, "<unk>": 1, "The": 2, "quick": 3}},
    });
    for (name, tokenizer) in
        [("tokenizer_unigram", unigram), ("tokenizer_word_piece", word_piece), ("tokenizer_word_level", word_level)]
    {
        let seeds = vec![
            seed("tokenizer.json", tokenizer.to_string().into_bytes(), Content::Json),
            seed("tokenizer_config.json", br#"{"eos_token": "</s>"}"#.to_vec(), Content::Json),
        ];
        fuzz_tokenizer(name, seeds);
    }
}

/// The folder's two files, and those that name EOS where they do not.
fn tokenizer_seeds(folder: &str) -> Vec<Seed> {
    let file = |name| data_golden(&format!("tokenizers/{folder}/{name}"));
    vec![
        seed("tokenizer.json", file("tokenizer.json"), Content::Json),
        seed("tokenizer_config.json", file("tokenizer_config.json"), Content::Json),
        seed("config.json", br#"{"eos_token_id": [1]}"#.to_vec(), Content::Json),
        seed("generation_config.json", br#"{"eos_token_id": 1}"#.to_vec(), Content::Json),
    ]
}

fn fuzz_tokenizer(name: &str, seeds: Vec<Seed>) {
    let target = Target {
        seeds,
        beside: vec![],
        bytes_per_byte: 4 * JSON,
        // The library's memory of words ends with the thread.
        read: Box::new(|dir, _| {
            let dir = dir.to_owned();
            std::thread::spawn(move || use_tokenizer(&dir)).join().unwrap();
        }),
    };
    target.fuzz(name);
}

fn use_tokenizer(dir: &Path) {
    let Ok(tokenizer) = ChatTokenizer::from_dir(dir) else { return };
    if let Ok(ids) = tokenizer.encode("The quick brown fox 1234, über <|im_end|> </s>", AddSpecialTokens::Yes) {
        let _ = tokenizer.decode(&ids, SpecialTokensInText::Keep);
    }
    let _ = tokenizer.decode(&[0, 5, u32::MAX], SpecialTokensInText::Skip);
    let _ = tokenizer.apply_chat_template(&messages(), AddGenerationPrompt::Yes);
}

fn messages() -> Vec<serde_json::Value> {
    let message = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    vec![message("system", "Be brief."), message("user", "Why?"), message("assistant", "Because.")]
}

#[test]
fn chat_template() {
    const WORDS: [&str; 32] = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{% endfor %}",
        "{% endif %}",
        "{% if messages %}",
        "{% for m in messages %}",
        "{% else %}",
        "{% set ns = namespace(x=[]) %}",
        "{% set ns.x = [ns.x, ns.x] %}",
        "{% for i in range(10000) %}",
        "ns.x",
        "loop.index",
        "{% macro f(x) %}",
        "{% endmacro %}",
        "{{ f(1) }}",
        "|tojson(indent=4)",
        "|trim",
        " * 1000000",
        " ~ messages",
        ".replace('a', 'bb')",
        "{% generation %}",
        "{% endgeneration %}",
        "messages[0]['content']",
        " recursive ",
        "{#",
        "#}",
        "-1",
        "{% break %}",
        "==",
        "|list",
    ];
    let target = Target {
        seeds: vec![seed(
            "chat_template.jinja",
            data_golden("tokenizers/llama/chat_template.jinja"),
            Content::Text(&WORDS),
        )],
        beside: vec![
            ("tokenizer.json", data_golden("tokenizers/llama/tokenizer.json")),
            ("tokenizer_config.json", data_golden("tokenizers/llama/tokenizer_config.json")),
        ],
        // What fuel allows, whatever the size of the file: 64 bytes for each of two millions.
        bytes_per_byte: 64 * 2_000_000 / 4000 * 2,
        read: Box::new(|dir, _| {
            let Ok(tokenizer) = ChatTokenizer::from_dir(dir) else { return };
            let _ = tokenizer.apply_chat_template(&messages(), AddGenerationPrompt::Yes);
            let config = PrepareConfig { loss_on: LossOn::Assistant, ..PrepareConfig::default() };
            let _ = sft_data::prepare(&[Row::Messages(messages().into())], &tokenizer, &config);
        }),
    };
    target.fuzz("chat_template");
}

#[test]
fn checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments {
        output_dir: folder.path().to_owned(),
        eval_strategy: IntervalStrategy::Epoch,
        save_strategy: SaveStrategy::Epoch,
        logging_steps: 1.0,
        num_train_epochs: 2.0,
        ..TrainingArguments::default()
    };
    let (rows, eval_rows) = (ToySource::new(20, 8), ToySource::new(4, 8));
    let mut store = PlainStore::new(folder.path());
    Trainer::new(arguments.clone(), &mut ToyLearner::default(), &rows, Some(&eval_rows), &mut store)
        .unwrap()
        .with_callback(EarlyStopping::new(9))
        .with_callback(LossSpike::new(2.0))
        .train()
        .unwrap();
    let file = |name| std::fs::read(store.path(3).join(name)).unwrap();
    let files: Vec<(&str, Vec<u8>)> = std::fs::read_dir(store.path(3))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().leak() as &str)
        .map(|name| (name, file(name)))
        .filter(|(name, _)| !["trainer_state.json", "training_progress.json"].contains(name))
        .collect();
    let target = Target {
        seeds: vec![
            seed("trainer_state.json", file("trainer_state.json"), Content::Json),
            seed("training_progress.json", file("training_progress.json"), Content::Json),
        ],
        beside: files,
        bytes_per_byte: JSON,
        read: Box::new(move |dir, _| {
            let arguments = TrainingArguments { save_strategy: SaveStrategy::No, ..arguments.clone() };
            let (mut learner, mut store) = (ToyLearner::default(), PlainStore::new(dir));
            let mut trainer = Trainer::new(arguments, &mut learner, &rows, Some(&eval_rows), &mut store).unwrap();
            if trainer.resume_from(dir).is_ok() {
                let _ = trainer
                    .with_callback(EarlyStopping::new(9))
                    .with_callback(LossSpike::new(2.0))
                    .with_callback(MetricsFile::new(dir.join(MetricsFile::FILE_NAME)))
                    .train();
            }
        }),
    };
    target.fuzz("checkpoint");
}

#[test]
fn manifest() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(folder.path()).unwrap();
    let path = {
        let model = Path::new("model.safetensors");
        store.save(1, Box::new(move |folder| folder.write_file(model, &mut |file| Ok(file.write_all(&[7; 5000])?))));
        store.wait().unwrap().outcome.unwrap()
    };
    let target = Target {
        seeds: vec![seed("manifest.json", std::fs::read(path.join("manifest.json")).unwrap(), Content::Json)],
        beside: vec![("model.safetensors", vec![7; 5000])],
        bytes_per_byte: JSON,
        read: Box::new(|dir, _| {
            let _ = verify(dir);
            let _ = publish(dir, &dir.join("published"), Publication::default());
        }),
    };
    target.fuzz("manifest");
}

/// The program's own, of which it is no library.
#[path = "../../../bins/train_and_save/src/identity/saved.rs"]
mod run_file;

#[test]
fn run_file() {
    let run = serde_json::json!({
        "model_name": "models/qwen2", "dataset_name": "data", "train_rows": "ab12", "eval_rows": "cd34",
        "model_config": "ef56", "dtype": "BFloat16",
        "optimizer": {
            "optim": "galore_adamw", "optim_args": {"rank": 4, "update_proj_gap": 5, "scale": 1.0},
            "optim_target_modules": ["attn", "mlp"], "bf16_weight_update": "exact", "optim_state_dtype": "bfloat16",
            "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6, "weight_decay": 0.0},
        },
    });
    let run: run_file::Identity = serde_json::from_value(run).unwrap();
    let target = Target {
        seeds: vec![seed(run_file::RUN_FILE, run.to_text().unwrap().into_bytes(), Content::Json)],
        beside: vec![],
        bytes_per_byte: JSON,
        read: Box::new(move |dir, _| drop(run.check(dir))),
    };
    target.fuzz("run_file");
}

fn optimizer(galore: bool) -> Box<dyn Optimizer> {
    let parameters = |shapes: &[&[i64]]| {
        let parameter = |(index, shape): (usize, &&[i64])| Parameter {
            name: format!("p{index}-{}", shape.len()),
            weight: Tensor::zeros(*shape, (Kind::BFloat16, Device::Cpu)),
            gradient: Some(Tensor::ones(*shape, (Kind::Float, Device::Cpu))),
        };
        shapes.iter().enumerate().map(parameter).collect::<Vec<_>>()
    };
    let group =
        |shapes: &[&[i64]]| ParameterGroup { parameters: parameters(shapes), adam: AdamConfig::galore_default() };
    let mut optimizer: Box<dyn Optimizer> = if galore {
        let config = GaLoreConfig { rank: 4, ..GaLoreConfig::default() };
        Box::new(
            GaLoreAdamW::new(group(&[&[10, 16], &[16, 10]]), vec![group(&[&[9]])], &config, WeightUpdate::Exact)
                .unwrap(),
        )
    } else {
        Box::new(AdamW::new(vec![group(&[&[10, 16], &[9]])], WeightUpdate::Stochastic { seed: 3 }).unwrap())
    };
    optimizer.step(1e-3).unwrap();
    optimizer
}

#[test]
fn optimizer_state() {
    for (name, galore) in [("optimizer", true), ("optimizer_adamw", false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        optimizer(galore).save(&path).unwrap();
        let loaded = std::cell::RefCell::new(optimizer(galore));
        let target = Target {
            seeds: vec![seed("optimizer.safetensors", std::fs::read(&path).unwrap(), Content::Safetensors)],
            beside: vec![],
            bytes_per_byte: JSON,
            read: Box::new(move |_, path| {
                if loaded.borrow_mut().load(path).is_ok() {
                    let _ = loaded.borrow_mut().step(1e-3);
                }
            }),
        };
        target.fuzz(name);
    }
}

/// Reads a dataset and puts it into tokens.
fn read_dataset(name: &Path) {
    let config = DatasetConfig {
        dataset_name: name.to_string_lossy().into_owned(),
        test_size: Some(0.2),
        ..DatasetConfig::default()
    };
    let hub = HubConfig::from_env();
    let Ok(splits) = sft_data::load_splits(&config, &hub) else { return };
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sft-data/tests/goldens/tokenizers/qwen");
    let tokenizer = ChatTokenizer::from_dir(&tokenizer).unwrap();
    let packed =
        PrepareConfig { packing: Packing::BestFitDecreasingSplit, max_length: Some(16), ..PrepareConfig::default() };
    let assistant = PrepareConfig { loss_on: LossOn::Assistant, ..PrepareConfig::default() };
    for config in [PrepareConfig::default(), packed, assistant] {
        let _ = sft_data::prepare(&splits.train, &tokenizer, &config);
    }
}

/// Tokenizers that are gone leave no words behind.
#[test]
fn rows_put_into_tokens_leave_nothing() {
    let _turn = crate::one_at_a_time();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sft-data/tests/goldens/tokenizers/qwen");
    // Digits would be words of their own, and always the same ten.
    let letter = |number: usize| char::from(b'a' + (number % 26) as u8);
    let text: String =
        (0..600).flat_map(|number| [' ', letter(number), letter(number / 26), letter(number / 3)]).collect();
    let rows = vec![Row::Text(text); 8];
    let prepare = || {
        let tokenizer = ChatTokenizer::from_dir(&dir).unwrap();
        sft_data::prepare(&rows, &tokenizer, &PrepareConfig::default()).unwrap();
        crate::MEMORY.current_usage()
    };
    // Fewest of some: threads that are about to end hold something for a moment.
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
