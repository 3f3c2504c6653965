use super::*;
use crate::testing::{golden_path, message, tokenizer};
use serde_json::json;
use std::fs;

/// A copy of a golden tokenizer that a test can damage.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tokenizer(name).save(folder.path()).unwrap();
    folder
}

fn edit(folder: &tempfile::TempDir, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.path().join(name);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn error_of(folder: &tempfile::TempDir) -> String {
    message(&ChatTokenizer::from_dir(folder.path()).unwrap_err())
}

#[test]
fn special_tokens_are_found_in_either_file() {
    let qwen = tokenizer("qwen");
    assert_eq!((qwen.eos_token(), qwen.vocab_size()), ("<|im_end|>", 420 + 3));
    assert_eq!(qwen.encode("<|im_end|>", AddSpecialTokens::Yes).unwrap(), [qwen.eos_token_id()]);
    assert_eq!(qwen.encode("<|endoftext|>", AddSpecialTokens::Yes).unwrap(), [qwen.pad_token_id()]);
    assert!(qwen.has_chat_template());
    let llama = tokenizer("llama");
    assert_eq!((llama.eos_token(), llama.eos_token_id()), ("</s>", 2));
    assert_eq!(llama.pad_token_id(), 2, "EOS is the pad token if no file names one");
}

#[test]
fn special_tokens_are_added_when_asked_for() {
    let llama = tokenizer("llama");
    let bare = llama.encode("The harbour</s>", AddSpecialTokens::No).unwrap();
    let framed = llama.encode("The harbour</s>", AddSpecialTokens::Yes).unwrap();
    assert_eq!(framed[0], 1);
    assert_eq!(framed[1..], bare);
    assert_eq!(bare.last(), Some(&2), "EOS is one token even if tokenizer.json does not declare it");
}

#[test]
fn decoding_is_the_inverse() {
    let qwen = tokenizer("qwen");
    for text in ["", "plain", "今天 🙂\n\n  x", "a<|im_end|>b"] {
        let ids = qwen.encode(text, AddSpecialTokens::No).unwrap();
        assert_eq!(qwen.decode(&ids, SpecialTokensInText::Keep).unwrap(), text);
    }
    let ids = qwen.encode("a<|im_end|>b", AddSpecialTokens::No).unwrap();
    assert_eq!(qwen.decode(&ids, SpecialTokensInText::Skip).unwrap(), "ab");
    assert_eq!(qwen.decode(&[4_000_000_000], SpecialTokensInText::Keep).unwrap(), "");
}

#[test]
fn saved_files_are_those_that_were_loaded() {
    for name in ["qwen", "llama"] {
        let folder = copy(name);
        for entry in fs::read_dir(golden_path("tokenizers").join(name)).unwrap() {
            let path = entry.unwrap().path();
            let saved = fs::read(folder.path().join(path.file_name().unwrap())).unwrap();
            if name == "llama" && path.ends_with("tokenizer_config.json") {
                // The file names no pad token, so EOS is written as the pad token. Nothing else
                // changes.
                let mut expected: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                expected["pad_token"] = json!("</s>");
                assert_eq!(serde_json::from_slice::<Value>(&saved).unwrap(), expected);
            } else {
                assert_eq!(fs::read(&path).unwrap(), saved, "{}", path.display());
            }
        }
    }
}

#[test]
fn files_outlive_the_folder_they_came_from() {
    let folder = copy("qwen");
    let loaded = ChatTokenizer::from_dir(folder.path()).unwrap();
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    loaded.save(folder.path()).unwrap();
    assert!(ChatTokenizer::from_dir(folder.path()).is_ok());
}

#[test]
fn another_eos_token_is_used_and_saved() {
    let folder = copy("qwen");
    let options = TokenizerOptions { eos_token: Some("<|endoftext|>".to_owned()), ..TokenizerOptions::default() };
    let changed = ChatTokenizer::load(folder.path(), &options).unwrap();
    assert_eq!(changed.eos_token(), "<|endoftext|>");
    changed.save(folder.path()).unwrap();
    let again = ChatTokenizer::from_dir(folder.path()).unwrap();
    assert_eq!((again.eos_token(), again.has_chat_template()), ("<|endoftext|>", true));

    let options = TokenizerOptions { eos_token: Some("<nope>".to_owned()), ..TokenizerOptions::default() };
    let error = ChatTokenizer::load(folder.path(), &options).unwrap_err();
    assert!(message(&error).starts_with("eos_token = \"<nope>\": a token of the vocabulary"), "{error}");
}

#[test]
fn the_model_names_eos_where_the_tokenizer_does_not() {
    let folder = copy("qwen");
    edit(&folder, "tokenizer_config.json", |config| {
        config.as_object_mut().unwrap().remove("eos_token");
    });
    assert!(error_of(&folder).contains("name one with `eos_token`"));
    fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [422, 420]}"#).unwrap();
    let loaded = ChatTokenizer::from_dir(folder.path()).unwrap();
    assert_eq!((loaded.eos_token(), loaded.eos_token_id()), ("<|im_end|>", 422));
}

