use super::*;
use crate::testing::{message, tokenizer_with_template};
use serde_json::json;

fn chat() -> Vec<Value> {
    vec![
        json!({"role": "user", "content": "Hi"}),
        json!({"role": "assistant", "content": "Hello! 🙂"}),
        json!({"role": "user", "content": "今天?"}),
        json!({"role": "assistant", "content": "好"}),
    ]
}

fn said(template: &str, messages: &[Value]) -> Result<Vec<String>, Error> {
    let rendered =
        tokenizer_with_template("qwen", template).render_with_assistant_spans(messages, &ChatContext::default())?;
    Ok(rendered.assistant.into_iter().map(|span| rendered.text[span].to_owned()).collect())
}

#[test]
fn the_assistants_turns_are_found_with_and_without_marks() {
    for template in ["generation", "chatml"] {
        assert_eq!(said(template, &chat()).unwrap(), ["Hello! 🙂<|im_end|>", "好<|im_end|>"], "{template}");
    }
    assert!(said("chatml", &chat()[..1]).unwrap().is_empty());
    assert!(said("generation", &[]).unwrap().is_empty());
}

#[test]
fn a_template_that_rewrites_earlier_turns_needs_marks() {
    let forgetful = "{% for m in messages %}{{ m.role }}: {{ m.content if loop.last else '…' }}\n{% endfor %}";
    let error = said(forgetful, &chat()).unwrap_err();
    assert!(message(&error).contains("renders message 2 differently"), "{error}");
}

#[test]
fn marks_in_the_messages_are_not_mistaken_for_the_templates() {
    let messages = [json!({"role": "assistant", "content": format!("a{GENERATION_START}b{GENERATION_END}")})];
    let error = said("generation", &messages).unwrap_err();
    assert!(message(&error).contains("{% generation %}"), "{error}");
    assert_eq!(marked_spans("a", "ab"), None);
    assert_eq!(marked_spans(&format!("a{GENERATION_START}b"), "ab"), None);
    assert_eq!(marked_spans(&format!("{GENERATION_END}a"), "a"), None);
}
