//! A template that tests roles drops a message whose role it does not know, without a word. This
//! check finds such messages.
//!
//! A template may also leave out a part of a message on purpose (reasoning in earlier turns) or
//! write it in another way (trimmed, as JSON). So a message whose text is not found is rendered
//! again with marks around its text; only if these are not found either is it left out. Tool calls
//! are looked for in the same way, by the names of their functions.

use crate::tokenizer::AddGenerationPrompt;
use crate::{ChatContext, ChatTokenizer, Error};
use serde_json::Value;

/// Letters that no template changes and no text contains.
const MARK: &str = "qzxjvkwyzxqj";

/// Renders a whole chat, none of whose messages may be left out.
pub(super) fn render_whole(
    messages: &[Value],
    context: &ChatContext,
    tokenizer: &ChatTokenizer,
) -> Result<String, Error> {
    let text = tokenizer.render(messages, context, AddGenerationPrompt::No)?;
    check(messages, context, &text, tokenizer)?;
    Ok(text)
}

/// Checks that each message that has text left a trace in `rendered`.
pub(super) fn check(
    messages: &[Value],
    context: &ChatContext,
    rendered: &str,
    tokenizer: &ChatTokenizer,
) -> Result<(), Error> {
    for (index, message) in messages.iter().enumerate() {
        let leaves_no_mark = |key: &str, mark: fn(&mut Value)| {
            let mut marked = messages.to_vec();
            if let Some(value) = marked.get_mut(index).and_then(|message| message.get_mut(key)) {
                mark(value);
            }
            match tokenizer.render(&marked, context, AddGenerationPrompt::No) {
                Ok(text) => !text.to_ascii_lowercase().contains(MARK),
                // A template that parses what it is given refuses the marked one, so it reads it.
                Err(_) => false,
            }
        };
        let texts = texts(&message["content"]);
        if !texts.is_empty()
            && !texts.iter().any(|text| rendered.contains(text.trim()))
            && leaves_no_mark("content", mark_text)
        {
            let role = message["role"].as_str().unwrap_or_default().to_owned();
            return Err(Error::MessageLeftOut { number: index + 1, role });
        }
        let names = function_names(&message["tool_calls"]);
        if !names.is_empty()
            && !names.iter().any(|name| is_called(name, messages, context, rendered))
            && leaves_no_mark("tool_calls", mark_calls)
        {
            return Err(Error::ToolCallsLeftOut { number: index + 1 });
        }
    }
    Ok(())
}

/// Whether the text has the function's name as often as tools, texts and calls together. If not,
/// nothing is known: tools may be written in another way, or not at all.
fn is_called(name: &str, messages: &[Value], context: &ChatContext, rendered: &str) -> bool {
    let mentions = |text: &str| text.matches(name).count();
    let in_tools = context.tools.as_ref().map_or(0, |tools| mentions(&tools.to_string()));
    let in_texts: usize = messages.iter().flat_map(|message| texts(&message["content"])).map(mentions).sum();
    let calls = messages.iter().flat_map(|message| function_names(&message["tool_calls"])).map(mentions);
    mentions(rendered) >= in_tools + in_texts + calls.sum::<usize>()
}

/// The names of the functions that a message calls.
fn function_names(tool_calls: &Value) -> Vec<&str> {
    let calls = tool_calls.as_array().map(Vec::as_slice).unwrap_or_default();
    let names = calls.iter().filter_map(|call| call["function"]["name"].as_str().or(call["name"].as_str()));
    names.filter(|name| !name.is_empty()).collect()
}

fn mark_calls(tool_calls: &mut Value) {
    for call in tool_calls.as_array_mut().into_iter().flatten() {
        let name = if call["function"].is_object() { call.pointer_mut("/function/name") } else { call.get_mut("name") };
        if let Some(name) = name {
            *name = Value::from(MARK);
        }
    }
}

