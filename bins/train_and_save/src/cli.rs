//! From the command line and the configuration file to [`Flags`]: flag before file, unknown names
//! refused with the nearest known one.

use crate::failure::Failure;
use crate::flags::Flags;
use anyhow::{Context, Result, bail};
use clap::{CommandFactory, FromArgMatches};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::path::Path;

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Train.
    Train(Box<Flags>),
    /// Print this (help or version) and do nothing else.
    Print(String),
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// Of the usage kind, one line each.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let arguments = arguments.into_iter().map(with_underscores);
    let matches = match Flags::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            use clap::error::ErrorKind;
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Request::Print(error.render().ansi().to_string()))
                }
                _ => Err(Failure::usage(one_line(&error))),
            };
        }
    };
    let typed = Flags::from_arg_matches(&matches).map_err(|error| Failure::usage(one_line(&error)))?;
    let Some(path) = typed.config.clone() else { return Ok(Request::Train(Box::new(typed))) };
    let merged = read_config_file(&path).and_then(|mut file| {
        let Value::Object(flags) = serde_json::to_value(&typed)? else { bail!("flags are no object") };
        file.extend(flags.into_iter().filter(|(_, value)| !value.is_null()));
        // One key at a time, so that the message can name it.
        for (key, value) in &file {
            let single = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
            serde_json::from_value::<Flags>(single).with_context(|| format!("{}: {key} is {value}", path.display()))?;
        }
        Ok(serde_json::from_value::<Flags>(Value::Object(file))?)
    });
    Ok(Request::Train(Box::new(merged.map_err(|error| Failure::usage(format!("{error:#}")))?)))
}

/// `--learning-rate=1` → `--learning_rate=1`. Values are left alone.
fn with_underscores(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text) if text.starts_with("--") => {
            let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            let name = format!("--{}", name[2..].replace('-', "_"));
            value.map_or(name.clone(), |value| format!("{name}={value}")).into()
        }
        _ => argument,
    }
}

/// clap's message without usage and hints on further lines, but with its suggestion.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut message = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    for line in lines {
        if let Some(tip) = line.strip_prefix("tip: ") {
            message += &format!("; {tip}");
        } else if line.starts_with("--") && message.ends_with(':') {
            message += &format!(" {line}");
        }
    }
    message
}

fn read_config_file(path: &Path) -> Result<Map<String, Value>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let value: Value = match extension.to_ascii_lowercase().as_str() {
        "json" => serde_json::from_str(&text).with_context(|| format!("{shown} is not valid JSON"))?,
        "toml" => toml::from_str(&text).map_err(first_line).with_context(|| format!("{shown} is not valid TOML"))?,
        "yaml" | "yml" => {
            serde_saphyr::from_str(&text).map_err(first_line).with_context(|| format!("{shown} is not valid YAML"))?
        }
        _ => bail!("{shown}: a configuration file must end in .yaml, .yml, .toml or .json"),
    };
    let object = match value {
        Value::Object(object) => object,
        Value::Null => Map::new(),
        _ => bail!("{shown} must hold one mapping of flags to values"),
    };
    let mut resolved = Map::new();
    for (key, value) in object {
        let name = known_name(&key).with_context(|| format!("{shown}: unknown key {key}{}", suggestion(&key)))?;
        if resolved.insert(name.clone(), as_typed(&name, value)).is_some() {
            bail!("{shown}: {name} is given twice, the second time as {key}");
        }
    }
    Ok(resolved)
}

/// Values that a file format reads otherwise than a shell: YAML's `no` is false, and lists of one
/// are common.
fn as_typed(name: &str, value: Value) -> Value {
    match (name, value) {
        ("eval_strategy" | "save_strategy" | "logging_strategy", Value::Bool(false)) => Value::from("no"),
        ("report_to", Value::Array(names)) => match names.as_slice() {
            [] => Value::from("none"),
            [one] => one.clone(),
            _ => Value::Array(names),
        },
        (_, value) => value,
    }
}

