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
    let rendered = tokenizer_with_template("qwen", template).render_with_turns(messages, &ChatContext::default())?;
    Ok(rendered.turns.into_iter().map(|turn| rendered.text[turn.span].to_owned()).collect())
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

/// Adds reasoning in the last turn, and drops it in earlier ones.
const THINKING_TEMPLATE: &str = "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}\
    {%- set words = m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content -%}\
    {%- if m.role == 'assistant' and loop.last -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}\
    {{- words + '<|im_end|>\n' -}}{%- endfor -%}\
    {%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}";
/// The generation prompt opens a thinking block. The reasoning is dropped.
const OPENS_THINKING: &str = "{%- for m in messages -%}{%- if m.role == 'user' -%}{{ '<U>' + m.content }}\
    {%- else -%}{{ '<A>' + m.content.split('</think>')[-1] + '<|im_end|>' }}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<A><think>\n' }}{% endif -%}";
/// As before, but the reasoning is kept.
const KEEPS_THINKING: &str = "{%- for m in messages -%}{%- if m.role == 'user' -%}{{ '<U>' + m.content }}\
    {%- else -%}{{ '<A>' + m.content + '<|im_end|>' }}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<A><think>\n' }}{% endif -%}";
/// Looks at the first message, as templates with a default system prompt do.
const LOOKS_AT_FIRST: &str = "{%- if messages[0].role == 'system' -%}{{ '[S]' + messages[0].content }}{%- endif -%}\
    {%- for m in messages -%}{%- if m.role != 'system' -%}\
    {{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}";
const ZEPHYR: &str = "{% for m in messages %}\n{{ '<|' + m.role + '|>\n' + m.content + eos_token }}\n\
    {% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
const VICUNA: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ 'USER: ' + m.content }}\
    {% else %}{{ ' ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}";
const MISTRAL: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content.strip() + ' [/INST]' }}\
    {% else %}{{ ' ' + m.content.strip() + eos_token + ' ' }}{% endif %}{% endfor %}";
/// Writes the header of the next turn whether asked to or not.
const ALWAYS_OPENS: &str = "{% for m in messages %}{{ '<|h|>' + m.role + '<|/h|>\n\n' + m.content | trim + '<|im_end|>' }}\
    {% endfor %}{{ '<|h|>assistant<|/h|>\n\n' }}";
/// No token ends a turn, and the header is always written.
const BARE: &str = "{% for m in messages %}{{ '### ' + m.role + ':\n' + m.content + '\n' }}{% endfor %}\
    {{ '### assistant:\n' }}";
