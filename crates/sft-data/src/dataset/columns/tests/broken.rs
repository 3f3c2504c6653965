//! Rows that are broken, each with the line that says so. A row is refused when it is read or when
//! it is prepared, or it is counted as dropped; it is never learnt as something else.

use crate::testing::{message, tokenizer, tokenizer_with_template};
use crate::{
    DatasetConfig, DatasetFormat, Error, Evaluation, LocalFiles, PrepareConfig, PrepareReport, TrainOn, load_splits,
    prepare,
};
use serde_json::{Value, json};
use std::fs;

/// A good row that comes first, the broken one, and a part of the message.
type Case = (Option<Value>, Value, &'static str);

fn run(good: &Option<Value>, broken: &Value, change: impl Fn(&mut DatasetConfig)) -> Result<PrepareReport, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.jsonl");
    let lines: Vec<String> = good.iter().chain([broken]).map(ToString::to_string).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    let mut config = DatasetConfig {
        dataset_name: path.to_string_lossy().into_owned(),
        evaluation: Evaluation::Off,
        ..DatasetConfig::default()
    };
    change(&mut config);
    let described = |error: Error| message(&error).replace(&*path.to_string_lossy(), "f");
    let rows = load_splits(&config, &LocalFiles).map_err(described)?.train;
    let prepared = prepare(rows, &tokenizer("qwen"), &PrepareConfig::default()).map_err(described)?;
    Ok(prepared.report)
}

fn user() -> Value {
    json!({"role": "user", "content": "Hi"})
}

fn chat() -> Option<Value> {
    Some(json!({"messages": [user(), {"role": "assistant", "content": "Hello"}]}))
}

fn with_chat(messages: Value, expected: &'static str) -> Case {
    (chat(), json!({"messages": messages}), expected)
}

fn after(message: Value, expected: &'static str) -> Case {
    with_chat(json!([user(), message]), expected)
}

fn alpaca(row: Value, expected: &'static str) -> Case {
    (Some(json!({"instruction": "a", "output": "b", "input": "", "history": [], "system": ""})), row, expected)
}

fn ids(row: Value, expected: &'static str) -> Case {
    (Some(json!({"input_ids": [5, 6, 7]})), row, expected)
}

fn chosen(row: Value, expected: &'static str) -> Case {
    (Some(json!({"prompt": "a", "chosen": "b", "rejected": "c"})), row, expected)
}

fn pair(row: Value, expected: &'static str) -> Case {
    (Some(json!({"prompt": "a", "completion": "b"})), row, expected)
}

