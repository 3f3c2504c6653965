//! The files in the output folder and the text on the terminal after a run.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::path::Path;
use whole_program_tests::{Case, Dataset, Results, Training, file_names, goldens, sentences};

const MODEL_FILES: [&str; 5] =
    ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
const RESULT_FILES: [&str; 5] =
    ["all_results.json", "eval_results.json", "metrics.jsonl", "train_results.json", "trainer_state.json"];
const STATE_FILES: [&str; 6] = [
    "manifest.json",
    "optimizer.safetensors",
    "run.json",
    "trainer_state.json",
    "training_args.json",
    "training_progress.json",
];

const STEP_KEYS: [&str; 7] =
    ["loss", "grad_norm", "learning_rate", "mean_token_accuracy", "num_tokens", "epoch", "step"];
const EVALUATION_KEYS: [&str; 8] = [
    "eval_loss",
    "eval_mean_token_accuracy",
    "eval_runtime",
    "eval_samples_per_second",
    "eval_steps_per_second",
    "perplexity",
    "epoch",
    "step",
];
const END_KEYS: [&str; 6] =
    ["train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "epoch", "step"];
const TRAIN_RESULT_KEYS: [&str; 11] = [
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
    "epoch",
    "train_tokens_per_second",
    "step_time_ms_median",
    "step_time_ms_max",
    "first_step_ms",
    "subspace_refresh_ms_total",
    "peak_memory_bytes",
];
/// The keys of transformers' `TrainerState`.
const STATE_KEYS: [&str; 20] = [
    "best_global_step",
    "best_metric",
    "best_model_checkpoint",
    "epoch",
    "eval_steps",
    "global_step",
    "is_hyper_param_search",
    "is_local_process_zero",
    "is_world_process_zero",
    "log_history",
    "logging_steps",
    "max_steps",
    "num_input_tokens_seen",
    "num_train_epochs",
    "save_steps",
    "stateful_callbacks",
    "total_flos",
    "train_batch_size",
    "trial_name",
    "trial_params",
];

/// 24 rows, 3 steps per epoch, 2 epochs.
fn short_run(case: &Case) -> Result<Training> {
    let data = Dataset::new(case.path("data"))?.with_texts(&sentences(24, 0), &sentences(5, 0))?;
    let training = case.training(&goldens::model("qwen2"), data.path());
    Ok(training.flags("--num_train_epochs 2 --learning_rate 1e-3 --logging_steps 2").flag("optim_args", "rank=8"))
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    names
}

fn keys(object: &Map<String, Value>) -> Vec<&str> {
    sorted(object.keys().map(String::as_str))
}

fn object(results: &Results, name: &str) -> Result<Map<String, Value>> {
    Ok(results.json(name)?.as_object().with_context(|| format!("{name} is no object"))?.clone())
}

#[test]
fn the_output_folder_holds_what_is_promised_and_nothing_else() -> Result<()> {
    let case = Case::new()?;
    short_run(&case)?.flags("--save_total_limit 2").run()?.succeeded()?;
    let out = case.output_dir();
    let expected = sorted(MODEL_FILES.into_iter().chain(RESULT_FILES).chain(["checkpoint-3", "checkpoint-6"]));
    assert_eq!(file_names(&out)?, expected);
    for checkpoint in ["checkpoint-3", "checkpoint-6"] {
        let expected = sorted(MODEL_FILES.into_iter().chain(STATE_FILES));
        assert_eq!(file_names(&out.join(checkpoint))?, expected);
    }
    Ok(())
}

/// A relative path without a parent, as in the example of the README.
#[test]
fn an_output_folder_may_be_a_relative_path() -> Result<()> {
    let case = Case::new()?;
    let data = Dataset::new(case.path("data"))?.with_texts(&sentences(24, 0), &sentences(5, 0))?;
    let run = |flags: &str| -> Result<String> {
        let script = format!("cd {} && exec \"$@\"", case.path("").display());
        let training = Training::new(&goldens::model("qwen2"), data.path(), Path::new("out")).under(script);
        Ok(training.flag("optim_args", "rank=8").flags(flags).run()?.succeeded()?.stderr)
    };
    run("--num_train_epochs 1")?;
    let out = case.output_dir();
    assert!(file_names(&out)?.contains(&"model.safetensors".to_owned()));
    let resumed = run("--num_train_epochs 2 --resume_from_checkpoint true")?;
    assert!(resumed.contains("resuming from out/checkpoint-3"), "{resumed}");
    run("--num_train_epochs 3 --resume_from_checkpoint out/checkpoint-6")?;
    assert_eq!(Results::in_folder(&out).json("trainer_state.json")?["global_step"], 9);
    Ok(())
}

#[test]
fn states_logs_and_results_have_their_keys() -> Result<()> {
    let case = Case::new()?;
    short_run(&case)?.run()?.succeeded()?;
    let out = case.output_dir();
    let results = Results::in_folder(&out);

    let state = object(&results, "trainer_state.json")?;
    assert_eq!(keys(&state), STATE_KEYS);
    for (key, expected) in [("global_step", 6), ("max_steps", 6), ("num_train_epochs", 2), ("train_batch_size", 8)] {
        assert_eq!(state[key], expected, "{key}");
    }
    assert_eq!(state["epoch"], 2.0);
    let best = state["best_model_checkpoint"].as_str().context("no best checkpoint")?;
    let best_step = state["best_global_step"].as_u64().context("no best step")?;
    assert_eq!(Path::new(best), out.join(format!("checkpoint-{best_step}")));

    let history = results.log_history()?;
    let kinds: Vec<(Vec<&str>, u64)> =
        history.iter().map(|entry| (keys(entry), entry["step"].as_u64().unwrap_or_default())).collect();
    let (step, evaluation, end) = (sorted(STEP_KEYS), sorted(EVALUATION_KEYS), sorted(END_KEYS));
    // A log every two steps and an evaluation at the end of each epoch, after the log of that step.
    let expected = [(&step, 2), (&evaluation, 3), (&step, 4), (&step, 6), (&evaluation, 6), (&end, 6)]
        .map(|(k, s)| (k.clone(), s));
    assert_eq!(kinds, expected);

    let metrics = String::from_utf8(results.bytes("metrics.jsonl")?)?;
    let lines = metrics.lines().map(serde_json::from_str).collect::<Result<Vec<Map<String, Value>>, _>>()?;
    assert_eq!(lines, history);

    let train = object(&results, "train_results.json")?;
    assert_eq!(keys(&train), sorted(TRAIN_RESULT_KEYS));
    let positive = |key: &str| train[key].as_f64().is_some_and(|value| value > 0.0);
    assert!(TRAIN_RESULT_KEYS.into_iter().all(positive), "{train:?}");
    assert!(train["step_time_ms_median"].as_f64() <= train["step_time_ms_max"].as_f64());

    let evaluation = object(&results, "eval_results.json")?;
    assert_eq!(keys(&evaluation), sorted(EVALUATION_KEYS.into_iter().filter(|key| *key != "step")));
    assert_eq!(evaluation["eval_loss"], state["best_metric"]);
    let perplexity = evaluation["perplexity"].as_f64().context("no perplexity")?;
    assert_eq!(evaluation["eval_loss"].as_f64().map(f64::exp), Some(perplexity));

    let all = object(&results, "all_results.json")?;
    for (key, value) in train.iter().chain(evaluation.iter().filter(|(key, _)| *key != "epoch")) {
        assert_eq!(all.get(key), Some(value), "{key}");
    }
    assert_eq!(all.len(), train.len() + evaluation.len() - 1);
    Ok(())
}

#[test]
fn the_terminal_says_what_runs_and_what_came_of_it() -> Result<()> {
    let case = Case::new()?;
    let finished = short_run(&case)?.run()?.succeeded()?;
    assert_eq!(finished.stdout, "");
    let state = Results::in_folder(case.output_dir()).json("trainer_state.json")?;
    let best = state["best_model_checkpoint"].as_str().context("no best checkpoint")?.to_owned();
    let parts = [
        "Qwen2",
        "0.0M parameters",
        "14 target matrices",
        "effective rank 8",
        "train: 24 of 24 rows",
        "test: 5 of 5 rows",
        "tokens",
        "<eos>",
        "betas (0.9, 0.999)",
        "epsilon 1e-6",
        "eval_loss",
        "grad_norm",
        best.as_str(),
        &case.output_dir().display().to_string(),
    ];
    for part in parts {
        assert!(finished.stderr.contains(part), "no `{part}` in {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn without_checkpoints_the_final_model_is_saved() -> Result<()> {
    let (bare, saved) = (Case::new()?, Case::new()?);
    short_run(&bare)?.flags("--save_strategy no").run()?.succeeded()?;
    assert_eq!(file_names(&bare.output_dir())?, sorted(MODEL_FILES.into_iter().chain(RESULT_FILES)));
    let state = Results::in_folder(bare.output_dir()).json("trainer_state.json")?;
    assert_eq!(state["best_model_checkpoint"], Value::Null);

    short_run(&saved)?.run()?.succeeded()?;
    let last = Results::in_folder(saved.output_dir().join("checkpoint-6"));
    assert_eq!(
        Results::in_folder(bare.output_dir()).bytes("model.safetensors")?,
        last.bytes("model.safetensors")?,
        "the last step's"
    );
    Ok(())
}

#[test]
fn without_evaluation_the_last_checkpoint_is_what_is_saved() -> Result<()> {
    let case = Case::new()?;
    let finished = short_run(&case)?.flags("--eval_strategy no").run()?.succeeded()?;
    let out = case.output_dir();
    let results = RESULT_FILES.into_iter().filter(|name| *name != "eval_results.json");
    assert_eq!(file_names(&out)?, sorted(MODEL_FILES.into_iter().chain(results).chain(["checkpoint-6"])));
    for name in MODEL_FILES {
        let last = Results::in_folder(out.join("checkpoint-6")).bytes(name)?;
        assert_eq!(Results::in_folder(&out).bytes(name)?, last, "{name}");
    }
    assert!(!finished.stderr.contains("best checkpoint"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn the_saved_model_trains_on() -> Result<()> {
    for dtype in ["float32", "bfloat16"] {
        let case = Case::new()?;
        short_run(&case)?.flag("dtype", dtype).run()?.succeeded()?;
        let first = Results::in_folder(case.output_dir());
        let again = Training::new(&case.output_dir(), &case.path("data"), &case.path("again"));
        let finished = again.flag("dtype", dtype).flags("--num_train_epochs 1 --eval_on_start").run()?.succeeded()?;
        assert!(!finished.stderr.contains("warning"), "{}", finished.stderr);

        let second = Results::in_folder(case.path("again"));
        assert_eq!(second.logged("eval_loss")?.first(), first.logged("eval_loss")?.last(), "{dtype}");
        for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            assert_eq!(second.bytes(name)?, first.bytes(name)?, "{dtype} {name}");
        }
    }
    Ok(())
}

/// What TRL 1.16 saves for the same model and tokenizer, without and with `eos_token`.
#[test]
fn special_tokens_are_saved_as_trl_saves_them() -> Result<()> {
    let ids = |file: &Value| ["bos_token_id", "eos_token_id", "pad_token_id"].map(|name| file[name].clone());
    for (eos_token, expected, generation) in [
        (None, json!([null, 1, 2]), json!([null, [1], 2])),
        (Some("w3"), json!([null, 3, 2]), json!([null, [3, 1], 2])),
    ] {
        let case = Case::new()?;
        let training = short_run(&case)?;
        let training = match eos_token {
            Some(token) => training.flag("eos_token", token),
            None => training,
        };
        training.run()?.succeeded()?;
        let results = Results::in_folder(case.output_dir());
        assert_eq!(json!(ids(&results.json("config.json")?)), expected);
        assert_eq!(json!(ids(&results.json("generation_config.json")?)), generation);
    }
    Ok(())
}

#[test]
fn an_output_folder_that_has_other_files_keeps_them() -> Result<()> {
    let case = Case::new()?;
    std::fs::create_dir_all(case.output_dir().join("notes"))?;
    std::fs::write(case.output_dir().join("README.md"), "mine")?;
    short_run(&case)?.run()?.succeeded()?;
    assert_eq!(Results::in_folder(case.output_dir()).bytes("README.md")?, b"mine");
    assert!(case.output_dir().join("notes").is_dir());
    Ok(())
}

#[test]
fn a_closed_terminal_does_not_end_the_run() -> Result<()> {
    let case = Case::new()?;
    let mut running = short_run(&case)?.start()?;
    running.close_pipes();
    running.wait()?.succeeded()?;
    assert_eq!(object(&Results::in_folder(case.output_dir()), "trainer_state.json")?["global_step"], 6);
    Ok(())
}

/// `from_pretrained` would read such files. For instance, a template file takes precedence over the
/// template in the tokenizer's configuration.
#[test]
fn of_an_earlier_model_nothing_is_left() -> Result<()> {
    let case = Case::new()?;
    let rows = Dataset::new(case.path("data"))?.with_texts(&sentences(4, 0), &[])?;
    let run = |model: &Path| {
        let training = case.training(model, rows.path());
        training.flags("--optim adamw_torch --max_steps 1 --save_strategy no --eval_strategy no").run()?.succeeded()
    };
    let earlier = case.copy_model("qwen2")?;
    let of_the_earlier = ["chat_template.jinja", "added_tokens.json", "additional_chat_templates/rag.jinja"];
    std::fs::create_dir(earlier.join("additional_chat_templates"))?;
    for name in of_the_earlier {
        std::fs::write(earlier.join(name), "{}")?;
    }
    run(&earlier)?;
    for name in of_the_earlier {
        assert!(case.output_dir().join(name).exists(), "{name}");
    }
    std::fs::write(case.output_dir().join("notes.txt"), "mine")?;
    run(&goldens::model("qwen2"))?;
    let expected = ["all_results.json", "metrics.jsonl", "notes.txt", "train_results.json", "trainer_state.json"];
    let names = file_names(&case.output_dir())?;
    assert_eq!(sorted(names.iter().map(String::as_str)), sorted(MODEL_FILES.into_iter().chain(expected)));
    Ok(())
}
