mod constructs;

use super::*;
use crate::testing::{golden, message, tokenizer, tokenizer_with_template};
use crate::untrusted::template::TIME_LIMIT;
use std::time::{Duration, Instant};

fn source_of(text: &str) -> TemplateSource {
    TemplateSource { file: "chat_template".to_owned(), text: text.to_owned() }
}

#[test]
fn chats_are_rendered_as_by_transformers() {
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
        let messages = case["messages"].as_array().unwrap();
        if case["template"] == "llama" && content::has_parts(messages) {
            // Python writes the list as it stands. Another test has what happens here.
            continue;
        }
        let found = tokenizer.render(messages, &context, prompt);
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
    assert!(message(&error).starts_with("chat template, given 1 message: undefined value"), "{}", message(&error));
}

#[test]
fn dates_are_formatted() {
    let dated = tokenizer_with_template("qwen", "{{ strftime_now('%d %b %Y') }}");
    let text = dated.apply_chat_template(&[], AddGenerationPrompt::No).unwrap();
    assert_eq!(text.split(' ').map(str::len).collect::<Vec<_>>(), [2, 3, 4], "{text}");
    let wrong = tokenizer_with_template("qwen", "{{ strftime_now('%!') }}");
    assert!(message(&wrong.apply_chat_template(&[], AddGenerationPrompt::No).unwrap_err()).contains("date format"));
}

#[test]
fn a_template_gets_further_variables() {
    let template = tokenizer_with_template("qwen", "{{ enable_thinking }} {{ eos_token }}");
    let context = ChatContext {
        template_kwargs: serde_json::Map::from_iter([("enable_thinking".to_owned(), Json::Bool(false))]),
        ..ChatContext::default()
    };
    assert_eq!(template.render(&[], &context, AddGenerationPrompt::No).unwrap(), "False <|im_end|>");
}

/// Without limits, each of these would fill memory, overflow the stack or never end.
#[test]
fn hostile_templates_are_stopped() {
    let grown = "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    let nested =
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% for j in range(9999) %}{% set ns.x = [ns.x] %}";
    let (after_grown, after_nested) =
        (|rest| format!("{grown}{rest}"), |rest| format!("{nested}{rest}{{% endfor %}}{{% endfor %}}"));
    for (template, expected) in [
        ("{% for a in range(10**9) %}{% endfor %}", "range has too many elements"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", "stopped"),
        ("{{ 'a' * 10**9 }}", "stopped"),
        ("{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "stopped"),
        (
            "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}",
            "stopped",
        ),
        (
            "{% set s = 'ab' * 1000000 %}{% for i in range(99999) %}{% if s.count('b') %}{% endif %}{% endfor %}",
            "stopped",
        ),
        ("{{ 10**10**9 }}", "unable to calculate"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion limit"),
        ("{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}", "recursion limit"),
        ("{% for a in [[[]]] recursive %}{{ loop([[1]]) }}{% endfor %}", "recursion limit"),
        ("{% include 'chat_template' %}", "chat_template"),
        ("{% include '/etc/passwd' %}", "template not found"),
        ("{% import '/etc/passwd' as p %}", "template not found"),
        ("{% extends 'chat_template' %}", "chat_template"),
        ("{{ '%999999999s'|format('a') }}", "stopped"),
        ("{{ '{:999999999}'.format('a') }}", "a width of 1000 or more"),
        ("{{ 'a'|indent(10**9) }}", "stopped"),
        ("{{ [[1]]|tojson(indent=10**9) }}", "indent is more than 64"),
        ("{{ range(9999)|list|tojson(separators=['x' * 1000000, ':']) }}", "the text is too long"),
        ("{{ range(9)|batch(10**9, 'x')|list }}", "stopped"),
        (&after_grown("{{ ns.x|tojson }}"), "stopped"),
        (&after_nested(""), "stopped"),
        (&after_nested("{% if i == 5 and j == 0 %}{{ ns.x }}{% endif %}"), "stopped"),
        (&after_nested("{% if i == 3 and j == 0 %}{{ ns.x|tojson }}{% endif %}"), "stopped"),
        (&after_nested("{% if i == 3 and j == 0 and ns.x == [ns.x] %}{% endif %}"), "stopped"),
    ] {
        let started = Instant::now();
        let error = tokenizer_with_template("qwen", template).apply_chat_template(&[], AddGenerationPrompt::No);
        let error = message(&error.expect_err(template));
        assert!(error.contains(expected), "{template}: {error}");
        // Each takes a fraction of a second, but longer if other work shares the cores.
        assert!(started.elapsed() < 4 * TIME_LIMIT, "{template}: {:?}", started.elapsed());
    }
}

/// The comparison that is left running ends after some seconds, so it does not outlive the tests.
#[test]
fn a_template_that_took_too_long_is_not_tried_again() {
    let grown = "{% set ns = namespace(x=[1], y=[1]) %}\
        {% for i in range(26) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}";
    let mut template = ChatTemplate::compile(source_of(grown)).unwrap();
    Arc::get_mut(&mut template.sandbox).unwrap().time_limit = Duration::from_millis(100);
    let tokenizer = tokenizer("qwen");
    let mut times = [Duration::ZERO; 2];
    for time in &mut times {
        let started = Instant::now();
        let found = template.render(&[], &ChatContext::default(), &tokenizer.special, AddGenerationPrompt::No);
        *time = started.elapsed();
        let error = message(&found.unwrap_err());
        assert!(error.contains("stopped, as it takes longer than"), "{error}");
    }
    assert!(times[0] >= Duration::from_millis(100) && times[1] < times[0], "{times:?}");
}

#[test]
fn limits_are_far_above_what_a_long_chat_needs() {
    let golden = golden("templates.json");
    let turn = |role: &str| serde_json::json!({"role": role, "content": "A sentence of some length. ".repeat(40)});
    let messages: Vec<Json> = (0..1000).map(|index| turn(if index % 2 == 0 { "user" } else { "assistant" })).collect();
    let mut num_rendered = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = case["tokenizer"].as_str().unwrap();
        let tokenizer = tokenizer_with_template(name, case["template"].as_str().unwrap());
        match tokenizer.apply_chat_template(&messages, AddGenerationPrompt::Yes) {
            Ok(text) => num_rendered += usize::from(text.len() > 1_000_000),
            Err(error) => assert!(!message(&error).contains("stopped"), "{}: {}", case["template"], message(&error)),
        }
    }
    assert!(num_rendered > 5, "{num_rendered}");
}

#[test]
fn parts_of_a_message_are_joined_for_templates_that_expect_texts() {
    let part = |text: &str| serde_json::json!({"type": "text", "text": text, "image": null});
    let messages = [
        serde_json::json!({"role": "user", "content": [part("a"), part("b"), "c"]}),
        serde_json::json!({"role": "assistant", "content": "d"}),
    ];
    let texts = "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}";
    let parts = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}\
        {% endif %}{% endfor %}";
    let prints = "{% for m in messages %}{{ m.content|trim }};{% endfor %}";
    let drops = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}";
    let dumps = "{{ messages[0].content|tojson }}";
    let refuses =
        "{% if messages|length < 2 %}{{ raise_exception('more') }}{% endif %}{{ messages[0].content[1].text }}";
    for (template, expected) in [
        (texts, "<user>abc<assistant>d"),
        (parts, "ad"),
        (prints, "abc;d;"),
        (drops, "abcd"),
        (dumps, r#"[{"type": "text", "text": "a", "image": null}, {"type": "text", "text": "b", "image": null}, "c"]"#),
        (refuses, "b"),
    ] {
        let template = tokenizer_with_template("qwen", template);
        assert_eq!(template.apply_chat_template(&messages, AddGenerationPrompt::No).unwrap(), expected);
    }

    let messages = [serde_json::json!({"role": "user", "content": [part("a"), {"type": "image"}]})];
    let error = tokenizer_with_template("qwen", texts).apply_chat_template(&messages, AddGenerationPrompt::No);
    let expected = "message 1: a part of the content is of type \"image\", but the chat template takes only texts";
    assert!(message(error.as_ref().unwrap_err()).contains(expected), "{error:?}");
}

