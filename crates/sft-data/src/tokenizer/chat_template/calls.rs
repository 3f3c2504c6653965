//! Messages that call tools, as OpenAI's files have them: the arguments are JSON text, and the
//! content is null.
//!
//! Some templates write such text as it is. Others expect an object and write it as JSON, so text
//! would become JSON of JSON, which no program can call. And some print `None` for null. Renderings
//! of made-up messages tell which.

use crate::untrusted::template::Failure;
use serde_json::{Value, json};

/// What a template makes of such messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallFormat {
    /// It writes text as JSON, so arguments must be objects.
    arguments_are_objects: bool,
    /// It fails on null content or prints `None`, so null must be an empty text.
    null_is_empty: bool,
}

/// Whether a message has anything that templates differ in.
pub(super) fn concerns(messages: &[Value]) -> bool {
    messages.iter().any(|message| has_no_content(message) || arguments_of(message).any(Value::is_string))
}

fn has_no_content(message: &Value) -> bool {
    message.get("content").is_none_or(Value::is_null)
}

fn arguments_of(message: &Value) -> impl Iterator<Item = &Value> {
    let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    calls.iter().filter_map(|call| call.get("function").unwrap_or(call).get("arguments"))
}

pub(super) fn probe(render: impl Fn(&[Value]) -> Result<String, Failure>) -> CallFormat {
    let chat = |content: Value, arguments: Value| {
        let function = json!({"name": "probe", "arguments": arguments});
        let calls = json!([{"id": "call_0000", "type": "function", "function": function}]);
        render(&[
            json!({"role": "user", "content": "probe"}),
            json!({"role": "assistant", "content": content, "tool_calls": calls}),
        ])
    };
    let arguments = "{\"probe\": 0}";
    let doubles = |text: String| text.contains("{\\\"probe");
    let arguments_are_objects = chat("".into(), arguments.into()).is_ok_and(doubles);
    let arguments = if arguments_are_objects { json!({"probe": 0}) } else { arguments.into() };
    let is_fine = |content: Value| chat(content, arguments.clone()).is_ok_and(|text| !text.contains("None"));
    CallFormat { arguments_are_objects, null_is_empty: !is_fine(Value::Null) && is_fine("".into()) }
}

impl CallFormat {
    /// The messages as the template can write them.
    pub(super) fn adapted(self, messages: &[Value]) -> Vec<Value> {
        let mut messages = messages.to_vec();
        for message in &mut messages {
            let no_content = has_no_content(message);
            let Some(fields) = message.as_object_mut() else { continue };
            if self.null_is_empty && no_content {
                fields.insert("content".to_owned(), Value::from(""));
            }
            let calls = fields.get_mut("tool_calls").and_then(Value::as_array_mut);
            for call in calls.into_iter().flatten().filter(|_| self.arguments_are_objects) {
                let function = if call.get("function").is_some() { call.get_mut("function") } else { Some(call) };
                if let Some(arguments) = function.and_then(|function| function.get_mut("arguments"))
                    && let Some(Ok(object @ Value::Object(_))) = arguments.as_str().map(serde_json::from_str)
                {
                    *arguments = object;
                }
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::tokenizer_with_template;
    use crate::{AddGenerationPrompt, ChatTokenizer};
    use serde_json::{Value, json};

    const AS_JSON: &str = "{% for m in messages %}[{{ m.role }}]{% if m.content %}{{ m.content }}{% endif %}\
                           {% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}";
    const AS_TEXT: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls %}\
                           {% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}\
                           {{ c.function.arguments | tojson }}{% endif %}{% endfor %}{% endfor %}";
    const ADDED: &str = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% for c in m.tool_calls %}\
                         {{ c.function.arguments }}{% endfor %}{% endfor %}";

    fn rendered(tokenizer: &ChatTokenizer, arguments: Value, content: Value) -> String {
        let calls = json!([{"type": "function", "function": {"name": "f", "arguments": arguments}}]);
        let chat = [
            json!({"role": "user", "content": "Hi"}),
            json!({"role": "assistant", "content": content, "tool_calls": calls}),
        ];
        tokenizer.apply_chat_template(&chat, AddGenerationPrompt::No).unwrap()
    }

    #[test]
    fn arguments_are_json_once_and_null_is_nothing() {
        let text = "{\"lake\":\"Alma\"}";
        for (template, expected) in [
            (AS_JSON, "[user]Hi[assistant]{\"lake\": \"Alma\"}"),
            (AS_TEXT, "[user]Hi[assistant]{\"lake\":\"Alma\"}"),
            (ADDED, "[user]Hi[assistant]{\"lake\":\"Alma\"}"),
        ] {
            let tokenizer = tokenizer_with_template("qwen", template);
            assert_eq!(rendered(&tokenizer, json!(text), Value::Null), expected);
            assert_eq!(rendered(&tokenizer, json!(text), json!("")), expected);
        }
        let tokenizer = tokenizer_with_template("qwen", AS_JSON);
        assert_eq!(rendered(&tokenizer, json!({"lake": 1}), json!("a")), "[user]Hi[assistant]a{\"lake\": 1}");
        assert_eq!(rendered(&tokenizer, json!("not json"), json!("")), "[user]Hi[assistant]\"not json\"");
    }
}
