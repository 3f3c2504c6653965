//! A template that tests roles drops a message whose role it does not know, without a word. This
//! check finds such messages.
//!
//! A template may also leave out a part of a message on purpose (reasoning in earlier turns) or
//! write it in another way (trimmed, as JSON). So a message whose text is not found is rendered
//! again with marks around its text; only if these are not found either is it left out.

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
        let texts = texts(&message["content"]);
        if texts.is_empty() || texts.iter().any(|text| rendered.contains(text.trim())) {
            continue;
        }
        let mut marked = messages.to_vec();
        if let Some(content) = marked.get_mut(index).and_then(|message| message.get_mut("content")) {
            mark(content);
        }
        match tokenizer.render(&marked, context, AddGenerationPrompt::No) {
            Ok(text) if !text.to_ascii_lowercase().contains(MARK) => {
                let role = message["role"].as_str().unwrap_or_default().to_owned();
                return Err(Error::MessageLeftOut { number: index + 1, role });
            }
            // A template that parses the text refuses the marked one, so it reads it.
            _ => {}
        }
    }
    Ok(())
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

fn mark(content: &mut Value) {
    match content {
        Value::String(text) => *text = format!("{MARK} {text} {MARK}"),
        Value::Array(parts) => parts.iter_mut().filter_map(|part| part.get_mut("text")).for_each(mark),
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
