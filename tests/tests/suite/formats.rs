//! Rows from every file format, and splits of every size.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use whole_program_tests::{Case, Dataset, Finished, Results, Training, goldens, sentences};

const SETTINGS: &str = "--dtype float32 --optim adamw_torch --learning_rate 1e-3 --num_train_epochs 1 --logging_steps 1 \
                        --per_device_train_batch_size 4 --save_strategy no";

fn losses(training: Training, case: &Case) -> Result<(Vec<f64>, Vec<f64>)> {
    training.flags(SETTINGS).run()?.succeeded()?;
    let results = Results::in_folder(case.output_dir());
    Ok((results.logged("loss")?, results.logged("eval_loss")?))
}

fn texts() -> (Vec<String>, Vec<String>) {
    (sentences(10, 0), sentences(3, 1))
}

/// The same rows as plain JSON lines.
fn expected() -> Result<(Vec<f64>, Vec<f64>)> {
    let case = Case::new()?;
    let (train, test) = texts();
    let data = Dataset::new(case.path("data"))?.with_texts(&train, &test)?;
    let losses = losses(case.training(&goldens::model("qwen2"), data.path()), &case)?;
    assert_eq!((losses.0.len(), losses.1.len()), (3, 1));
    Ok(losses)
}

/// A run on a dataset with a file for each split, which `write` makes from its texts.
fn from_files(extension: &str, write: impl Fn(&[String]) -> String) -> Result<(Vec<f64>, Vec<f64>)> {
    let case = Case::new()?;
    let (train, test) = texts();
    let data = Dataset::new(case.path("data"))?
        .with_file(&format!("train.{extension}"), write(&train))?
        .with_file(&format!("validation.{extension}"), write(&test))?;
    losses(case.training(&goldens::model("qwen2"), data.path()), &case)
}

fn lines(texts: &[String], line: impl Fn(&String) -> String) -> String {
    texts.iter().map(|text| line(text) + "\n").collect()
}

#[test]
fn every_text_format_gives_the_same_run() -> Result<()> {
    let expected = expected()?;
    let csv = from_files("csv", |texts| format!("id,text\n{}", lines(texts, |text| format!("7,\"{text}\""))))?;
    assert_eq!(csv, expected, "csv");
    let array = from_files("json", |texts| {
        Value::from(texts.iter().map(|text| json!({ "text": text, "other": null })).collect::<Vec<_>>()).to_string()
    })?;
    assert_eq!(array, expected, "json array");
    assert_eq!(from_files("txt", |texts| lines(texts, String::clone))?, expected, "txt");
    let crlf = from_files("jsonl", |texts| lines(texts, |text| json!({ "text": text }).to_string() + "\r"))?;
    assert_eq!(crlf, expected, "jsonl with CRLF");
    Ok(())
}

#[test]
fn a_column_of_another_name() -> Result<()> {
    let case = Case::new()?;
    let (train, test) = texts();
    let row = |text: &String| json!({ "text": "w3", "body": text });
    let data = Dataset::new(case.path("data"))?
        .with_rows("train.jsonl", train.iter().map(row))?
        .with_rows("test.jsonl", test.iter().map(row))?;
    let training = case.training(&goldens::model("qwen2"), data.path()).flags("--dataset_text_field body");
    assert_eq!(losses(training, &case)?, expected()?);
    Ok(())
}

#[test]
fn parquet_gives_the_same_run_as_its_rows() -> Result<()> {
    let (parquet, jsonl) = (Case::new()?, Case::new()?);
    let first_rows = |split: &str| -> Result<String> {
        let text = std::fs::read_to_string(goldens::words().join(split))?;
        Ok(text.lines().take(8).map(|line| format!("{line}\n")).collect())
    };
    let data = Dataset::new(jsonl.path("data"))?
        .with_file("train.jsonl", first_rows("train.jsonl")?)?
        .with_file("test.jsonl", first_rows("test.jsonl")?)?;
    let from_parquet = losses(parquet.training(&goldens::model("qwen2"), &goldens::path("parquet")), &parquet)?;
    let from_jsonl = losses(jsonl.training(&goldens::model("qwen2"), data.path()), &jsonl)?;
    assert_eq!(from_parquet, from_jsonl);
    Ok(())
}

