use super::*;
use crate::testing::message;
use serde_json::json;

fn row(record: Value, text_field: &str) -> Result<Row, String> {
    let Value::Object(record) = record else { unreachable!() };
    let columns: Vec<String> = record.keys().cloned().collect();
    let row_columns = RowColumns::detect(&columns, &record, text_field).ok_or("no columns")?;
    row_columns.row(record, Path::new("f"), Position::Line(7)).map_err(|error| message(&error))
}

#[test]
fn columns_are_chosen_in_trls_order() {
    let chat = json!([{"role": "user", "content": "Hi"}]);
    let Value::Array(messages) = chat.clone() else { unreachable!() };
    assert_eq!(row(json!({"text": "a", "id": 1}), "text").unwrap(), Row::Text("a".to_owned()));
    let as_chat = Row::Messages(Conversation::from(messages.clone()));
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
    assert_eq!(found, Row::Messages(Conversation::default()));
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
