mod broken;

use super::*;
use crate::testing::message;
use serde_json::json;

fn row(record: Value, text_field: &str) -> Result<Row, String> {
    let Value::Object(record) = record else { unreachable!() };
    let columns: Vec<String> = record.keys().cloned().collect();
    let row_columns =
        RowColumns::detect(&Columns { names: &columns, sample: &record, text_field }).ok_or("no columns")?;
    row_columns.row(record, Path::new("f"), Position::Line(7)).map_err(|error| message(&error))
}

#[test]
fn columns_are_chosen_in_trls_order() {
    let chat = json!([{"role": "user", "content": "Hi"}]);
    let Value::Array(messages) = chat.clone() else { unreachable!() };
    assert_eq!(row(json!({"text": "a", "id": 1}), "text").unwrap(), Row::Text("a".to_owned()));
    let as_chat = Row::from(Conversation::from(messages.clone()));
    assert_eq!(row(json!({"text": "a", "messages": chat}), "text").unwrap(), as_chat);
    assert_eq!(row(json!({"conversations": chat}), "text").unwrap(), as_chat);
    // A column that the user chose comes first, whatever it holds.
    assert_eq!(row(json!({"body": "a", "messages": chat}), "body").unwrap(), Row::Text("a".to_owned()));
    assert_eq!(row(json!({"dialog": chat, "text": "a"}), "dialog").unwrap(), as_chat);
    // A column named `messages` that holds text is not a chat.
    assert_eq!(row(json!({"text": "a", "messages": "b"}), "text").unwrap(), Row::Text("a".to_owned()));
    assert!(matches!(
        row(json!({"prompt": "a", "completion": "b", "text": "c"}), "text"),
        Ok(Row::PromptCompletion(_))
    ));
    assert_eq!(row(json!({"prompt": "a", "text": "c"}), "text").unwrap(), Row::Text("c".to_owned()));
    assert_eq!(row(json!({"content": "a"}), "text").unwrap_err(), "no columns");
    assert_eq!(row(json!({"content": "a"}), "body").unwrap_err(), "no columns");
}

#[test]
fn names_of_sharegpt_become_those_of_chatml() {
    let found = row(
        json!({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}, {"from": "tool", "value": "1"}]}),
        "text",
    );
    let Ok(Row::Messages(chat)) = found else { panic!("{found:?}") };
    assert_eq!(
        Value::Array(chat.messages),
        json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "tool", "content": "1"}])
    );
}

#[test]
fn missing_values_are_empty_rows() {
    let row_columns = RowColumns::Text("text".to_owned());
    for record in [json!({"text": null}), json!({}), json!({"other": 1})] {
        let Value::Object(record) = record else { unreachable!() };
        assert_eq!(row_columns.row(record, Path::new("f"), Position::Line(1)).unwrap(), Row::Text(String::new()));
    }
    let found =
        RowColumns::Messages("messages".to_owned()).row(Record::new(), Path::new("f"), Position::Line(1)).unwrap();
    assert_eq!(found, Row::from(Conversation::default()));
}

#[test]
fn errors_name_the_row_of_a_value_of_the_wrong_kind() {
    for (record, expected) in [
        (json!({"text": 3}), "f, line 7: column `text` holds a number, not a text"),
        (json!({"text": ["a"]}), "f, line 7: column `text` holds a list, not a text"),
        (
            json!({"messages": ["a"]}),
            "f, line 7: message 1 of column `messages` is a text, not an object with `role` and `content`",
        ),
        (
            json!({"messages": [{"role": "user"}, {"content": "x", "name": "y"}]}),
            "f, line 7: message 2 of column `messages` has no `role`; it has content, name",
        ),
        (json!({"prompt": 1, "completion": "b"}), "f, line 7: column `prompt` holds a number, not a text or messages"),
    ] {
        assert_eq!(row(record, "text").unwrap_err(), expected);
    }
    let row_columns = RowColumns::Messages("messages".to_owned());
    let Value::Object(record) = json!({"messages": "text"}) else { unreachable!() };
    let error = row_columns.row(record, Path::new("f"), Position::Row(2)).unwrap_err();
    assert_eq!(message(&error), "f, row 2: column `messages` holds a text, not a list of messages");
}

