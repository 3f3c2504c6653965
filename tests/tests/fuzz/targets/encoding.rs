//! Tokenizers and chat templates.

use super::*;

#[test]
fn tokenizer() {
    fuzz_tokenizer("tokenizer", tokenizer_seeds("qwen"));
}

#[test]
fn tokenizer_llama() {
    let mut seeds = tokenizer_seeds("llama");
    let file = |name| data_golden(&format!("tokenizers/llama/{name}"));
    seeds.push(seed("special_tokens_map.json", file("special_tokens_map.json"), Content::Json));
    // Where the template was before chat_template.jinja existed.
    let template = serde_json::json!({ "chat_template": String::from_utf8(file("chat_template.jinja")).unwrap() });
    seeds.push(seed("chat_template.json", template.to_string().into_bytes(), Content::Json));
    fuzz_tokenizer("tokenizer_llama", seeds);
}

/// Tokenizers other than BPE, with other normalizers, pre-tokenizers, post-processors and decoders.
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

/// The two files of the folder, and other files that name the end-of-text token.
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
        // The library's cache of words ends with the thread.
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
        // What the limit of instructions allows, whatever the size of the file: 64 bytes for each
        // of two million.
        bytes_per_byte: 64 * 2_000_000 / 4000 * 2,
        read: Box::new(|dir, _| {
            let Ok(tokenizer) = ChatTokenizer::from_dir(dir) else { return };
            let _ = tokenizer.apply_chat_template(&messages(), AddGenerationPrompt::Yes);
            let config = PrepareConfig { assistant_only_loss: true, ..PrepareConfig::default() };
            let _ = sft_data::prepare(&[Row::from(sft_data::Conversation::from(messages()))], &tokenizer, &config);
        }),
    };
    target.fuzz("chat_template");
}
