mod formats;

use super::*;
use crate::testing::{golden, message, numbers, progress_of, spans_of, tokenizer, tokenizer_with_template};
use crate::{Conversation, PromptCompletion, Turn};
use serde_json::{Value, json};

fn row(value: &Value) -> Row {
    let turn = |value: &Value| match value {
        Value::String(text) => Turn::Text(text.clone()),
        messages => Turn::Messages(messages.as_array().unwrap().clone()),
    };
    if let Some(text) = value.get("text") {
        Row::Text(text.as_str().unwrap().to_owned())
    } else if let Some(messages) = value.get("messages") {
        Row::from(Conversation::from(messages.as_array().unwrap().clone()))
    } else {
        Row::PromptCompletion(Box::new(PromptCompletion {
            prompt: turn(&value["prompt"]),
            completion: turn(&value["completion"]),
            context: Default::default(),
        }))
    }
}

fn config_of(case: &Value) -> PrepareConfig {
    let config = &case["config"];
    let strategy = &config["packing_strategy"];
    PrepareConfig {
        max_length: config["max_length"].as_u64().map(|length| length as usize),
        packing: config["packing"].as_bool().unwrap_or(false),
        packing_strategy: match strategy.is_null() {
            true => PackingStrategy::default(),
            false => serde_json::from_value(strategy.clone()).unwrap(),
        },
        assistant_only_loss: config["assistant_only_loss"].as_bool().unwrap_or(false),
        completion_only_loss: config["completion_only_loss"].as_bool(),
        ..PrepareConfig::default()
    }
}

#[test]
fn examples_equal_those_of_trl() {
    for (number, case) in golden("prepare.json").as_array().unwrap().iter().enumerate() {
        let name = case["tokenizer"].as_str().unwrap();
        let tokenizer = match case["template"].as_str() {
            Some(template) => tokenizer_with_template(name, template),
            None => tokenizer(name),
        };
        let rows: Vec<Row> = case["rows"].as_array().unwrap().iter().map(row).collect();
        let config = config_of(case);
        let prepared = prepare(&rows, &tokenizer, &config).unwrap();
        let expected = case["examples"].as_array().unwrap();
        assert_eq!(prepared.examples.len(), expected.len(), "case {number}: {config:?}");
        for (index, (found, expected)) in prepared.examples.iter().zip(expected).enumerate() {
            let what = format!("case {number}, example {index}: {config:?}");
            assert_eq!(found.input_ids, numbers::<u32>(&expected["input_ids"]), "{what}");
            let labels: Vec<i64> = found.label_ids().collect();
            let expected_labels: Vec<i64> = serde_json::from_value(expected["labels"].clone()).unwrap();
            assert_eq!(labels, expected_labels, "{what}");
            if let Some(lengths) = expected.get("seq_lengths") {
                assert_eq!(found.segment_lengths, numbers::<u32>(lengths), "{what}");
            }
        }
    }
}

#[test]
fn templates_with_and_without_generation_blocks_give_the_same_mask() {
    let rows = [row(&json!({"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello! 🙂"}, {"role": "user", "content": "今天?"},
        {"role": "assistant", "content": "好"}
    ]}))];
    let config = PrepareConfig { assistant_only_loss: true, ..PrepareConfig::default() };
    let marked = prepare(&rows, &tokenizer_with_template("qwen", "generation"), &config).unwrap();
    let unmarked = prepare(&rows, &tokenizer("qwen"), &config).unwrap();
    assert_eq!(marked, unmarked);
    let labels = unmarked.examples[0].label_ids();
    let num_eos = labels.filter(|&label| label == i64::from(tokenizer("qwen").eos_token_id())).count();
    assert_eq!(num_eos, 2, "EOS is learned after each turn of the assistant, and after no other");
}

#[test]
fn rows_are_counted() {
    let rows: Vec<Row> = [
        json!({"text": "The harbour lights came on one after another."}),
        json!({"text": ""}),
        json!({"text": "a"}),
        json!({"messages": []}),
        json!({"prompt": "The harbour lights came on one after another.", "completion": "x"}),
        json!({"prompt": "a", "completion": ""}),
    ]
    .iter()
    .map(row)
    .collect();
    let config = PrepareConfig { max_length: Some(8), ..PrepareConfig::default() };
    let Prepared { examples, report } = prepare(&rows, &tokenizer("qwen"), &config).unwrap();
    assert_eq!((report.rows, report.kept, report.examples), (6, 2, 2));
    assert_eq!((report.dropped_empty, report.dropped_truncated), (3, 1));
    assert_eq!(report.truncated, 1);
    let whole = prepare(&rows[..1], &tokenizer("qwen"), &PrepareConfig::default()).unwrap().report.tokens;
    assert_eq!(report.truncated_tokens, whole - 8);
    assert_eq!(report.tokens, 8 + 2);
    assert_eq!(report.target_tokens, 7 + 1);
    assert_eq!(examples[1].segment_lengths, [2]);
    assert_eq!([&examples[0].rows, &examples[1].rows], [&[1], &[3]], "rows are numbered before any is dropped");
}