#[test]
fn tools_come_as_text_or_as_a_list() {
    let chat = json!([{"role": "user", "content": "Hi"}]);
    for tools in [json!([{"name": "f"}]), json!("[{\"name\": \"f\"}]")] {
        let record = json!({"messages": chat, "tools": tools, "chat_template_kwargs": {"thinking": false}});
        let Ok(Row::Messages(found)) = row(record, "text") else { panic!() };
        assert_eq!(found.context.tools, Some(json!([{"name": "f"}])));
        assert_eq!(found.context.template_kwargs["thinking"], false);
    }
    let broken = row(json!({"messages": chat, "tools": "[{"}), "text").unwrap_err();
    assert!(broken.starts_with("f, line 7: column `tools` is not JSON"), "{broken}");
    let broken = row(json!({"messages": chat, "chat_template_kwargs": 1}), "text").unwrap_err();
    assert!(broken.contains("`chat_template_kwargs` holds a number"), "{broken}");
}

fn chat(record: Value) -> Result<Conversation, String> {
    match row(record, "text")? {
        Row::Messages(chat) => Ok(*chat),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sharegpt_says_who_speaks_in_its_own_words() {
    let tool = json!({"name": "depth", "parameters": {"type": "object"}});
    let found = chat(json!({
        "conversations": [
            {"from": "human", "value": "How deep is the lake?"},
            {"from": "function_call", "value": "{\"name\": \"depth\", \"arguments\": {\"lake\": \"Alma\"}}"},
            {"from": "observation", "value": "{\"m\": 9}"},
            {"from": "gpt", "value": "Nine metres."},
        ],
        "system": "You know lakes.",
        "tools": json!([tool]).to_string(),
    }))
    .unwrap();
    let call = json!({"name": "depth", "arguments": {"lake": "Alma"}});
    assert_eq!(
        Value::Array(found.messages),
        json!([
            {"role": "system", "content": "You know lakes."},
            {"role": "user", "content": "How deep is the lake?"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
            {"role": "tool", "content": "{\"m\": 9}"},
            {"role": "assistant", "content": "Nine metres."},
        ])
    );
    assert_eq!(found.context.tools, Some(json!([{"type": "function", "function": tool}])));

    for (from, role) in [
        ("user", "user"),
        ("chatgpt", "assistant"),
        ("bing", "assistant"),
        ("bard", "assistant"),
        ("assistant", "assistant"),
        ("system", "system"),
        ("function_response", "tool"),
    ] {
        let found = chat(json!({"conversations": [{"from": from, "value": "x"}]})).unwrap();
        assert_eq!(found.messages, [json!({"role": role, "content": "x"})], "{from}");
    }
    // Several calls, and a table that holds the other spelling as nulls.
    let calls = format!("[{call}, {call}]");
    let found = chat(json!({"messages": [{"role": null, "content": null, "from": "function_call", "value": calls}]}));
    assert_eq!(found.unwrap().messages[0]["tool_calls"].as_array().unwrap().len(), 2);
}

#[test]
fn what_sharegpt_does_not_know_is_refused_by_name() {
    let call = |value: &str| json!({"conversations": [{"from": "function_call", "value": value}]});
    for (record, expected) in [
        (
            json!({"conversations": [{"from": "human", "value": "a"}, {"from": "narrator", "value": "b"}]}),
            "f, line 7: message 2 of column `conversations` is from \"narrator\", which is no known role of ShareGPT; \
             known are human, user, gpt,",
        ),
        (
            json!({"conversations": [{"from": 1, "value": "a"}]}),
            "f, line 7: message 1 of column `conversations` has a number",
        ),
        (
            json!({"conversations": [{"from": "gpt", "role": "user", "value": "a"}]}),
            "f, line 7: message 1 of column `conversations` has both `from` and `role`",
        ),
        (call("depth(Alma)"), "f, line 7: message 1 of column `conversations` is a function_call that is not JSON"),
        (
            call("{\"name\": \"f\"}"),
            "f, line 7: message 1 of column `conversations` is a function_call with the keys name;",
        ),
        (call("[3]"), "f, line 7: message 1 of column `conversations` is a function_call that holds a number"),
        (
            json!({"conversations": [{"from": "system", "value": "a"}, {"from": "human", "value": "b"}], "system": "c"}),
            "f, line 7: has a system message and another text in column `system`",
        ),
        (
            json!({"conversations": [{"from": "human", "value": "b"}], "system": 3}),
            "f, line 7: column `system` holds a number",
        ),
    ] {
        let error = row(record, "text").unwrap_err();
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }
    let same = chat(
        json!({"conversations": [{"from": "system", "value": "a"}, {"from": "human", "value": "b"}], "system": "a"}),
    );
    assert_eq!(same.unwrap().messages.len(), 2);
}

#[test]
fn a_system_column_belongs_to_sharegpt_only() {
    let columns = |record: &Value| record.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let unused = |record: Value| {
        let columns = columns(&record);
        let sample = record.as_object().unwrap();
        RowColumns::detect(&Columns { names: &columns, sample, text_field: "text" }).unwrap().unused(&columns, sample)
    };
    let sharegpt = json!({"id": 1, "conversations": [{"from": "human", "value": "a"}], "system": "s", "tools": "[]"});
    assert_eq!(unused(sharegpt), ["id"]);
    let chatml = json!({"messages": [{"role": "user", "content": "a"}], "system": "s", "tools": "[]", "label": 1});
    assert_eq!(chat(chatml.clone()).unwrap().messages.len(), 1);
    assert_eq!(unused(chatml), ["system", "label"]);
    assert_eq!(unused(json!({"text": "a", "tools": "[]", "instruction": "b"})), ["tools", "instruction"]);
    assert_eq!(unused(json!({"prompt": "a", "completion": "b", "system": "c"})), ["system"]);
}

#[test]
fn messages_may_be_json_text() {
    let list = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]);
    let expected = chat(json!({"messages": list})).unwrap();
    for name in ["messages", "conversations"] {
        assert_eq!(chat(json!({name: list.to_string(), "text": "a"})).unwrap(), expected, "{name}");
    }
    assert_eq!(row(json!({"dialog": list.to_string()}), "dialog").unwrap(), Row::from(expected));
    let sharegpt = json!([{"from": "human", "value": "Hi"}]).to_string();
    assert_eq!(chat(json!({"conversations": sharegpt, "system": "s"})).unwrap().messages.len(), 2);

    let (prompt, completion) = (json!([list[0]]), json!([list[1]]));
    let both = row(json!({"prompt": prompt, "completion": completion}), "text").unwrap();
    let text =
        json!({"prompt": prompt.to_string(), "completion": completion.to_string(), "chat_template_kwargs": "{}"});
    assert_eq!(row(text, "text").unwrap(), both);
    // One of the two is not enough: it may be a task about JSON.
    let Row::PromptCompletion(half) = row(json!({"prompt": prompt.to_string(), "completion": "x"}), "text").unwrap()
    else {
        panic!()
    };
    assert_eq!(half.prompt, Turn::Text(prompt.to_string()));

    let columns = RowColumns::Messages("messages".to_owned());
    for (text, expected) in [
        ("[{\"role\":", "f, row 2: column `messages` holds a text, not a list of messages"),
        ("{\"role\": \"user\"}", "f, row 2: column `messages` holds a text, not a list of messages"),
        ("[1]", "f, row 2: message 1 of column `messages` is a number, not an object"),
    ] {
        let record = Record::from_iter([("messages".to_owned(), Value::from(text))]);
        let error = message(&columns.row(record, Path::new("f"), Position::Row(2)).unwrap_err());
        assert!(error.starts_with(expected), "{error}");
    }
    for text in ["", " ", "null", "[]"] {
        let record = Record::from_iter([("messages".to_owned(), Value::from(text))]);
        assert_eq!(columns.row(record, Path::new("f"), Position::Row(2)).unwrap(), Row::from(Conversation::default()));
    }
}

#[test]
fn content_is_text_or_parts_or_nothing() {
    let with = |content: Value| chat(json!({"messages": [{"role": "user", "content": content}]}));
    for content in [json!("a"), json!(null), json!([{"type": "text", "text": "a"}])] {
        assert!(with(content).is_ok());
    }
    assert!(chat(json!({"messages": [{"role": "assistant", "tool_calls": [{}]}]})).is_ok());
    let error = with(json!(3)).unwrap_err();
    assert_eq!(error, "f, line 7: message 1 of column `messages` has a number as its `content`: 3; write it as text");
    let error = chat(json!({"conversations": [{"from": "gpt", "value": true}]})).unwrap_err();
    assert!(error.ends_with("has a boolean as its `value`: true; write it as text"), "{error}");
    let error = chat(json!({"messages": [{"role": 3, "content": "a"}]})).unwrap_err();
    assert!(error.ends_with("has a number as its `role`, not a text"), "{error}");
    let error = chat(json!({"messages": [null]})).unwrap_err();
    assert!(error.contains("message 1 of column `messages` is nothing, not an object"), "{error}");
}

#[test]
fn tools_are_a_list_of_schemas() {
    let with = |tools: Value| chat(json!({"messages": [{"role": "user", "content": "a"}], "tools": tools}));
    assert_eq!(with(json!("")).unwrap().context.tools, None);
    assert_eq!(with(json!("null")).unwrap().context.tools, None);
    assert_eq!(with(json!([])).unwrap().context.tools, Some(json!([])));
    let error = with(json!({"name": "f"})).unwrap_err();
    assert_eq!(error, "f, line 7: column `tools` holds an object, not a list of tools");
    let error = with(json!("[\"f\"]")).unwrap_err();
    assert!(error.contains("tool 1 of column `tools` is a text, not an object"), "{error}");
}

#[test]
fn advice_is_never_to_train_on_one_half() {
    let advice =
        |names: &[&str]| advice(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), &Record::new());
    for (columns, expected) in [
        (
            &["instruction", "input", "output"][..],
            "they look like questions and answers (Alpaca): write a file with `instruction` with `input` as `prompt` and `output` as `completion`",
        ),
        (&["question", "answer"], "they look like questions and answers: write a file with `question` as `prompt`"),
        (&["query", "response", "id"], "they look like questions and answers"),
        (&["prompt", "chosen", "rejected"], "`chosen` and `rejected` are preferences"),
        (&["text_a", "text_b", "label"], "`text_a` and `text_b` look like inputs of a classifier"),
        (&["prompt", "id"], "there is a `prompt` but no `completion`"),
        (&["completion"], "there is a `completion` but no `prompt`"),
        (&["input_ids", "attention_mask"], "`input_ids` holds token ids"),
        (&["dialogue"], "if `dialogue` holds lists of messages, name it with `dataset_text_field`"),
    ] {
        let advice = advice(columns);
        assert!(advice.starts_with(expected), "{advice}");
        assert_eq!(advice.contains("dataset_text_field"), columns == ["dialogue"], "{advice}");
    }
    let sample = Record::from_iter([("messages".to_owned(), Value::from("[{'role': 'user', 'content': 'Hi'}]"))]);
    let advice = super::advice(&["messages".to_owned()], &sample);
    assert!(advice.starts_with("`messages` holds text that is not JSON of a list of messages"), "{advice}");
    assert!(advice.contains("json.dumps"), "{advice}");
}

