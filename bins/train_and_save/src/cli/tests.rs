use super::*;
use clap::CommandFactory;
use sft_trainer::SftConfig;
use sft_trainer::config::foreign;
use std::path::Path;
use trainer_core::{IntervalStrategy, SaveStrategy, Schedule, SchedulerType};

/// The configuration from these arguments and the two required ones.
fn config(arguments: &[&str]) -> SftConfig {
    let required = ["train_and_save", "--model-name", "m", "--output-dir", "a-b"];
    match parse(required.iter().chain(arguments).map(OsString::from)) {
        Ok(Request::Train { settings, .. }) => settings.config().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn error(arguments: &[&str]) -> String {
    let required = ["train_and_save", "--model_name", "m", "--output_dir", "o"];
    let error = match parse(required.iter().chain(arguments).map(OsString::from)) {
        Ok(Request::Train { settings, .. }) => Failure::before_training(settings.config().unwrap_err()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => error,
    };
    assert_eq!(crate::failure::exit_code(&error), 2);
    let message = format!("{error:#}");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn old_and_new_spellings_dashes_and_booleans() {
    let config = config(&[
        "--evaluation_strategy=steps",
        "--max-seq-length",
        "12",
        "--torch_dtype",
        "float32",
        "--bf16",
        "--gradient_checkpointing",
        "False",
        "--max_steps",
        "-1",
        "--optim_target_modules",
        "attn",
        "mlp",
        "--resume_from_checkpoint",
        "--lr_scheduler_type",
        "cosine",
        "--padding_free",
        "no",
    ]);
    assert_eq!(config.model.model_name, "m");
    assert_eq!(config.training.output_dir, Path::new("a-b"));
    assert_eq!(config.training.eval_strategy, IntervalStrategy::Steps);
    assert_eq!(config.prepare.max_length, Some(12));
    assert_eq!(config.model.dtype.to_string(), "float32");
    assert_eq!((config.model.bf16, config.model.gradient_checkpointing), (Some(true), false));
    assert_eq!(config.training.max_steps, -1);
    assert_eq!(serde_json::to_value(config.optimizer.targets()).unwrap(), serde_json::json!(["attn", "mlp"]));
    assert_eq!(config.run.resume_from_checkpoint, sft_trainer::config::ResumeFrom::Newest);
    assert_eq!(config.training.lr_scheduler_type, SchedulerType::Cosine);
    assert_eq!(config.padded_to_multiple_of().map(|multiple| multiple.get()), Some(1));
}

/// As with Python's argparse: scripts append overrides.
#[test]
fn the_last_of_a_flag_counts() {
    let config =
        config(&["--seed", "1", "--optim_target_modules", "attn", "--seed", "2", "--optim_target_modules", "mlp"]);
    assert_eq!(config.training.seed, 2);
    assert_eq!(serde_json::to_value(config.optimizer.targets()).unwrap(), serde_json::json!(["mlp"]));
}

#[test]
fn unknown_flags_name_the_nearest() {
    assert!(error(&["--learning_rat", "1"]).contains("--learning_rate"), "{}", error(&["--learning_rat", "1"]));
    assert!(error(&["--seed", "-1"]).contains("--seed"));
    assert!(error(&["--bf16", "maybe"]).contains("must be true or false"));
    assert!(error(&["--lr_scheduler_type", "linea"]).contains("linea"));
    assert!(error(&["--log_format", "xml"]).contains("xml"));
    assert!(error(&["--learning_rate", "nan"]).contains("--learning_rate"));
    assert!(error(&["--max_grad_norm", "inf"]).contains("must be a finite number"));
    assert!(error(&["--log_format", "xml"]).contains("log_format is \"xml\""));
    assert!(error(&["stray"]).contains("stray"));
}

#[test]
fn flags_go_before_the_file_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "c.yaml",
            "learning-rate: 2e-5\nevaluation_strategy: steps\nnum_train_epochs: 3\noptim_target_modules: [attn]\nbf16: false\n",
        ),
        (
            "c.toml",
            "learning_rate = 2e-5\neval_strategy = \"steps\"\nnum_train_epochs = 3\noptim_target_modules = [\"attn\"]\nbf16 = false\n",
        ),
        (
            "c.json",
            r#"{"learning_rate": 2e-5, "eval_strategy": "steps", "num_train_epochs": 3, "optim_target_modules": ["attn"], "bf16": false}"#,
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let config = config(&["--config", path.to_str().unwrap(), "--num_train_epochs", "5"]);
        assert_eq!(config.training.learning_rate, 2e-5, "{name}");
        assert_eq!(config.training.eval_strategy, IntervalStrategy::Steps);
        assert_eq!(config.training.num_train_epochs, 5.0);
        assert_eq!(serde_json::to_value(config.optimizer.targets()).unwrap(), serde_json::json!(["attn"]));
        assert_eq!(config.model.bf16, Some(false));
    }
}

#[test]
fn values_that_yaml_reads_its_own_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    std::fs::write(&path, "eval_strategy: no\nsave_strategy: no\nreport_to: [none]\noptim_target_modules: attn mlp")
        .unwrap();
    let config = config(&["--config", path.to_str().unwrap(), "--seed", "1"]);
    assert_eq!(config.training.eval_strategy, IntervalStrategy::No);
    assert_eq!(config.training.save_strategy, SaveStrategy::No);
    assert_eq!(config.run.report_to, ["none"]);
    assert_eq!(serde_json::to_value(config.optimizer.targets()).unwrap(), serde_json::json!(["attn", "mlp"]));
}

#[test]
fn targets_in_a_file_may_be_one_string() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    std::fs::write(&path, "optim_target_modules: all-linear").unwrap();
    let config = config(&["--config", path.to_str().unwrap()]);
    assert_eq!(serde_json::to_value(config.optimizer.targets()).unwrap(), serde_json::json!("all-linear"));
}

