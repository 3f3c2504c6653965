//! Bad models, tokenizers and datasets.

use super::*;
use serde_json::json;

#[test]
fn models() -> Result<()> {
    check(&[
        Refused {
            what: "no such folder",
            prepare: |case| Ok(case.training(&case.path("no/such/model"), &goldens::words())),
            names: &["no/such/model", "no such folder"],
        },
        Refused {
            what: "a hub id without the hub",
            prepare: |case| Ok(case.training(Path::new("someone/some-model"), &goldens::words())),
            names: &["someone/some-model", "HF_HUB_OFFLINE"],
        },
        Refused {
            what: "a file",
            prepare: |case| Ok(case.training(&goldens::model("qwen2").join("config.json"), &goldens::words())),
            names: &["config.json", "folder"],
        },
        Refused {
            what: "no config.json",
            prepare: |case| with_model(case, |model| Ok(std::fs::remove_file(model.join("config.json"))?)),
            names: &["config.json", "No such file"],
        },
        Refused {
            what: "config.json cut off",
            prepare: |case| {
                with_model(case, |model| Ok(std::fs::write(model.join("config.json"), "{\"model_type\":")?))
            },
            names: &["config.json", "not valid JSON"],
        },
        Refused {
            what: "unknown architecture",
            prepare: |case| with_config(case, "model_type", json!("mamba")),
            names: &["config.json", "mamba", "qwen2", "llama"],
        },
        Refused {
            what: "heads that do not fit",
            prepare: |case| with_config(case, "num_key_value_heads", json!(3)),
            names: &["config.json", "num_key_value_heads", "3"],
        },
        Refused {
            what: "a config.json that calls for other shapes",
            prepare: |case| with_config(case, "intermediate_size", json!(96)),
            names: &["model.safetensors", "mlp", "[80, 32]", "[96, 32]"],
        },
        Refused {
            what: "a config.json that calls for more layers",
            prepare: |case| with_config(case, "num_hidden_layers", json!(3)),
            names: &["missing", "model.layers.2."],
        },
        Refused {
            what: "no weights",
            prepare: |case| with_model(case, |model| Ok(std::fs::remove_file(model.join("model.safetensors"))?)),
            names: &["model.safetensors"],
        },
        Refused {
            what: "weights cut off",
            prepare: |case| {
                with_model(case, |model| {
                    let path = model.join("model.safetensors");
                    let bytes = std::fs::read(&path)?;
                    Ok(std::fs::write(path, &bytes[..bytes.len() - 100])?)
                })
            },
            names: &["model.safetensors", "not a complete safetensors file"],
        },
        Refused {
            what: "an empty file for weights",
            prepare: |case| with_model(case, |model| Ok(std::fs::write(model.join("model.safetensors"), "")?)),
            names: &["model.safetensors", "not a complete safetensors file"],
        },
        Refused {
            what: "a shard that is not there",
            prepare: |case| {
                with_model(case, |model| {
                    std::fs::remove_file(model.join("model.safetensors"))?;
                    let index = json!({ "weight_map": { "model.norm.weight": "model-00001-of-00001.safetensors" } });
                    Ok(std::fs::write(model.join("model.safetensors.index.json"), index.to_string())?)
                })
            },
            names: &["model-00001-of-00001.safetensors"],
        },
    ])
}

/// A run on a chat, with a chat template unless `template` is empty.
fn with_chat(case: &Case, template: &str) -> Result<Training> {
    let row = br#"{"messages": [{"role": "user", "content": "w3"}, {"role": "assistant", "content": "w4"}]}"#;
    let training = with_files(case, &[("train.jsonl", row), ("test.jsonl", row)])?;
    if template.is_empty() {
        return Ok(training);
    }
    std::fs::write(case.path("template.jinja"), template)?;
    Ok(training.flag("chat_template_path", case.path("template.jinja").display()))
}

#[test]
fn tokenizers() -> Result<()> {
    check(&[
        Refused {
            what: "no tokenizer",
            prepare: |case| {
                with_model(case, |model| {
                    std::fs::remove_file(model.join("tokenizer.json"))?;
                    Ok(std::fs::remove_file(model.join("tokenizer_config.json"))?)
                })
            },
            names: &["model", "tokenizer.json"],
        },
        Refused {
            what: "a damaged tokenizer",
            prepare: |case| with_model(case, |model| Ok(std::fs::write(model.join("tokenizer.json"), "{}")?)),
            names: &["tokenizer.json"],
        },
        Refused {
            what: "the tokenizer of a larger model",
            prepare: |case| with_config(case, "vocab_size", json!(40)),
            names: &["token id 63", "vocab_size is 40"],
        },
        Refused {
            what: "a conversation without a chat template",
            prepare: |case| with_chat(case, ""),
            names: &["chat template"],
        },
        Refused {
            what: "a template without end",
            prepare: |case| {
                with_chat(case, "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}")
            },
            names: &["chat template", "stopped", "1049310 instructions"],
        },
        Refused {
            // Lists that contain each other take little memory, and the instruction count does not
            // include the work of comparing them.
            what: "a template that never gives back control",
            prepare: |case| {
                let grow = "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}";
                let grown =
                    format!("{{% set ns = namespace(x=[1], y=[1]) %}}{{% for i in range(90) %}}{grow}{{% endfor %}}");
                with_chat(case, &format!("{grown}{{{{ ns.x == ns.y }}}}"))
            },
            names: &["chat template", "stopped", "longer than 5 s"],
        },
    ])
}