fn first_line(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{}", error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// The flag that a key means: its own name or an older spelling.
fn known_name(key: &str) -> Option<String> {
    let key = key.replace('-', "_");
    let command = Flags::command();
    let found = command.get_arguments().filter(|argument| argument.get_id() != "config").find(|argument| {
        argument.get_id().as_str() == key
            || argument.get_all_aliases().is_some_and(|names| names.contains(&key.as_str()))
    });
    found.map(|argument| argument.get_id().to_string())
}

fn suggestion(key: &str) -> String {
    let command = Flags::command();
    let names = command.get_arguments().map(|argument| argument.get_id().to_string()).filter(|name| name != "config");
    let nearest = names
        .map(|name| (strsim::jaro_winkler(&name, key), name))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer_core::{IntervalStrategy, SchedulerType};

    fn flags(arguments: &[&str]) -> Flags {
        match parse(["train_and_save"].iter().chain(arguments).map(OsString::from)) {
            Ok(Request::Train(flags)) => *flags,
            other => panic!("{other:?}"),
        }
    }

    fn error(arguments: &[&str]) -> String {
        let error = parse(["train_and_save"].iter().chain(arguments).map(OsString::from)).unwrap_err();
        assert_eq!(crate::failure::exit_code(&error), 2);
        let message = format!("{error:#}");
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn old_and_new_spellings_dashes_and_booleans() {
        let flags = flags(&[
            "--model-name",
            "m",
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
            "--output-dir",
            "a-b",
            "--resume_from_checkpoint",
            "--lr_scheduler_type",
            "cosine",
        ]);
        assert_eq!(flags.model_name.as_deref(), Some("m"));
        assert_eq!(flags.eval_strategy, Some(IntervalStrategy::Steps));
        assert_eq!(flags.max_length, Some(12));
        assert_eq!(flags.dtype.as_deref(), Some("float32"));
        assert_eq!((flags.bf16, flags.gradient_checkpointing), (Some(true), Some(false)));
        assert_eq!(flags.max_steps, Some(-1));
        assert_eq!(flags.optim_target_modules, Some(vec!["attn".to_owned(), "mlp".to_owned()]));
        assert_eq!(flags.output_dir.as_deref(), Some(Path::new("a-b")));
        assert_eq!(flags.resume_from_checkpoint, Some(TextOrBool::Bool(true)));
        assert_eq!(flags.lr_scheduler_type, Some(SchedulerType::Cosine));
    }

    use crate::flags::TextOrBool;

    /// As with Python's argparse: scripts append overrides.
    #[test]
    fn the_last_of_a_flag_counts() {
        let flags =
            flags(&["--seed", "1", "--optim_target_modules", "attn", "--seed", "2", "--optim_target_modules", "mlp"]);
        assert_eq!(flags.seed, Some(2));
        assert_eq!(flags.optim_target_modules, Some(vec!["mlp".to_owned()]));
    }

    #[test]
    fn unknown_flags_name_the_nearest() {
        assert!(error(&["--learning_rat", "1"]).contains("--learning_rate"), "{}", error(&["--learning_rat", "1"]));
        assert!(error(&["--seed", "-1"]).contains("--seed"));
        assert!(error(&["--bf16", "maybe"]).contains("must be true or false"));
        assert!(error(&["--lr_scheduler_type", "linea"]).contains("linea"));
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
            let flags = flags(&["--config", path.to_str().unwrap(), "--num_train_epochs", "5"]);
            assert_eq!(flags.learning_rate, Some(2e-5), "{name}");
            assert_eq!(flags.eval_strategy, Some(IntervalStrategy::Steps));
            assert_eq!(flags.num_train_epochs, Some(5.0));
            assert_eq!(flags.optim_target_modules, Some(vec!["attn".to_owned()]));
            assert_eq!(flags.bf16, Some(false));
        }
    }

    #[test]
    fn values_that_yaml_reads_its_own_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(
            &path,
            "eval_strategy: no\nsave_strategy: no\nreport_to: [none]\noptim_target_modules: attn mlp",
        )
        .unwrap();
        let flags = flags(&["--config", path.to_str().unwrap(), "--seed", "1"]);
        assert_eq!(flags.eval_strategy, Some(IntervalStrategy::No));
        assert_eq!(flags.save_strategy, Some(trainer_core::SaveStrategy::No));
        assert_eq!(flags.report_to.as_deref(), Some("none"));
        assert_eq!(flags.optim_target_modules, Some(vec!["attn".to_owned(), "mlp".to_owned()]));
    }

    #[test]
    fn targets_in_a_file_may_be_one_string() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, "optim_target_modules: all-linear").unwrap();
        let flags = flags(&["--config", path.to_str().unwrap()]);
        assert_eq!(flags.optim_target_modules, Some(vec!["all-linear".to_owned()]));
    }

    #[test]
    fn every_flag_and_alias_is_in_the_user_guide() {
        let guide = include_str!("../../../docs/usage.md");
        let command = Flags::command();
        for argument in command.get_arguments() {
            let aliases = argument.get_all_aliases().unwrap_or_default();
            for name in std::iter::once(argument.get_id().as_str()).chain(aliases) {
                assert!(guide.contains(&format!("`--{name}`")), "docs/usage.md does not mention --{name}");
            }
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
        assert_eq!(flags(&["--config", empty.to_str().unwrap()]).learning_rate, None);
    }
}