#[test]
fn messages_may_say_whether_they_count() {
    let with = |key: &str, value: &Value| {
        let role = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", key: value}]);
        let from = json!([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", key: value}]);
        [chat(json!({"messages": role})), chat(json!({"messages": from}))]
    };
    for (key, value) in [
        ("weight", json!(0)),
        ("weight", json!(0.0)),
        ("weight", json!(1)),
        ("weight", json!(null)),
        ("train", json!(false)),
        ("train", json!(true)),
        ("loss", json!(false)),
        ("loss", json!("x")),
    ] {
        for read in with(key, &value) {
            assert_eq!(read.unwrap().messages[1][key], value, "{key}: {value}");
        }
    }
    for (key, value, expected) in [
        ("weight", json!(0.5), "has `weight`: 0.5, but a message counts with 0 or 1; use one of them"),
        ("weight", json!("0"), "has `weight`: \"0\", but a message counts with 0 or 1; use one of them"),
        ("weight", json!(true), "has `weight`: true, but a message counts with 0 or 1; use one of them"),
        ("train", json!(0), "has `train`: 0, not true or false"),
        ("train", json!("no"), "has `train`: \"no\", not true or false"),
    ] {
        for read in with(key, &value) {
            assert_eq!(read.unwrap_err(), format!("f, line 7: message 2 of column `messages` {expected}"));
        }
    }
    let both = json!([{"role": "assistant", "content": "b", "weight": 0, "train": true}]);
    assert!(chat(json!({"messages": both})).unwrap_err().contains("says both that it counts and that it does not"));
}