#[test]
fn datasets() -> Result<()> {
    check(&[
        Refused {
            what: "no such folder",
            prepare: |case| Ok(case.training(&goldens::model("qwen2"), &case.path("no/such/data"))),
            names: &["no/such/data", "not found"],
        },
        Refused {
            what: "a hub id without the hub",
            prepare: |case| Ok(case.training(&goldens::model("qwen2"), Path::new("someone/some-data"))),
            names: &["someone/some-data", "HF_HUB_OFFLINE"],
        },
        Refused {
            what: "the recipe's own dataset without the hub",
            prepare: |case| {
                let bare = Training::bare().flag("model_name", goldens::model("qwen2").display());
                Ok(bare.flag("output_dir", case.output_dir().display()))
            },
            names: &["yimeng521/sunny_datasets", "HF_HUB_OFFLINE"],
        },
        Refused {
            what: "an empty folder",
            prepare: |case| with_files(case, &[]),
            names: &["data", "no data files", ".jsonl"],
        },
        Refused {
            what: "an empty file",
            prepare: |case| with_files(case, &[("train.jsonl", b""), ("test.jsonl", GOOD_ROWS)]),
            names: &["train", "empty"],
        },
        Refused {
            what: "an empty file to evaluate on",
            prepare: |case| with_files(case, &[("train.jsonl", GOOD_ROWS), ("test.jsonl", b"\n\n")]),
            names: &["test", "empty"],
        },
        Refused {
            what: "no text column",
            prepare: |case| {
                let row = b"{\"question\": \"w3\", \"reply\": \"w4\"}\n";
                with_files(case, &[("train.jsonl", row), ("test.jsonl", row)])
            },
            names: &["`text`", "question, reply", "--dataset_text_field"],
        },
        Refused {
            what: "no column of the name given",
            prepare: |case| Ok(sound(case).flags("--dataset_text_field body")),
            names: &["`body`", "columns are text"],
        },
        Refused {
            what: "bad JSON on line 3",
            prepare: |case| {
                let rows = b"{\"text\": \"w3 w4\"}\n{\"text\": \"w5 w6\"}\n{\"text\": \"w7\n{\"text\": \"w8 w9\"}\n";
                with_files(case, &[("train.jsonl", rows), ("test.jsonl", GOOD_ROWS)])
            },
            names: &["train.jsonl", "line 3"],
        },
        Refused {
            what: "bad JSON in the last line of the split to evaluate on",
            prepare: |case| {
                let rows = b"{\"text\": \"w3 w4\"}\n{\"text\": \"w5";
                with_files(case, &[("train.jsonl", GOOD_ROWS), ("test.jsonl", rows)])
            },
            names: &["test.jsonl", "line 2"],
        },
        Refused {
            what: "bad UTF-8 on line 2",
            prepare: |case| {
                let rows = b"{\"text\": \"w3 w4\"}\n{\"text\": \"w5 \xff\xfe\"}\n";
                with_files(case, &[("train.jsonl", rows), ("test.jsonl", GOOD_ROWS)])
            },
            names: &["train.jsonl", "line 2", "UTF-8"],
        },
        Refused {
            what: "a number for a text",
            prepare: |case| {
                let rows = b"{\"text\": \"w3 w4\"}\n{\"text\": 5}\n";
                with_files(case, &[("train.jsonl", rows), ("test.jsonl", GOOD_ROWS)])
            },
            names: &["train.jsonl", "line 2", "text"],
        },
        Refused {
            what: "rows without a word",
            prepare: |case| {
                let rows = b"{\"text\": \"\"}\n{\"text\": \"\"}\n";
                with_files(case, &[("train.jsonl", rows), ("test.jsonl", GOOD_ROWS)])
            },
            names: &["train"],
        },
        Refused {
            what: "only one split",
            prepare: |case| with_files(case, &[("train.jsonl", GOOD_ROWS)]),
            names: &["only one split", "`train`", "--test_size"],
        },
        Refused {
            what: "a file alone",
            prepare: |case| Ok(case.training(&goldens::model("qwen2"), &goldens::words().join("train.jsonl"))),
            names: &["train.jsonl", "only one split", "--test_size"],
        },
        Refused {
            what: "no split to train on",
            prepare: |case| with_files(case, &[("test.jsonl", GOOD_ROWS)]),
            names: &["`train`", "test"],
        },
        Refused {
            what: "a split that is not there",
            prepare: |case| Ok(sound(case).flags("--dataset_test_split holdout")),
            names: &["`holdout`", "train, test"],
        },
        Refused {
            what: "everything set aside",
            prepare: |case| Ok(with_files(case, &[("train.jsonl", GOOD_ROWS)])?.flags("--test_size 2")),
            names: &["test_size", "2"],
        },
        Refused {
            what: "a damaged parquet file",
            prepare: |case| with_files(case, &[("train.parquet", b"PAR1....PAR1"), ("test.parquet", b"PAR1")]),
            names: &["train.parquet", "Parquet"],
        },
    ])
}