/// The texts of a message that are not blank.
fn texts(content: &Value) -> Vec<&str> {
    let texts = match content {
        Value::String(text) => vec![text.as_str()],
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().filter(|text| !text.trim().is_empty()).collect()
}

fn mark_text(content: &mut Value) {
    match content {
        Value::String(text) => *text = format!("{MARK} {text} {MARK}"),
        Value::Array(parts) => parts.iter_mut().filter_map(|part| part.get_mut("text")).for_each(mark_text),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{message, tokenizer_with_template};
    use serde_json::json;

    fn checked(template: &str, messages: Value) -> Result<String, String> {
        let tokenizer = tokenizer_with_template("qwen", template);
        let messages = messages.as_array().unwrap();
        render_whole(messages, &ChatContext::default(), &tokenizer).map_err(|error| message(&error))
    }

    const ROLES: &str = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}[{{ m.role }}]{{ m.content | trim }}\
                         {% endif %}{% endfor %}";

    #[test]
    fn a_message_of_a_role_that_the_template_does_not_know_is_refused() {
        let chat = json!([{"role": "user", "content": "Hi"}, {"role": "observation", "content": "It is 9 m deep."}]);
        assert_eq!(
            checked(ROLES, chat).unwrap_err(),
            "the chat template leaves out message 2, whose role is \"observation\": give it a role that the template \
             knows, remove it, or name another template with `chat_template_path`"
        );
        let parts =
            json!([{"role": "user", "content": "Hi"}, {"role": "tool", "content": [{"type": "text", "text": "9 m"}]}]);
        assert!(checked(ROLES, parts).unwrap_err().contains("message 2, whose role is \"tool\""));
    }

    #[test]
    fn tool_calls_that_the_template_does_not_know_are_refused() {
        let call = |name: &str| json!({"type": "function", "function": {"name": name, "arguments": {"lake": "Alma"}}});
        let chat = json!([
            {"role": "user", "content": "Call depth"},
            {"role": "assistant", "content": "", "tool_calls": [call("depth")]},
            {"role": "assistant", "content": "", "tool_calls": [call("depth")]},
        ]);
        assert_eq!(
            checked(ROLES, chat.clone()).unwrap_err(),
            "the chat template leaves out the tool calls of message 2: name a template that writes them with \
             `chat_template_path`, or remove them"
        );
        let calls = "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}<{{ c.function.name }}>{% endfor %}\
                     {% endfor %}";
        assert_eq!(checked(calls, chat).unwrap(), "Call depth<depth><depth>");
        let flat = json!([{"role": "assistant", "tool_calls": [{"name": "depth", "arguments": {}}]}]);
        assert!(checked(ROLES, flat).unwrap_err().contains("the tool calls of message 1"));
    }

    #[test]
    fn what_a_template_writes_in_another_way_is_not_left_out() {
        let chat = json!([{"role": "user", "content": " Hi \n"}, {"role": "tool", "content": ""}, {"role": "tool", "content": null}]);
        assert_eq!(checked(ROLES, chat).unwrap(), "[user]Hi");
        // Reasoning is left out of a turn, even if it is all that the turn has.
        let answers = "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] }}{% endfor %}";
        for content in ["<think>hm</think>Yes.", "<think>hm</think>"] {
            let chat = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]);
            assert!(checked(answers, chat).is_ok(), "{content}");
        }
        let as_json = "{% for m in messages %}{{ m.content | tojson }}{% endfor %}";
        assert_eq!(checked(as_json, json!([{"role": "user", "content": "\"a\"\nb"}])).unwrap(), "\"\\\"a\\\"\\nb\"");
        let shouting = "{% for m in messages %}{{ m.content | upper }}{% endfor %}";
        assert_eq!(checked(shouting, json!([{"role": "user", "content": "hello"}])).unwrap(), "HELLO");
        let first_letters = "{% for m in messages %}{{ m.content[:40] }}{% endfor %}";
        assert!(checked(first_letters, json!([{"role": "user", "content": "x".repeat(80)}])).is_ok());
    }
}