#[test]
fn every_broken_row_is_refused_in_one_line_that_says_where_and_what() {
    let call = |call: Value| json!({"role": "assistant", "content": "", "tool_calls": call});
    let cases: Vec<Case> = vec![
        // Messages.
        with_chat(json!("Hi"), "line 2: column `messages` holds a text, not a list of messages"),
        with_chat(json!(7), "line 2: column `messages` holds a number, not a list"),
        with_chat(json!({"role": "user"}), "line 2: column `messages` holds an object, not a list"),
        with_chat(json!(["Hi"]), "line 2: message 1 of column `messages` is a text, not an object"),
        with_chat(json!([null]), "message 1 of column `messages` is nothing, not an object"),
        with_chat(json!([[user()]]), "message 1 of column `messages` is a list, not an object"),
        with_chat(json!([{}]), "message 1 of column `messages` has no `role`"),
        after(json!({"content": "a"}), "line 2: message 2 of column `messages` has no `role`; it has content"),
        after(json!({"role": null, "content": "a"}), "message 2 of column `messages` has no `role`"),
        after(json!({"role": 1, "content": "a"}), "has a number as its `role`, not a text"),
        after(json!({"role": ["user"], "content": "a"}), "has a list as its `role`, not a text"),
        after(json!({"role": "assistant", "content": 5}), "has a number as its `content`: 5; write it as text"),
        after(json!({"role": "assistant", "content": true}), "has a boolean as its `content`: true"),
        after(
            json!({"role": "assistant", "content": [{"type": "image"}]}),
            "a part of the content is of type \"image\"",
        ),
        after(json!({"role": "assistant", "content": [{"type": "text"}]}), "a part of the content has no text"),
        after(json!({"role": "assistant", "content": [5]}), "a part of the content has no text"),
        after(json!({"from": "robot", "value": "a"}), "is from \"robot\", which is no known role of ShareGPT"),
        after(json!({"from": 3, "value": "a"}), "has a number as its `from`, not a text"),
        after(json!({"from": "gpt", "role": "user", "value": "a"}), "has both `from` and `role`"),
        after(json!({"from": "function_call", "value": "no"}), "is a function_call that is not JSON"),
        // What counts.
        after(json!({"role": "assistant", "content": "a", "weight": 0.5}), "has `weight`: 0.5"),
        after(json!({"role": "assistant", "content": "a", "weight": -1}), "has `weight`: -1"),
        after(json!({"role": "assistant", "content": "a", "weight": "0"}), "has `weight`: \"0\""),
        after(json!({"role": "assistant", "content": "a", "weight": [1]}), "has `weight`: [1]"),
        after(json!({"role": "assistant", "content": "a", "train": 1}), "has `train`: 1, not true or false"),
        after(json!({"role": "assistant", "content": "a", "train": "yes"}), "has `train`: \"yes\", not true or false"),
        after(json!({"role": "assistant", "content": "a", "weight": 1, "loss": false}), "says both that it counts"),
        with_chat(
            json!([{"role": "user", "content": "a", "weight": 1}, {"role": "assistant", "content": "b", "weight": 0}]),
            "row 2: completion_only_loss: message 1 counts in the loss by its own `weight` or `train`",
        ),
        // Tools.
        with_chat(json!([{"role": "tool", "content": "1"}]), "message 1 of column `messages` is the result of a tool"),
        with_chat(json!([user(), {"role": "tool", "content": "1"}]), "but no message before it calls one"),
        with_chat(
            json!([
                user(),
                call(json!([{"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}])),
                {"role": "tool", "tool_call_id": "b", "content": "1"}
            ]),
            "message 3 of column `messages` has the `tool_call_id` \"b\", which no call before it has",
        ),
        after(call(json!("f()")), "has a text as its `tool_calls`, not a list"),
        after(call(json!(["f"])), "has `tool_calls` that are no objects"),
        after(
            call(json!([{"function": {"name": "lake_depth", "arguments": {}}}])),
            "leaves out the tool calls of message 2",
        ),
        after(json!({"role": "assistant", "function_call": {"arguments": "{}"}}), "a `function_call` without a `name`"),
        after(
            json!({"role": "assistant", "function_call": {"name": "f"}, "tool_calls": [{}]}),
            "has both `tool_calls` and `function_call`",
        ),
        (chat(), json!({"messages": [user()], "tools": {"name": "f"}}), "column `tools` holds an object"),
        (chat(), json!({"messages": [user()], "tools": "[1"}), "column `tools` is not JSON"),
        (chat(), json!({"messages": [user()], "tools": ["f"]}), "tool 1 of column `tools` is a text"),
        (chat(), json!({"messages": [user()], "functions": "f"}), "column `functions` is not JSON"),
        (chat(), json!({"messages": [user()], "functions": {}}), "column `functions` holds an object"),
        (
            chat(),
            json!({"messages": [user()], "functions": [{"name": "f"}], "tools": [{"name": "f"}]}),
            "has both `tools`",
        ),
        (chat(), json!({"messages": [user()], "chat_template_kwargs": [1]}), "`chat_template_kwargs` holds a list"),
        // Several formats in one file.
        (
            chat(),
            json!({"prompt": "a", "completion": "b"}),
            "line 1: has no `prompt` or `completion`, which other rows have, but `messages`",
        ),
        (chat(), json!({"text": "a"}), "line 2: has no `messages`, which other rows have, but `text`"),
        (
            chat(),
            json!({"conversations": [{"from": "human", "value": "a"}]}),
            "which other rows have, but `conversations`",
        ),
        pair(
            json!({"messages": [user()]}),
            "line 2: has no `prompt` or `completion`, which other rows have, but `messages`",
        ),
        (
            Some(json!({"text": "a"})),
            json!({"instruction": "a", "output": "b"}),
            "line 2: has no `text`, which other rows have, but `instruction` and `output`",
        ),
        // Prompt and completion.
        pair(json!({"prompt": "a", "completion": [user()]}), "row 2: one of prompt and completion is text"),
        pair(json!({"prompt": [user()], "completion": "a"}), "row 2: one of prompt and completion is text"),
        pair(json!({"prompt": 1, "completion": "a"}), "column `prompt` holds a number, not a text or messages"),
        pair(json!({"prompt": "a", "completion": {"a": 1}}), "column `completion` holds an object"),
        // Alpaca.
        alpaca(json!({"instruction": 1, "output": "b"}), "line 2: column `instruction` holds a number, not a text"),
        alpaca(json!({"instruction": "a", "output": ["b", "c"]}), "column `output` holds a list, not a text"),
        alpaca(json!({"instruction": "a", "output": "b", "input": {}}), "column `input` holds an object, not a text"),
        alpaca(json!({"instruction": "a", "output": "b", "system": []}), "column `system` holds a list, not a text"),
        alpaca(
            json!({"instruction": "a", "output": "b", "history": {}}),
            "column `history` holds an object; it is a list of pairs",
        ),
        alpaca(json!({"instruction": "a", "output": "b", "history": ["c"]}), "column `history` holds a text as a turn"),
        alpaca(
            json!({"instruction": "a", "output": "b", "history": [["c"]]}),
            "column `history` holds a turn of 1 parts",
        ),
        alpaca(
            json!({"instruction": "a", "output": "b", "history": [["c", 1]]}),
            "holds a pair of a text and a number",
        ),
        alpaca(json!({"instruction": "a", "output": "b", "history": "[["}), "column `history` is not JSON"),
        // Token ids.
        ids(json!({"input_ids": "5 6"}), "line 2: column `input_ids` holds a text, not a list of numbers"),
        ids(json!({"input_ids": [5, -6]}), "column `input_ids` holds -6, which is no token id"),
        ids(json!({"input_ids": [5, 6.5]}), "column `input_ids` holds 6.5, which is no token id"),
        ids(json!({"input_ids": [5, 99999999999u64]}), "column `input_ids` holds 99999999999, which is no token id"),
        ids(json!({"input_ids": [5, "6"]}), "column `input_ids` holds \"6\", which is no token id"),
        ids(json!({"input_ids": [[5, 6]]}), "which is no token id"),
        ids(json!({"input_ids": [5, 6], "labels": [5]}), "column `labels` has 1 entries and `input_ids` has 2"),
        ids(json!({"input_ids": [5, 6], "labels": [6, -100]}), "label 1 of column `labels` is 6 and its token is 5"),
        ids(json!({"input_ids": [5, 6], "labels": [5, null]}), "label 2 of column `labels` is null"),
        ids(json!({"input_ids": [5, 6], "labels": "5"}), "column `labels` holds a text, not a list of numbers"),
        ids(json!({"input_ids": [5, 6], "completion_mask": [0, 2]}), "column `completion_mask` holds 2, not 0 or 1"),
        ids(json!({"input_ids": [5, 6], "assistant_masks": [1]}), "column `assistant_masks` has 1 entries"),
        ids(
            json!({"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]}),
            "column `attention_mask` has a 0 between two 1s",
        ),
        (
            Some(json!({"input_ids": [5, 6], "seq_lengths": [2]})),
            json!({"input_ids": [5, 6], "seq_lengths": [1, 1]}),
            "line 1: column `seq_lengths` says that rows are packed",
        ),
        // Preferences.
        chosen(json!({"prompt": "a", "chosen": null, "rejected": "c"}), "line 2: has nothing in column `chosen`"),
        chosen(json!({"chosen": "b", "rejected": null}), "has no `prompt` and nothing in column `rejected`"),
        chosen(json!({"chosen": "b", "rejected": "b"}), "has the same in `chosen` and `rejected`"),
        chosen(json!({"chosen": "b", "rejected": [user()]}), "has text in one of `chosen` and `rejected`"),
        chosen(json!({"chosen": 3, "rejected": "b"}), "column `chosen` holds a number"),
        chosen(
            json!({"chosen": [user()], "rejected": [{"role": "user", "content": "other"}]}),
            "`chosen` and `rejected` start with different messages",
        ),
    ];
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut wrong = Vec::new();
    for (good, broken, expected) in &cases {
        match run(good, broken, |_| ()) {
            Err(found) if found.contains(expected) && found.len() < 400 => {}
            found => wrong.push(format!("{broken}\n  expected {expected}\n  found {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rows_that_say_nothing_are_dropped_and_counted() {
    for (good, empty) in [
        (chat(), json!({"messages": []})),
        (chat(), json!({"messages": null})),
        (chat(), json!({"id": 1})),
        (chat(), json!({"messages": "[]"})),
        (Some(json!({"text": "word"})), json!({"text": ""})),
        (Some(json!({"prompt": "a", "completion": "b"})), json!({"prompt": "a", "completion": ""})),
        (Some(json!({"prompt": "a", "completion": "b"})), json!({"prompt": "a", "completion": null})),
        (Some(json!({"instruction": "a", "output": "b"})), json!({"instruction": "a", "output": ""})),
        (Some(json!({"input_ids": [5, 6]})), json!({"input_ids": []})),
        (Some(json!({"input_ids": [5, 6], "labels": [5, 6]})), json!({"input_ids": [5, 6], "labels": [5, -100]})),
        (
            Some(json!({"messages": [user(), {"role": "assistant", "content": "Hello", "weight": 1}]})),
            json!({"messages": [user(), {"role": "assistant", "content": "Hello", "weight": 0}]}),
        ),
    ] {
        let report = run(&good, &empty, |_| ()).unwrap_or_else(|error| panic!("{empty}: {error}"));
        assert_eq!((report.rows, report.kept, report.dropped_empty), (2, 1, 1), "{empty}");
    }
}

#[test]
fn a_format_or_a_template_that_does_not_fit_the_columns_is_refused() {
    let text = Some(json!({"text": "word", "n": 1}));
    for (format, expected) in [
        (
            DatasetFormat::Alpaca,
            "f: `dataset_format` is alpaca, which needs `instruction` and `output`; columns are text, n",
        ),
        (DatasetFormat::Tokenized, "`dataset_format` is tokenized, which needs `input_ids`"),
        (DatasetFormat::Messages, "`dataset_format` is messages, which needs `messages`"),
        (DatasetFormat::Preference, "`dataset_format` is preference, which needs `chosen` and `rejected`"),
    ] {
        let error = run(&text, &json!({"text": "a"}), |config| config.dataset_format = Some(format)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    for (template, expected) in [
        ("{{ txt }}", "text_template = \"{{ txt }}\": there is no column `txt`; columns are text, n"),
        ("{{ text", "chat template, parsing `text_template`"),
        ("{% if %}", "chat template, parsing `text_template`"),
        ("{{ 'word' }}", "it names no column; write a column as {{ column }}"),
        ("no/such/file.jinja", "no/such/file.jinja: cannot be read"),
        ("{{ text + n }}", "line 1: `text_template`: chat template, given a row"),
        ("{{ raise_exception(text) }}", "line 1: `text_template`: chat template, given a row: invalid operation: word"),
    ] {
        let error = run(&text, &json!({"text": "a"}), |config| config.text_template = Some(template.to_owned()));
        let error = error.unwrap_err();
        assert!(error.contains(expected), "{template}: {error}");
    }
    let both = run(&text, &json!({"text": "a"}), |config| {
        config.text_template = Some("{{ text }}".to_owned());
        config.dataset_format = Some(DatasetFormat::Text);
    });
    assert!(both.unwrap_err().contains("leave one of them out"));
}

#[test]
fn what_is_to_count_must_be_there() {
    let rows = |row: Value| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.jsonl");
        fs::write(&path, row.to_string()).unwrap();
        let dataset_name = path.to_string_lossy().into_owned();
        let config = DatasetConfig { dataset_name, evaluation: Evaluation::Off, ..DatasetConfig::default() };
        load_splits(&config, &LocalFiles).unwrap().train
    };
    let history = json!({"instruction": "a", "output": "b", "history": [["c", "d"]]});
    let weights = json!({"messages": [user(), {"role": "assistant", "content": "b", "weight": 0}]});
    for (row, train_on, expected) in [
        (json!({"text": "a"}), TrainOn::Last, "row 1: train_on: this row is plain text"),
        (json!({"text": "a"}), TrainOn::Completion, "row 1: train_on: only completions are to count"),
        (json!({"messages": [user()]}), TrainOn::Completion, "row 1: train_on: only completions are to count"),
        (json!({"prompt": "a", "completion": "b"}), TrainOn::Assistant, "row 1: train_on: this row is plain text"),
        (
            json!({"input_ids": [5, 6]}),
            TrainOn::Assistant,
            "row 1: train_on: this row is token ids without `assistant_masks`",
        ),
        (
            json!({"input_ids": [5, 6]}),
            TrainOn::Completion,
            "row 1: train_on: this row is token ids without a `completion_mask`",
        ),
        (json!({"input_ids": [5, 6]}), TrainOn::Last, "row 1: train_on: this row is token ids, which have no turns"),
        (weights, TrainOn::All, "row 1: train_on: every token is to count, but a message says that it does not"),
    ] {
        let config = PrepareConfig { train_on: Some(train_on), ..PrepareConfig::default() };
        let error = message(&prepare(rows(row), &tokenizer("qwen"), &config).unwrap_err());
        assert!(error.starts_with(expected), "{error}");
    }
    let no_template = crate::testing::tokenizer_without_template("qwen");
    let error = message(&prepare(rows(history), &no_template, &PrepareConfig::default()).unwrap_err());
    assert!(error.contains("this Alpaca row has a history, which needs a chat template"), "{error}");
    // One block for two messages: whose weight is it?
    let one_block = "{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}{% endgeneration %}";
    let two = json!({"messages": [
        {"role": "assistant", "content": "a", "weight": 0}, {"role": "assistant", "content": "b", "weight": 1}
    ]});
    let tokenizer = tokenizer_with_template("qwen", one_block);
    let error = message(&prepare(rows(two), &tokenizer, &PrepareConfig::default()).unwrap_err());
    assert!(error.contains("has not one {% generation %} block for each message"), "{error}");
}