#[test]
fn every_flag_and_alias_is_in_the_user_guide_and_means_something() {
    let guide = include_str!("../../../../docs/usage.md");
    let command = Flags::command();
    let known = SftConfig::option_names();
    let (_, unknown, _) = FrontendConfig::take_from(
        command.get_arguments().map(|argument| (argument.get_id().to_string(), Value::Null)).collect(),
    );
    for argument in command.get_arguments() {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        for name in std::iter::once(argument.get_id().as_str()).chain(aliases) {
            assert!(guide.contains(&format!("`--{name}`")), "docs/usage.md does not mention --{name}");
        }
        let name = argument.get_id().as_str();
        let is_option = known.contains(name) || name == "config" || !unknown.contains_key(name);
        assert!(is_option, "no configuration has a field {name}");
    }
}

#[test]
fn a_bad_file_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, expected) in [
        ("a.yaml", "learning_rte: 1", "unknown key learning_rte; did you mean learning_rate?"),
        ("b.yaml", "learning_rate: fast", "learning_rate is \"fast\""),
        ("c.json", "{", "is not valid JSON"),
        ("d.toml", "a = ", "is not valid TOML"),
        ("e.txt", "", "must end in .yaml"),
        ("f.yaml", "- 1", "must hold one mapping"),
        ("g.json", r#"{"max_length": 3, "max_seq_length": 4}"#, "max_length is given twice"),
        ("h.yaml", "a: [", "is not valid YAML"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let message = error(&["--config", path.to_str().unwrap()]);
        assert!(message.contains(expected), "{name}: {message}");
    }
    assert!(error(&["--config", "/nonexistent.yaml"]).contains("cannot read /nonexistent.yaml"));
    let empty = folder.path().join("empty.yaml");
    std::fs::write(&empty, "").unwrap();
    assert_eq!(config(&["--config", empty.to_str().unwrap()]).training.learning_rate, 1e-5);
}

/// A recipe of TRL: everything that has to go at once, with the file's name.
#[test]
fn one_message_lists_all_that_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trl.yaml");
    std::fs::write(
        &path,
        "overwrite_output_dir: true\nrun_name: first\nlearning_rte: 1\nunheard_of: 2\nuse_peft: true\n\
         max_length: many\nseed: -1\nreport_to: [wandb, tensorbored]\ndisable_tqdm: perhaps\noptim: lion\n",
    )
    .unwrap();
    let message = error(&["--config", path.to_str().unwrap(), "--seed", "3", "--dtype", "int3"]);
    let (of_file, others) = message.split_at(message.find("dtype is").unwrap());
    for expected in [
        "unknown key learning_rte; did you mean learning_rate?",
        "unknown key unheard_of;",
        "use_peft is true: not supported",
        "max_length is \"many\": expected a whole number",
        "tensorbored is not known; use tensorboard, csv, html",
        "disable_tqdm is \"perhaps\"",
        "optim is \"lion\"",
    ] {
        assert!(of_file.contains(expected), "{expected}: {message}");
    }
    assert!(message.starts_with(path.to_str().unwrap()), "{message}");
    assert!(!message.contains("run_name") && !message.contains("seed"), "{message}");
    assert!(!others.contains("trl.yaml"), "{message}");
}