#[test]
fn tokens_that_only_the_configuration_lists_are_added() {
    let folder = copy("qwen");
    edit(&folder, "tokenizer_config.json", |config| {
        config["added_tokens_decoder"]["423"] = json!({"content": "<|new|>", "special": true, "normalized": false});
        config["additional_special_tokens"] = json!(["<|extra|>", "<|im_start|>"]);
    });
    let loaded = ChatTokenizer::from_dir(folder.path()).unwrap();
    assert_eq!(loaded.vocab_size(), 425);
    assert_eq!(loaded.encode("<|new|><|extra|>", AddSpecialTokens::No).unwrap(), [423, 424]);
}

#[test]
fn templates_are_found_wherever_they_are_kept() {
    let folder = copy("qwen");
    let messages = [json!({"role": "user", "content": "Hi"})];
    let render = || {
        let loaded = ChatTokenizer::from_dir(folder.path()).unwrap();
        loaded.apply_chat_template(&messages, AddGenerationPrompt::No).map_err(|error| message(&error))
    };
    edit(&folder, "tokenizer_config.json", |config| {
        config["chat_template"] = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    });
    assert_eq!(render().unwrap(), "d");
    edit(&folder, "tokenizer_config.json", |config| {
        config.as_object_mut().unwrap().remove("chat_template");
    });
    assert!(render().unwrap_err().contains("has no chat template"));
    fs::write(folder.path().join("chat_template.json"), r#"{"chat_template": "legacy"}"#).unwrap();
    assert_eq!(render().unwrap(), "legacy");
    fs::write(folder.path().join("chat_template.jinja"), "file").unwrap();
    assert_eq!(render().unwrap(), "file");
    fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    fs::write(folder.path().join("additional_chat_templates/rag.jinja"), "rag").unwrap();
    let saved = tempfile::tempdir().unwrap();
    ChatTokenizer::from_dir(folder.path()).unwrap().save(saved.path()).unwrap();
    assert_eq!(fs::read_to_string(saved.path().join("additional_chat_templates/rag.jinja")).unwrap(), "rag");
}

/// The ids are those of transformers, which adds the tokens of `tokenizer_config.json` again.
#[test]
fn flags_in_the_configuration_win() {
    let ids = |change: &dyn Fn(&mut Value)| {
        let folder = copy("qwen");
        edit(&folder, "tokenizer_config.json", |config| change(&mut config["added_tokens_decoder"]));
        let saved = tempfile::tempdir().unwrap();
        ChatTokenizer::from_dir(folder.path()).unwrap().save(saved.path()).unwrap();
        let loaded = ChatTokenizer::from_dir(saved.path()).unwrap();
        let text = "Hi  <|im_start|>  user\n <|im_end|> \n x<|endoftext|>y <|im_end|>";
        loaded.encode(text, AddSpecialTokens::No).unwrap()
    };
    let stripped = |tokens: &mut Value| {
        for token in tokens.as_object_mut().unwrap().values_mut() {
            token["lstrip"] = json!(true);
        }
        tokens["422"]["rstrip"] = json!(true);
    };
    assert_eq!(ids(&stripped), [39, 72, 421, 220, 220, 399, 422, 87, 420, 88, 422]);
    let single_word = |tokens: &mut Value| tokens["420"]["single_word"] = json!(true);
    let found = ids(&single_word);
    assert_eq!(found[13..], [87, 27, 91, 268, 67, 78, 370, 307, 83, 91, 29, 88, 220, 422]);
    let as_before = ids(&|_| ());
    let plain = |tokens: &mut Value| tokens["422"]["special"] = json!(false);
    assert_eq!(ids(&plain), as_before, "a token with a role is special whatever its flag says");
}

#[test]
fn line_ends_of_templates_are_line_feeds_wherever_they_are_kept() {
    let source = "{% for m in messages %}\r\n{{ m.content }}\r\n{% endfor %}\rend\r\n";
    let messages = [json!({"role": "user", "content": "Hi\r\n"})];
    let folder = copy("qwen");
    let render = |options: &TokenizerOptions| {
        let loaded = ChatTokenizer::load(folder.path(), options).unwrap();
        loaded.apply_chat_template(&messages, AddGenerationPrompt::No).unwrap()
    };
    let expected = "Hi\r\n\nend";
    edit(&folder, "tokenizer_config.json", |config| config["chat_template"] = json!(source));
    assert_eq!(render(&TokenizerOptions::default()), expected);
    let other = folder.path().join("other.jinja");
    fs::write(&other, source).unwrap();
    let options = TokenizerOptions { chat_template_path: Some(other), ..TokenizerOptions::default() };
    assert_eq!(render(&options), expected);
    edit(&folder, "tokenizer_config.json", |config| config["chat_template"] = json!("unused"));
    fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
    assert_eq!(render(&TokenizerOptions::default()), expected);
}

#[test]
fn chats_with_tools_get_the_template_for_tools() {
    let folder = copy("qwen");
    let tools = |tools: Value| ChatContext { tools: Some(tools), ..ChatContext::default() };
    let render = |context: &ChatContext| {
        let loaded = ChatTokenizer::from_dir(folder.path()).unwrap();
        loaded.render(&[], context, AddGenerationPrompt::No).map_err(|error| message(&error))
    };
    let both = json!([{"name": "default", "template": "d"}, {"name": "tool_use", "template": "{{ tools[0].name }}"}]);
    edit(&folder, "tokenizer_config.json", |config| config["chat_template"] = both);
    let with_tools = tools(json!([{"name": "f"}]));
    assert_eq!(render(&with_tools).unwrap(), "f");
    for context in [ChatContext::default(), tools(json!([])), tools(Value::Null)] {
        assert_eq!(render(&context).unwrap(), "d");
    }
    edit(&folder, "tokenizer_config.json", |config| {
        config["chat_template"] = json!([{"name": "rag", "template": "r"}])
    });
    assert!(render(&with_tools).unwrap_err().contains("the chat templates are named rag, and none `default`"));
    edit(&folder, "tokenizer_config.json", |config| config["chat_template"] = json!([{"name": "rag"}]));
    assert!(error_of(&folder).contains("an entry of chat_template has no texts `name` and `template`"));
    edit(&folder, "tokenizer_config.json", |config| config["chat_template"] = json!("text"));

    // Files win over the configuration, whichever of them there are.
    fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    fs::write(folder.path().join("additional_chat_templates/tool_use.jinja"), "file t").unwrap();
    assert_eq!(render(&with_tools).unwrap(), "file t");
    assert!(render(&ChatContext::default()).unwrap_err().contains("are named tool_use"));
    fs::write(folder.path().join("chat_template.jinja"), "file d").unwrap();
    assert_eq!(render(&ChatContext::default()).unwrap(), "file d");

    // A template that is named replaces all of them, in the saved files too.
    let path = folder.path().join("other.jinja");
    fs::write(&path, "other").unwrap();
    let options = TokenizerOptions { chat_template_path: Some(path), ..TokenizerOptions::default() };
    let saved = tempfile::tempdir().unwrap();
    ChatTokenizer::load(folder.path(), &options).unwrap().save(saved.path()).unwrap();
    assert!(!saved.path().join("additional_chat_templates").exists());
    let again = ChatTokenizer::from_dir(saved.path()).unwrap();
    assert_eq!(again.render(&[], &with_tools, AddGenerationPrompt::No).unwrap(), "other");
}

#[test]
fn a_generation_config_that_ends_elsewhere_is_told() {
    let folder = copy("qwen");
    let warnings = |options: &TokenizerOptions| {
        let told = Warnings::default();
        tracing::subscriber::with_default(told.clone(), || ChatTokenizer::load(folder.path(), options).unwrap());
        let told = told.0.lock().unwrap().clone();
        told.into_iter().filter(|text| text.contains("generation_config")).collect::<Vec<_>>()
    };
    let config = |text: &str| fs::write(folder.path().join("generation_config.json"), text).unwrap();
    let plain = TokenizerOptions::default();
    for fine in ["{}", r#"{"eos_token_id": 422}"#, r#"{"eos_token_id": [420, 422]}"#, r#"{"eos_token_id": null}"#] {
        config(fine);
        assert_eq!(warnings(&plain), [""; 0], "{fine}");
    }
    config(r#"{"eos_token_id": 420}"#);
    let told = warnings(&plain);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("eos_token_id is [420], but the tokenizer's end-of-sequence token is \"<|im_end|>\" (422)")
    );
    let chosen = TokenizerOptions { eos_token: Some("<|im_start|>".to_owned()), ..TokenizerOptions::default() };
    assert_eq!(warnings(&chosen), [""; 0]);
}

/// Keeps the warnings of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut told = String::new();
        event
            .record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| told.push_str(&format!("{value:?}")));
        self.0.lock().unwrap().push(told);
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
}

