//! From the command line to a run's options: a flag takes precedence over the file.

use crate::failure::Failure;
use crate::flags::Flags;
use crate::terminal::has_colours;
use crate::verbs::{self, Verb};
use anyhow::{Context, Result};
use clap::{ArgMatches, FromArgMatches};
use serde_json::Value;
use sft_trainer::config::{FrontendConfig, Layers, OptionsFile, foreign};
use std::ffi::OsString;

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Train.
    Train {
        /// Of the run.
        settings: Layers,
        /// What concerns the program alone.
        program: FrontendConfig,
    },
    /// Answer a question about a run.
    Answer {
        /// Which.
        verb: &'static Verb,
        /// Of the run.
        settings: Layers,
        /// What concerns the program alone.
        program: FrontendConfig,
        /// With the verb's own arguments.
        matches: ArgMatches,
    },
    /// Print this (help or version) and do nothing else.
    Print(String),
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// Usage errors, in one line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let mut arguments: Vec<OsString> = arguments.into_iter().map(with_underscores).collect();
    let verb = arguments.get(1).and_then(|word| verbs::find(word.to_str()?));
    if verb.is_some() {
        arguments.remove(1);
    }
    let is_of_verb = |name: &str| verb.is_some_and(|verb| verb.has_flag(name));
    let unknown = Flags::option_names().unknown_flags(&arguments, is_of_verb);
    // clap's own message for one is as good.
    if unknown.len() > 1 {
        return Err(Failure::usage(unknown.join("; ")));
    }
    let matches = match verb.map_or_else(Flags::command_for_parsing, Verb::command).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            use clap::error::ErrorKind;
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    let help = error.render();
                    Ok(Request::Print(if has_colours() { help.ansi().to_string() } else { help.to_string() }))
                }
                _ => Err(Failure::usage(clap_message(&error))),
            };
        }
    };
    let flags = Flags::from_arg_matches(&matches).map_err(|error| Failure::usage(clap_message(&error)))?;
    let mut settings = layers(&flags, &matches).map_err(Failure::before_training)?;
    let (program, options, problems) = FrontendConfig::take_from(std::mem::take(&mut settings.options));
    settings.options = options;
    settings.problems.extend(problems);
    Ok(match verb {
        None => Request::Train { settings, program },
        Some(verb) => Request::Answer { verb, settings, program, matches },
    })
}

/// The options of the file, with those of the command line over them.
fn layers(flags: &Flags, matches: &ArgMatches) -> Result<Layers> {
    let file = flags.input_output.config.as_deref();
    let file = file.map(|path| OptionsFile::read(path, &Flags::option_names())).transpose()?;
    let given = serde_json::to_value(flags).context("a path among the flags must be valid UTF-8")?;
    let given = given.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let mut layers = Layers::new(file, given.map(|(name, value)| (name.clone(), value.clone())).collect());
    for name in foreign::names() {
        let Ok(Some(mut values)) = matches.try_get_many::<String>(name) else { continue };
        layers.add_foreign(name, &values.next_back().map_or(Value::Null, |value| value.as_str().into()));
    }
    Ok(layers)
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
fn clap_message(error: &clap::Error) -> String {
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

#[cfg(test)]
mod tests;