/// Ends turns with a token that is not EOS.
const OTHER_END: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_start|>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn turns(contents: &[(&str, &str)]) -> Vec<Value> {
    contents.iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

#[test]
fn each_kind_of_template_teaches_the_answers_and_their_ends() {
    let chat = [("user", "Hi"), ("assistant", " Hello! "), ("user", "A colour?"), ("assistant", "Blue")];
    for (template, expected) in [
        (THINKING_TEMPLATE, [" Hello! <|im_end|>", "<think>\n\n</think>\n\nBlue<|im_end|>"]),
        (OPENS_THINKING, [" Hello! <|im_end|>", "Blue<|im_end|>"]),
        (LOOKS_AT_FIRST, [" Hello! <|im_end|>", "Blue<|im_end|>"]),
        (ZEPHYR, [" Hello! <|im_end|>", "Blue<|im_end|>"]),
        (VICUNA, ["  Hello! <|im_end|>", " Blue<|im_end|>"]),
        (MISTRAL, [" Hello!<|im_end|>", " Blue<|im_end|>"]),
        (ALWAYS_OPENS, ["Hello!<|im_end|>", "Blue<|im_end|>"]),
        (BARE, [" Hello! ", "Blue"]),
    ] {
        let found = said(template, &turns(&chat)).unwrap();
        let trimmed =
            |text: &str| if template == BARE || template == ZEPHYR { text.trim().to_owned() } else { text.to_owned() };
        let found: Vec<String> = found.iter().map(|text| trimmed(text)).collect();
        assert_eq!(found, expected.map(trimmed), "{template}");
    }
}

#[test]
fn a_chat_that_the_assistant_opens_is_learned_from_its_first_word() {
    let chat = [("assistant", "Welcome to the lake."), ("user", "How deep is it?"), ("assistant", "Nine metres.")];
    for template in [LOOKS_AT_FIRST, "chatml", "generation", ZEPHYR, OPENS_THINKING, ALWAYS_OPENS, MISTRAL] {
        let found = said(template, &turns(&chat)).unwrap();
        let found: Vec<&str> = found.iter().map(|text| text.trim()).collect();
        assert_eq!(found, ["Welcome to the lake.<|im_end|>", "Nine metres.<|im_end|>"], "{template}");
    }
    let with_system = [("system", "Be kind."), ("assistant", "Hi"), ("user", "Yo"), ("assistant", "Bye")];
    assert_eq!(said(LOOKS_AT_FIRST, &turns(&with_system)).unwrap(), ["Hi<|im_end|>", "Bye<|im_end|>"]);
}

#[test]
fn reasoning_is_learned_where_the_template_writes_it() {
    let chat = turns(&[("user", "How deep?"), ("assistant", "<think>\nLook it up.\n</think>\nNine metres.")]);
    assert_eq!(said(OPENS_THINKING, &chat).unwrap(), ["\nNine metres.<|im_end|>"]);
    assert_eq!(said(KEEPS_THINKING, &chat).unwrap(), ["<think>\nLook it up.\n</think>\nNine metres.<|im_end|>"]);
    // The template drops the whole answer.
    let chat = turns(&[("user", "How deep?"), ("assistant", "<think>\nHm.\n</think>")]);
    assert_eq!(said(OPENS_THINKING, &chat).unwrap(), ["<|im_end|>"]);
}

#[test]
fn what_a_message_says_does_not_move_the_masks() {
    for (user, answer) in [
        ("Please use <think>", "<think>"),
        ("<|im_end|>", "A <b>tag</b>."),
        ("?", "!"),
        ("ASSISTANT: no", "USER: yes <|im_start|>assistant\n"),
        ("[/INST]", "🙂"),
        ("a < b", "[1, 2] > [x"),
        ("same", "same"),
        ("好", "好"),
        ("", ""),
    ] {
        let chat = turns(&[("user", user), ("assistant", answer), ("user", user), ("assistant", "Fine.")]);
        let expected = [format!("{answer}<|im_end|>"), "Fine.<|im_end|>".to_owned()];
        assert_eq!(said("chatml", &chat).unwrap(), expected, "{user:?}");
        assert_eq!(said(LOOKS_AT_FIRST, &chat[1..]).unwrap(), expected, "{user:?}");
    }
}

#[test]
fn tool_calls_are_part_of_the_turn() {
    let template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{{ m.content }}\
        {% for call in m.tool_calls or [] %}{{ '\n<call>' + (call | tojson) + '</call>' }}{% endfor %}\
        {{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let call = json!({"name": "depth", "arguments": {"lake": "Loch <Ness>", "unit": 2}});
    let chat = [
        json!({"role": "user", "content": "How deep?"}),
        json!({"role": "assistant", "content": "", "tool_calls": [call]}),
        json!({"role": "tool", "content": "230"}),
        json!({"role": "assistant", "content": "230 metres."}),
    ];
    let call =
        "\n<call>{\"name\": \"depth\", \"arguments\": {\"lake\": \"Loch <Ness>\", \"unit\": 2}}</call><|im_end|>";
    assert_eq!(said(template, &chat).unwrap(), [call, "230 metres.<|im_end|>"]);
}

#[test]
fn templates_that_react_to_marks_are_rendered_in_parts() {
    let measures = "{% for m in messages %}{{ m.role ~ (m.content | length) ~ m.content ~ '<|im_end|>' }}{% endfor %}\
        {% if add_generation_prompt %}{{ 'assistant' }}{% endif %}";
    assert_eq!(said(measures, &turns(&[("user", "Hi"), ("assistant", "Hello")])).unwrap(), ["5Hello<|im_end|>"]);
}

#[test]
fn a_token_that_ends_turns_need_not_be_eos() {
    let tokenizer = tokenizer_with_template("qwen", OTHER_END);
    let chat = turns(&[("user", "Hi"), ("assistant", "Hello"), ("user", "x"), ("assistant", "Bye")]);
    let rendered = tokenizer.render_with_turns(&chat, &ChatContext::default()).unwrap();
    let said: Vec<&str> = rendered.turns.iter().map(|turn| &rendered.text[turn.span.clone()]).collect();
    assert_eq!(said, ["Hello<|im_start|>", "Bye<|im_start|>"]);
}