/// A template that gives `w5 <question> w6 <answer> <eos>`.
const TEMPLATE: &str = "{% for message in messages %}{{ 'w5' if message['role'] == 'user' else 'w6' }} {{ message['content'] }} \
                        {% endfor %}{{ eos_token }}";

#[test]
fn conversations_go_through_the_chat_template() -> Result<()> {
    let halves = |text: &String| {
        let words: Vec<&str> = text.split(' ').collect();
        let (question, answer) = words.split_at(words.len() / 2);
        (question.join(" "), answer.join(" "))
    };
    let (train, test) = texts();

    let chat = Case::new()?;
    let model = chat.copy_model("qwen2")?;
    Case::edit_json(&model.join("tokenizer_config.json"), |config| {
        config.insert("chat_template".to_owned(), TEMPLATE.into());
    })?;
    let conversation = |text: &String| {
        let (question, answer) = halves(text);
        json!({ "messages": [{ "role": "user", "content": question }, { "role": "assistant", "content": answer }] })
    };
    let data = Dataset::new(chat.path("data"))?
        .with_rows("train.jsonl", train.iter().map(conversation))?
        .with_rows("test.jsonl", test.iter().map(conversation))?;
    let from_conversations = losses(chat.training(&model, data.path()), &chat)?;
    let saved = Results::in_folder(chat.output_dir()).json("tokenizer_config.json")?;
    assert_eq!(saved["chat_template"], TEMPLATE, "the template is saved too");

    let plain = Case::new()?;
    let rendered = |text: &String| {
        let (question, answer) = halves(text);
        format!("w5 {question} w6 {answer}")
    };
    let rows = |texts: &[String]| texts.iter().map(rendered).collect::<Vec<_>>();
    let data = Dataset::new(plain.path("data"))?.with_texts(&rows(&train), &rows(&test))?;
    assert_eq!(losses(plain.training(&goldens::model("qwen2"), data.path()), &plain)?, from_conversations);
    Ok(())
}

fn line<'a>(finished: &'a Finished, beginning: &str) -> Result<&'a str> {
    let mut lines = finished.stderr.lines();
    lines.find(|line| line.starts_with(beginning)).with_context(|| format!("no `{beginning}`: {}", finished.stderr))
}

#[test]
fn rows_are_set_aside_when_there_is_one_split() -> Result<()> {
    for (test_size, train_rows, test_rows) in [("0.25", 15, 5), ("3", 17, 3), ("1", 19, 1)] {
        let case = Case::new()?;
        let rows = sentences(20, 0).into_iter().map(|text| json!({ "text": text }));
        let data = Dataset::new(case.path("data"))?.with_rows("train.jsonl", rows)?;
        let file = data.path().join("train.jsonl");
        let training = case.training(&goldens::model("qwen2"), &file).flags(SETTINGS).flag("test_size", test_size);
        let finished = training.run()?.succeeded()?;
        let train = line(&finished, "train: ")?;
        assert!(train.starts_with(&format!("train: {train_rows} of {train_rows} rows")), "{train}");
        let rows = if test_rows == 1 { "row" } else { "rows" };
        let evaluated = finished.stderr.contains(&format!(": {test_rows} of {test_rows} {rows},"));
        assert!(evaluated, "{}", finished.stderr);
    }
    Ok(())
}

#[test]
fn one_row_a_split_is_enough() -> Result<()> {
    let case = Case::new()?;
    let data = Dataset::new(case.path("data"))?.with_texts(&sentences(1, 0), &["w3".to_owned()])?;
    let training = case.training(&goldens::model("qwen2"), data.path());
    // The settings of the documented recipe, except for the number of epochs.
    training.flags("--num_train_epochs 2 --logging_steps 1").run()?.succeeded()?;
    let results = Results::in_folder(case.output_dir());
    assert_eq!((results.logged("loss")?.len(), results.logged("eval_loss")?.len()), (2, 2));
    Ok(())
}

