use super::*;
use crate::testing::{golden, message, tokenizer, tokenizer_with_template};

#[test]
fn chats_read_as_transformers_renders_them() {
    let golden = golden("templates.json");
    let mut differences = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let tokenizer =
            tokenizer_with_template(case["tokenizer"].as_str().unwrap(), case["template"].as_str().unwrap());
        let tools = case["tools"].clone();
        let context = ChatContext { tools: (!tools.is_null()).then_some(tools), ..ChatContext::default() };
        let prompt = match case["add_generation_prompt"].as_bool().unwrap() {
            true => AddGenerationPrompt::Yes,
            false => AddGenerationPrompt::No,
        };
        let found = tokenizer.render(case["messages"].as_array().unwrap(), &context, prompt);
        match (found, case["text"].as_str(), case["error"].as_str()) {
            (Ok(found), Some(expected), _) if found == expected => {}
            (Err(_), None, Some(_)) => {}
            (found, text, error) => {
                differences.push(format!(
                    "{} {}\n found {found:?}\n expected {text:?} {error:?}",
                    case["template"], case["messages"]
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_template_can_refuse_a_chat() {
    let messages = [serde_json::json!({"role": "assistant", "content": "I go first."})];
    let error = tokenizer("llama").apply_chat_template(&messages, AddGenerationPrompt::No).unwrap_err();
    assert!(message(&error).contains("Conversation roles must alternate"), "{}", message(&error));
    let unfinished = tokenizer_with_template("qwen", "{{ messages[0].content.nope.deeper }}");
    let error = unfinished.apply_chat_template(&messages, AddGenerationPrompt::No).unwrap_err();
    assert!(message(&error).starts_with("chat template, given 1 messages: undefined value"), "{}", message(&error));
}

#[test]
fn generation_tags_keep_their_whitespace_control() {
    assert_eq!(
        replace_generation_tags("a {%- generation -%} b {% endgeneration +%} c {% if x %}"),
        ("a {%- filter __generation_block -%} b {% endfilter +%} c {% if x %}".to_owned(), true)
    );
    assert_eq!(replace_generation_tags("{% generation_x %} {%"), ("{% generation_x %} {%".to_owned(), false));
    assert_eq!(replace_generation_tags("{%"), ("{%".to_owned(), false));
}

#[test]
fn today_is_written_as_asked() {
    let dated = tokenizer_with_template("qwen", "{{ strftime_now('%d %b %Y') }}");
    let text = dated.apply_chat_template(&[], AddGenerationPrompt::No).unwrap();
    assert_eq!(text.split(' ').map(str::len).collect::<Vec<_>>(), [2, 3, 4], "{text}");
    let wrong = tokenizer_with_template("qwen", "{{ strftime_now('%!') }}");
    assert!(message(&wrong.apply_chat_template(&[], AddGenerationPrompt::No).unwrap_err()).contains("date format"));
}

#[test]
fn a_template_sees_further_variables() {
    let template = tokenizer_with_template("qwen", "{{ enable_thinking }} {{ eos_token }}");
    let context = ChatContext {
        template_kwargs: serde_json::Map::from_iter([("enable_thinking".to_owned(), Json::Bool(false))]),
        ..ChatContext::default()
    };
    assert_eq!(template.render(&[], &context, AddGenerationPrompt::No).unwrap(), "False <|im_end|>");
}

#[test]
fn endless_recursion_is_an_error() {
    let template = tokenizer_with_template("qwen", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
    assert!(template.apply_chat_template(&[], AddGenerationPrompt::No).is_err());
}