#[test]
fn errors_of_templates_are_one_plain_line() {
    let messages = [serde_json::json!({"role": "user", "content": "a\nb\u{202e}c\u{1b}[31m 今"})];
    let template = tokenizer_with_template("qwen", "{{ raise_exception('no ' ~ messages[0].content) }}");
    let error = message(&template.apply_chat_template(&messages, AddGenerationPrompt::No).unwrap_err());
    assert!(error.contains(r"no a\nb\u{202e}c\u{1b}[31m 今 (in chat_template"), "{error}");
}

/// Texts that are made from short ones are paid for before they are made.
#[test]
fn texts_that_grow_are_stopped() {
    let messages = [serde_json::json!({"role": "user", "content": "x".repeat(64)})];
    let memory = |template: &str| {
        tokenizer_with_template("qwen", template).apply_chat_template(&messages, AddGenerationPrompt::No)
    };
    for template in [
        "{{ messages[0]|dictsort|string * 1000000 }}",
        "{{ 'ab'.center(10**8) }}",
        "{{ 'ab'|center(10**8) }}",
        "{{ 'ab'.zfill(10**8) }}{{ 'ab'.ljust(10**8) }}",
        "{{ ('\\t' * 1000).expandtabs(10**6) }}",
        "{{ ('a' * 10000).replace('', 'b' * 10000) }}",
        "{{ ('a' * 10000)|replace('a', 'b' * 10000) }}",
        "{{ ('a' * 10000).join('b' * 10000) }}",
        "{{ ('b' * 10000)|join('a' * 10000) }}",
        "{{ ('\\n' * 10000)|indent(10000, blank=true) }}",
        "{{ 'a'|indent(10**9) }}",
        "{{ ('{0}' * 10000).format('a' * 10000) }}",
        "{{ ('%s' * 10000)|format(*(['a' * 10000] * 10000)) }}",
        "{% set s = '&' * 10000000 %}{{ s|e }}{{ s|e|e }}",
        "{% set a = 'a' * 10000000 %}{{ a ~ a ~ a ~ a ~ a ~ a ~ a ~ a }}",
        "{{ [['a' * 1000000] * 1000]|string }}",
        "{{ [['a' * 1000000] * 1000]|tojson }}",
    ] {
        let error = message(&memory(template).expect_err(template));
        assert!(
            error.contains("stopped") && error.contains("MB of text") && error.contains("chat_template"),
            "{template}: {error}"
        );
    }
}