#[test]
fn a_huge_row_is_cut_off_and_counted() -> Result<()> {
    let case = Case::new()?;
    let huge = "w3 w4 w5 ".repeat(230_000);
    assert!(huge.len() > 2_000_000);
    let rows: Vec<String> = sentences(7, 0).into_iter().chain([huge]).collect();
    let data = Dataset::new(case.path("data"))?.with_texts(&rows, &sentences(2, 0))?;
    let training = case.training(&goldens::model("qwen2"), data.path()).flags(SETTINGS);
    let finished = training.flags("--max_length 64").run()?.succeeded()?;
    let train = line(&finished, "train: ")?;
    assert!(train.contains("8 of 8 rows") && train.contains("1 row truncated"), "{train}");
    // 690,000 words and the end-of-text token, of which 64 are kept.
    assert!(train.contains("689,937 tokens cut off"), "{train}");
    Ok(())
}

#[test]
fn eval_loss_does_not_depend_on_the_batch_size() -> Result<()> {
    let mut losses = Vec::new();
    for batch_size in [1, 2, 5, 8] {
        let case = Case::new()?;
        let training =
            case.training(&goldens::model("llama"), &goldens::words()).flags(SETTINGS).flags("--max_steps 1");
        training.flag("per_device_eval_batch_size", batch_size).run()?.succeeded()?;
        losses.push(Results::in_folder(case.output_dir()).logged("eval_loss")?[0]);
    }
    let spread = losses.iter().map(|loss| (loss - losses[0]).abs() / losses[0]).fold(0.0, f64::max);
    assert!(spread < 1e-6, "{losses:?}");
    Ok(())
}

#[test]
fn padding_changes_nothing() -> Result<()> {
    let run = |flags: &str| -> Result<(Vec<f64>, Vec<f64>)> {
        let case = Case::new()?;
        losses(case.training(&goldens::model("qwen2"), &goldens::words()).flags("--max_steps 6").flags(flags), &case)
    };
    let (free, padded) = (run("--padding_free true")?, run("--padding_free false --pad_to_multiple_of 8")?);
    for (one, other) in free.0.iter().chain(&free.1).zip(padded.0.iter().chain(&padded.1)) {
        assert!((one - other).abs() / one < 1e-5, "{free:?} {padded:?}");
    }
    Ok(())
}

#[test]
fn a_configuration_file_does_what_flags_do() -> Result<()> {
    let (flags, file) = (Case::new()?, Case::new()?);
    let settings = json!({
        "model_name": goldens::model("llama"), "dataset_name": goldens::words(), "output_dir": file.output_dir(), "device": "cpu",
        "disable_tqdm": true, "dtype": "float32", "max_seq_length": 24, "evaluation_strategy": "steps", "eval_steps": 4,
        "max_steps": 8, "logging_steps": 1, "save_strategy": "no", "learning_rate": 1.0, "optim_args": "rank=4, scale=1.0",
        "optim_target_modules": ["attn"],
    });
    std::fs::write(file.path("run.json"), settings.to_string())?;
    Training::bare()
        .flag("config", file.path("run.json").display())
        .flags("--learning-rate 2e-3")
        .run()?
        .succeeded()?;

    let same = flags.training(&goldens::model("llama"), &goldens::words()).flag("optim_args", "rank=4, scale=1.0");
    let same =
        same.flags("--optim_target_modules attn --dtype float32 --max_length 24 --eval_strategy steps --eval_steps 4");
    same.flags("--max_steps 8 --logging_steps 1 --save_strategy no --learning_rate 2e-3").run()?.succeeded()?;
    let (one, other) = (Results::in_folder(flags.output_dir()), Results::in_folder(file.output_dir()));
    assert_eq!(one.logged("loss")?, other.logged("loss")?);
    assert_eq!(one.bytes("model.safetensors")?, other.bytes("model.safetensors")?);
    Ok(())
}