#[test]
fn options_without_effect_are_named_in_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trl.yaml");
    let text = "overwrite_output_dir: true\nlog_level_replica: info\nuse_peft: false\ntrust_remote_code: false\n\
                gradient_checkpointing_kwargs: {use_reentrant: false}\ntf32: true\nlearning_rate: '2e-5'\n";
    std::fs::write(&path, text).unwrap();
    let arguments = ["t", "--model_name", "m", "--output_dir", "o", "--config", path.to_str().unwrap()];
    let flags = ["--dataset-num-proc", "8", "--use_peft", "False", "--do_train", "--seed", "4"];
    let Request::Train { settings, .. } = parse(arguments.iter().chain(&flags).map(OsString::from)).unwrap() else {
        panic!("it trains")
    };
    assert_eq!(
        settings.warning().unwrap(),
        "options without effect here: \
         dataset_num_proc (rows are tokenized on all cores, and batches are made ahead on a thread); \
         do_train (a run trains and evaluates, and makes no predictions); \
         gradient_checkpointing_kwargs, tf32 (speed and memory are decided when a run starts); \
         log_level_replica (what is told and logged does not depend on it); \
         overwrite_output_dir (an output folder that is in use is refused, never overwritten); \
         trust_remote_code, use_peft (no code of a model is run, and all its weights are trained as they are)"
    );
    let config = settings.config().unwrap();
    assert_eq!((config.training.learning_rate, config.training.seed), (2e-5, 4));
    assert!(error(&["--use_peft"]).contains("use_peft is \"true\": not supported"));
    assert!(error(&["--use_peft", "true", "--optim", "lion"]).contains("optim is"));
}

#[test]
fn warm_up_of_no_steps_goes_before_the_default_ratio() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    std::fs::write(&path, "max_length: null\nsave_total_limit: null\n").unwrap();
    let config = config(&["--config", path.to_str().unwrap(), "--warmup_steps", "0"]);
    assert_eq!((config.prepare.max_length, config.training.save_total_limit), (None, None));
    assert_eq!(Schedule::new(&config.training, 100).warmup_steps(), 0);
}

#[test]
fn help_does_not_show_options_without_effect() {
    let Ok(Request::Print(text)) = parse(["t", "--help"].map(OsString::from)) else { panic!("it prints") };
    assert!(text.contains("model_name") && !text.contains("lora_r"), "{text}");
}

#[test]
fn all_unknown_flags_are_in_one_message() {
    let error = parse(["x", "--lerning_rate", "1", "--max-length", "9", "--xyzzy=2", "--", "--other"].map(Into::into));
    assert_eq!(
        error.unwrap_err().to_string(),
        "unknown flag --lerning_rate; did you mean --learning_rate?; unknown flag --xyzzy"
    );
}

#[test]
fn no_option_without_effect_is_a_flag() {
    let command = Flags::command();
    for name in foreign::names() {
        assert!(command.get_arguments().all(|argument| argument.get_id() != name), "{name}");
    }
}

#[test]
fn a_verb_takes_its_own_flags_and_those_of_a_run() {
    let arguments = ["t", "inspect", "--rows", "2", "--model-name", "m", "--max_length", "9"];
    let Ok(Request::Answer { settings, matches, .. }) = parse(arguments.map(OsString::from)) else {
        panic!("it answers")
    };
    assert_eq!(matches.get_one::<usize>("rows"), Some(&2));
    assert_eq!(settings.options.keys().collect::<Vec<_>>(), ["model_name", "max_length"]);
    assert!(parse(["t", "inspect", "--rows", "2", "--lerning_rate", "1", "--x"].map(OsString::from)).is_err());
    assert!(error(&["--rows", "2"]).contains("--rows"), "a verb's flag is none of a run");
    let Ok(Request::Print(help)) = parse(["t", "report", "--help"].map(OsString::from)) else { panic!("it prints") };
    assert!(help.contains("train_and_save report") && help.contains("--html"), "{help}");
    let Ok(Request::Print(help)) = parse(["t", "--help"].map(OsString::from)) else { panic!("it prints") };
    assert!(help.contains("  inspect ") && help.contains("  report "), "{help}");
}

/// Every field of the four classes that TRL's script reads, as `make_options.py` found them.
mod options_table;

/// Files with the keys of recipes that are published for other programs.
mod recipes;