#[test]
fn damaged_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(error_of(&folder).ends_with("tokenizer.json is missing; is this the model's folder?"));
    fs::write(folder.path().join("vocab.json"), "{}").unwrap();
    assert!(error_of(&folder).contains("save_pretrained"));
    let missing = ChatTokenizer::from_dir(&folder.path().join("nope")).unwrap_err();
    assert!(message(&missing).ends_with("nope: no such folder"), "{missing}");

    let folder = copy("qwen");
    let whole = fs::read(folder.path().join("tokenizer.json")).unwrap();
    fs::write(folder.path().join("tokenizer.json"), &whole[..whole.len() / 2]).unwrap();
    assert!(error_of(&folder).contains("tokenizer.json: not a tokenizer that can be loaded: EOF"));
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(error_of(&folder).contains("tokenizer.json: not a tokenizer"));
    fs::write(folder.path().join("tokenizer.json"), &whole).unwrap();
    fs::write(folder.path().join("tokenizer_config.json"), "[1]").unwrap();
    assert!(error_of(&folder).contains("tokenizer_config.json: not a tokenizer"));
    fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": 422}"#).unwrap();
    assert!(ChatTokenizer::from_dir(folder.path()).is_ok());
    fs::write(folder.path().join("chat_template.jinja"), [0xff, 0xfe]).unwrap();
    assert!(error_of(&folder).contains("chat_template.jinja"));
    fs::write(folder.path().join("chat_template.jinja"), "{% if %}").unwrap();
    assert!(error_of(&folder).starts_with("chat template, parsing it: syntax error"), "{}", error_of(&folder));
}