#[test]
fn nothing_left_is_an_error() {
    let config = PrepareConfig::default();
    let error = prepare(&[Row::Text(String::new())], &tokenizer("qwen"), &config).unwrap_err();
    assert!(message(&error).starts_with("the only row is not left to train on: it has no text"), "{error}");
    assert!(prepare(&[], &tokenizer("qwen"), &config).is_err());
}

#[test]
fn the_first_bad_row_is_named() {
    let bad = row(&json!({"messages": [{"role": "assistant", "content": "I go first."}]}));
    let rows = [Row::Text("fine".to_owned()), bad.clone(), bad];
    let error = prepare(&rows, &tokenizer("llama"), &PrepareConfig::default()).unwrap_err();
    assert!(message(&error).starts_with("row 2: chat template, given 1 message"), "{}", message(&error));
    let mixed = row(&json!({"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}));
    let error = prepare(&[mixed], &tokenizer("qwen"), &PrepareConfig::default()).unwrap_err();
    assert!(message(&error).starts_with("row 1: one of prompt and completion is text"), "{}", message(&error));
    let config = PrepareConfig { assistant_only_loss: true, ..PrepareConfig::default() };
    let error = prepare(&[Row::Text("plain".to_owned())], &tokenizer("qwen"), &config).unwrap_err();
    assert!(message(&error).contains("assistant_only_loss: this row is plain text"), "{}", message(&error));
}

#[test]
fn impossible_configurations_are_refused() {
    for (config, expected) in [
        (PrepareConfig { max_length: Some(1), ..PrepareConfig::default() }, "max_length = 1: at least 2"),
        (
            PrepareConfig {
                max_length: None,
                packing: true,
                packing_strategy: PackingStrategy::Wrapped,
                ..PrepareConfig::default()
            },
            "max_length = none: a number of tokens",
        ),
    ] {
        let error = prepare(&[Row::Text("a".to_owned())], &tokenizer("qwen"), &config).unwrap_err();
        assert!(message(&error).starts_with(expected), "{error}");
    }
    assert!(serde_json::from_value::<PrepareConfig>(json!({"max_lenght": 3})).is_err());
    let config: PrepareConfig =
        serde_json::from_value(json!({"packing": true, "packing_strategy": "bfd_split"})).unwrap();
    assert_eq!(
        (config.packing, config.packing_strategy, config.max_length),
        (true, PackingStrategy::BestFitDecreasingSplit, Some(1024))
    );
    let all_wrong = PrepareConfig {
        max_length: Some(0),
        packing: true,
        assistant_only_loss: true,
        completion_only_loss: Some(true),
        ..PrepareConfig::default()
    };
    let Err(Error::Config { problems }) = all_wrong.validate() else { panic!("accepted") };
    let fields: Vec<(&str, &str)> = problems.iter().map(|problem| (problem.field, problem.value.as_str())).collect();
    assert_eq!(fields, [("max_length", "0"), ("completion_only_loss", "true")]);
}

#[test]
fn a_length_of_zero_is_no_limit() {
    let rows = [Row::Text("The harbour lights came on one after another.".repeat(100))];
    let config = |max_length| PrepareConfig { max_length, ..PrepareConfig::default() };
    let unlimited = prepare(&rows, &tokenizer("qwen"), &config(None)).unwrap();
    assert!(unlimited.report.tokens > 1024);
    assert_eq!(prepare(&rows, &tokenizer("qwen"), &config(Some(0))).unwrap(), unlimited);
    config(Some(0)).validate().unwrap();
}

#[test]
fn huge_rows_are_prepared_in_reasonable_time() {
    let huge =
        [Row::Text("word ".repeat(1_000_000)), Row::Text("好".repeat(300_000)), Row::Text("x".repeat(1_000_000))];
    let started = std::time::Instant::now();
    let Prepared { examples, report } = prepare(&huge, &tokenizer("qwen"), &PrepareConfig::default()).unwrap();
    assert_eq!((report.kept, report.truncated), (3, 3));
    assert!(examples.iter().all(|example| example.input_ids.len() == 1024 && example.input_ids.capacity() < 4096));
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn tokenizing_is_a_span() {
    let rows = [Row::Text("plain".to_owned()), Row::Text("text".to_owned())];
    let tokenizer = tokenizer("qwen");
    assert_eq!(spans_of(|| prepare(&rows, &tokenizer, &PrepareConfig::default()).unwrap()), ["tokenize rows=2"]);
}

#[test]
fn progress_is_told_and_ends_with_all_rows() {
    let rows = vec![Row::from("plain text"); 3];
    let tokenizer = tokenizer("qwen");
    let told = progress_of(|| prepare(rows, &tokenizer, &PrepareConfig::default()).unwrap());
    assert_eq!(told, [(3, 3)]);
}

#[test]
fn rows_that_are_given_away_become_the_same_examples() {
    let rows = vec![Row::from("The harbour lights came on."), Row::from(""), Row::from("Boats left.")];
    let tokenizer = tokenizer("qwen");
    let borrowed = prepare(&rows, &tokenizer, &PrepareConfig::default()).unwrap();
    assert_eq!(prepare(rows, &tokenizer, &PrepareConfig::default()).unwrap(), borrowed);
}

#[test]
fn labels_take_bytes_for_each_turn_and_not_for_each_token() {
    let row = row(&json!({"prompt": "Tell me a story.", "completion": "Once upon a time. ".repeat(500)}));
    let config = PrepareConfig { max_length: None, ..PrepareConfig::default() };
    let prepared = prepare(&[row], &tokenizer("qwen"), &config).unwrap();
    let example = &prepared.examples[0];
    assert!(example.input_ids.len() > 1000);
    let ranges = example.labels.as_ref().unwrap().ranges();
    assert_eq!(ranges.len(), 1);
    assert_eq!(std::mem::size_of_val(ranges), 8);
    assert_eq!(ranges[0].end as usize, example.input_ids.len());
}

#[test]
fn the_assistant_in_the_prompt_counts_only_if_asked_for() {
    let row = row(&json!({
        "prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "x"}],
        "completion": [{"role": "assistant", "content": "Bye"}]
    }));
    let num_turns = |completion_only_loss| {
        let config = PrepareConfig { assistant_only_loss: true, completion_only_loss, ..PrepareConfig::default() };
        prepare(std::slice::from_ref(&row), &tokenizer("qwen"), &config).unwrap().examples[0]
            .labels
            .as_ref()
            .unwrap()
            .ranges()
            .len()
    };
    assert_eq!((num_turns(None), num_turns(Some(false))), (1, 2));
}

#[test]
fn null_is_no_limit() {
    let config: PrepareConfig = serde_json::from_value(json!({"max_length": null})).unwrap();
    assert_eq!(config.max_length, None);
}

#[test]
fn long_rows_are_cut_at_either_end_dropped_or_split() {
    let words = "one two three four five six seven eight nine ten eleven twelve";
    let rows = [Row::from("a b"), Row::from(words)];
    let tokenizer = tokenizer("qwen");
    let whole = prepare(&rows, &tokenizer, &PrepareConfig::default()).unwrap().examples;
    let ids = &whole[1].input_ids;
    let with = |truncation_mode| {
        let config = PrepareConfig { max_length: Some(8), truncation_mode, ..PrepareConfig::default() };
        prepare(&rows, &tokenizer, &config).unwrap()
    };
    let kept = |mode| with(mode).examples.into_iter().map(|example| example.input_ids).collect::<Vec<_>>();
    assert_eq!(kept(TruncationMode::KeepStart)[1], ids[..8]);
    assert_eq!(kept(TruncationMode::KeepEnd)[1], ids[ids.len() - 8..]);

    let Prepared { examples, report } = with(TruncationMode::Drop);
    assert_eq!((report.kept, report.dropped_too_long, report.truncated, examples.len()), (1, 1, 0, 1));

    let Prepared { examples, report } = with(TruncationMode::Split);
    assert_eq!((report.kept, report.split, report.truncated, report.truncated_tokens), (2, 1, 0, 0));
    let pieces: Vec<u32> = examples[1..].iter().flat_map(|example| example.input_ids.clone()).collect();
    let alone = ids.len() % 8 == 1;
    assert_eq!(pieces, ids[..ids.len() - usize::from(alone)], "a piece of one token predicts nothing");
    assert_eq!(report.split_left_out_tokens, usize::from(alone));
    assert!(examples[1..].iter().all(|example| example.rows == [2] && example.input_ids.len() <= 8));

    let all_too_long =
        PrepareConfig { max_length: Some(2), truncation_mode: TruncationMode::Drop, ..PrepareConfig::default() };
    let error = message(&prepare(&rows[1..], &tokenizer, &all_too_long).unwrap_err());
    assert!(error.contains("`max_length` cuts off every token to learn"), "{error}");
}

#[test]
fn an_answer_that_is_cut_off_entirely_is_dropped_and_counted() {
    let row = |answer: &str| row(&json!({"prompt": "one two three four five six seven eight", "completion": answer}));
    let rows = [row("nine"), row("nine ten"), Row::from("kept as it is")];
    let with = |truncation_mode| {
        let config = PrepareConfig { max_length: Some(12), truncation_mode, ..PrepareConfig::default() };
        prepare(&rows, &tokenizer("qwen"), &config).unwrap().report
    };
    assert_eq!((with(TruncationMode::KeepStart).dropped_truncated, with(TruncationMode::KeepStart).kept), (2, 1));
    assert_eq!((with(TruncationMode::KeepEnd).dropped_truncated, with(TruncationMode::KeepEnd).kept), (0, 3));
}

#[test]
fn reasoning_in_a_key_of_its_own_is_kept_masked_or_dropped() {
    let template = "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}\
                    {{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    let chat = row(&json!({"messages": [
        {"role": "user", "content": "1+1?"}, {"role": "assistant", "reasoning_content": "Easy.", "content": "2"}
    ]}));
    let tokenizer = tokenizer_with_template("qwen", template);
    let learnt = |thinking, train_on| {
        let config = PrepareConfig { thinking, train_on, ..PrepareConfig::default() };
        let inspection = crate::inspect(std::slice::from_ref(&chat), &tokenizer, &config, 1).unwrap();
        let spans = inspection.rows[0].spans.iter().filter(|span| span.is_learnt);
        spans.map(|span| span.text.as_str()).collect::<String>()
    };
    let assistant = Some(TrainOn::Assistant);
    assert_eq!(learnt(Thinking::Keep, assistant), "<think>Easy.</think>2<|im_end|>");
    assert_eq!(learnt(Thinking::Mask, assistant), "2<|im_end|>");
    assert_eq!(learnt(Thinking::Drop, assistant), "2<|im_end|>");
    assert!(learnt(Thinking::Keep, None).ends_with("user]1+1?<|im_end|>[assistant]<think>Easy.</think>2<|im_end|>"));
    assert!(learnt(Thinking::Mask, None).ends_with("user]1+1?<|im_end|>[assistant]2<|im_end|>"));
}

#[test]
fn texts_have_reasoning_and_an_end_too() {
    let learnt = |row: Row, config: PrepareConfig| {
        let inspection = crate::inspect(&[row], &tokenizer("qwen"), &config, 1).unwrap();
        let spans = inspection.rows[0].spans.iter().filter(|span| span.is_learnt);
        spans.map(|span| span.text.as_str()).collect::<String>()
    };
    let pair = || row(&json!({"prompt": "1+1?", "completion": " <think>Easy.</think> 2"}));
    let with = |thinking, train_on_eos| PrepareConfig { thinking, train_on_eos, ..PrepareConfig::default() };
    assert_eq!(learnt(pair(), with(Thinking::Keep, TrainOnEos::Turn)), " <think>Easy.</think> 2<|im_end|>");
    assert_eq!(learnt(pair(), with(Thinking::Keep, TrainOnEos::None)), " <think>Easy.</think> 2");
    assert_eq!(learnt(pair(), with(Thinking::Drop, TrainOnEos::Turn)), " 2<|im_end|>");
    assert!(!learnt(pair(), with(Thinking::Mask, TrainOnEos::Turn)).contains("Easy"));
    assert_eq!(learnt(Row::from("The end."), with(Thinking::Keep, TrainOnEos::None)), " end.");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for (options, expected) in [
        (
            json!({"train_on": "last", "assistant_only_loss": true}),
            "train_on = last: not together with assistant_only_loss",
        ),
        (
            json!({"train_on": "all", "completion_only_loss": true}),
            "train_on = all: not together with completion_only_loss",
        ),
        (json!({"mask_history": true, "train_on": "all"}), "mask_history = true: the last turn alone counts then"),
        (
            json!({"mask_history": true, "completion_only_loss": false}),
            "mask_history = true: the last turn alone counts",
        ),
        (
            json!({"packing": true, "packing_strategy": "wrapped", "truncation_mode": "drop"}),
            "truncation_mode = drop: packing_strategy wrapped splits rows and cuts nothing off: use bfd",
        ),
        (
            json!({"packing": true, "packing_strategy": "bfd_split", "truncation_mode": "keep_end"}),
            "truncation_mode = keep_end: packing_strategy bfd_split splits rows",
        ),
    ] {
        let config: PrepareConfig = serde_json::from_value(options).unwrap();
        let error = message(&config.validate().unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    for good in [
        json!({"train_on": "assistant", "assistant_only_loss": true}),
        json!({"train_on": "completion", "completion_only_loss": true}),
        json!({"mask_history": true, "train_on": "last"}),
        json!({"mask_history": true, "assistant_only_loss": true}),
        json!({"packing": true, "truncation_mode": "keep_end"}),
    ] {
        serde_json::from_value::<PrepareConfig>(good).unwrap().validate().unwrap();
    }
}