/// The library panics if it cannot parse one of these parts.
#[test]
fn a_broken_decoder_is_an_error() {
    for part in ["decoder", "post_processor", "pre_tokenizer"] {
        let folder = copy("qwen");
        let path = folder.path().join("tokenizer.json");
        let text = fs::read_to_string(&path).unwrap();
        let at = text.find(&format!("\"{part}\"")).unwrap();
        let open = at + text[at..].find('{').unwrap() + 1;
        fs::write(&path, format!("{}?{}", &text[..open], &text[open..])).unwrap();
        assert!(error_of(&folder).contains("tokenizer.json: not a tokenizer that can be loaded"), "{part}");
    }
}

/// The library panics when one of these gives up, which is after ten million attempts.
#[test]
fn hostile_regular_expressions_are_errors_wherever_they_run() {
    let expression = json!({"Regex": "(a|aa)+$"});
    let endless = "a".repeat(300) + "b";
    let with = |part: &str, value: Value| {
        let folder = copy("qwen");
        edit(&folder, "tokenizer.json", |file| file[part] = value);
        folder
    };
    let split = json!({"type": "Split", "pattern": expression, "behavior": "Isolated", "invert": false});
    let replace = json!({"type": "Replace", "pattern": expression, "content": "a"});
    let started = std::time::Instant::now();

    let tokenizer = ChatTokenizer::from_dir(with("pre_tokenizer", split).path()).unwrap();
    let error = tokenizer.encode(&endless, AddSpecialTokens::No).unwrap_err();
    assert!(message(&error).contains("the tokenizer refused a text"), "{}", message(&error));
    let error = tokenizer.encode_with_offsets(&endless, AddSpecialTokens::No).unwrap_err();
    assert!(message(&error).contains("the tokenizer refused a conversation"), "{}", message(&error));

    let plain = copy("qwen");
    let ids = ChatTokenizer::from_dir(plain.path()).unwrap().encode(&endless, AddSpecialTokens::No).unwrap();
    let fused = json!({"type": "Sequence", "decoders": [{"type": "Fuse"}, replace]});
    let tokenizer = ChatTokenizer::from_dir(with("decoder", fused).path()).unwrap();
    let error = tokenizer.decode(&ids, SpecialTokensInText::Keep).unwrap_err();
    assert!(message(&error).contains("ids"), "{}", message(&error));

    let folder = with("normalizer", replace);
    edit(&folder, "tokenizer_config.json", |config| {
        config["added_tokens_decoder"]["423"] = json!({"content": endless, "special": false, "normalized": true});
    });
    assert!(error_of(&folder).contains("the tokenizer refused its own special tokens"), "{}", error_of(&folder));
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
