//! From the command line to a run's options: a flag takes precedence over the file.

use crate::config_file::{self, ConfigFile};
use crate::failure::{Failure, one_line};
use crate::flags::{Flags, ProgramFlags};
use crate::foreign::{self, Meaning};
use anyhow::{Context, Result};
use clap::{ArgMatches, FromArgMatches};
use serde_json::{Map, Value};
use sft_trainer::{Error, SftConfig};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal;

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Train.
    Train {
        /// Of the run.
        settings: Settings,
        /// What concerns the program alone.
        program: ProgramFlags,
    },
    /// Print this (help or version) and do nothing else.
    Print(String),
}

/// A run's options, and what was found wrong with them so far.
#[derive(Debug)]
pub struct Settings {
    /// By name: see [`SftConfig::from_options`].
    options: Map<String, Value>,
    /// Those that have no effect here.
    without_effect: Vec<String>,
    problems: Vec<String>,
    /// The configuration file, and the options that are as it says.
    file: Option<(String, BTreeSet<String>)>,
}

impl Settings {
    /// One line that names the options without effect, if there are any.
    pub fn warning(&self) -> Option<String> {
        let names: BTreeSet<&str> = self.without_effect.iter().map(String::as_str).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("options without effect here: {names}"))
    }

    /// The configuration of the run.
    ///
    /// # Errors
    /// A usage error that lists every unknown name and every bad value, those of the file with its
    /// path.
    pub fn config(mut self) -> Result<SftConfig> {
        let outcome = SftConfig::from_options(self.options);
        let problems = match outcome {
            Ok(config) if self.problems.is_empty() => return Ok(config),
            Ok(_) => Vec::new(),
            Err(Error::Config { problems }) => problems,
            Err(error) => return Err(Failure::before_training(error)),
        };
        self.problems.extend(problems);
        let Some((path, names)) = self.file else { return Err(Failure::usage(self.problems.join("; "))) };
        let is_of_file = |problem: &String| {
            let subject = problem.split_whitespace().next().unwrap_or_default();
            subject == "unknown" || names.contains(subject)
        };
        let (of_file, others): (Vec<_>, Vec<_>) = self.problems.into_iter().partition(is_of_file);
        let of_file = (!of_file.is_empty()).then(|| format!("{path}: {}", of_file.join("; ")));
        Err(Failure::usage(of_file.into_iter().chain(others).collect::<Vec<_>>().join("; ")))
    }
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// Usage errors, in one line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let arguments: Vec<OsString> = arguments.into_iter().map(with_underscores).collect();
    let unknown = unknown_flags(&arguments);
    // clap's own message for one is as good.
    if unknown.len() > 1 {
        return Err(Failure::usage(unknown.join("; ")));
    }
    let matches = match Flags::command_for_parsing().try_get_matches_from(arguments) {
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
    let mut settings = merged(&flags).map_err(|error| Failure::usage(one_line(&error)))?;
    settings.add_foreign(&matches);
    let (program, options, problems) = ProgramFlags::take_from(settings.options);
    settings.problems.extend(problems);
    Ok(Request::Train { settings: Settings { options, ..settings }, program })
}

/// The options of the file, with those of the command line over them.
fn merged(flags: &Flags) -> Result<Settings> {
    let file = flags.input_output.config.as_deref().map(config_file::read).transpose()?;
    let given = serde_json::to_value(flags).context("a path among the flags must be valid UTF-8")?;
    let given = given.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let given: Map<String, Value> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    let Some(ConfigFile { path, mut options, without_effect, problems }) = file else {
        return Ok(Settings { options: given, without_effect: Vec::new(), problems: Vec::new(), file: None });
    };
    let of_file = options.keys().chain(&without_effect).filter(|name| !given.contains_key(*name)).cloned();
    // A problem begins with the option that it is about.
    let refused = problems.iter().filter_map(|problem| problem.split_whitespace().next()).map(str::to_owned);
    let file = Some((path.display().to_string(), of_file.chain(refused).collect()));
    options.extend(given);
    Ok(Settings { options, without_effect, problems, file })
}

impl Settings {
    /// Flags of TRL and transformers that are none here.
    fn add_foreign(&mut self, matches: &ArgMatches) {
        for name in foreign::names() {
            let Ok(Some(mut values)) = matches.try_get_many::<String>(name) else { continue };
            let value = values.next_back().map_or(Value::Null, |value| value.as_str().into());
            match foreign::meaning(name, &value) {
                Some(Meaning::Refused(problem)) => self.problems.push(problem),
                Some(Meaning::NoEffect) | None if self.without_effect.iter().any(|known| known == name) => {}
                Some(Meaning::NoEffect) | None => self.without_effect.push(name.to_owned()),
            }
        }
    }
}

/// What is wrong with each flag that is none. clap stops at the first.
fn unknown_flags(arguments: &[OsString]) -> Vec<String> {
    let command = Flags::command_for_parsing();
    let is_known = |name: &str| {
        matches!(name, "help" | "version")
            || command.get_arguments().any(|argument| {
                argument.get_long() == Some(name)
                    || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
            })
    };
    let texts = arguments.iter().filter_map(|argument| argument.to_str()).take_while(|text| *text != "--");
    let names = texts.filter_map(|text| text.strip_prefix("--")?.split('=').next());
    let unknown = names.filter(|name| !is_known(name));
    unknown.map(|name| format!("unknown flag --{name}{}", config_file::suggestion(name, "--"))).collect()
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

/// Colours are for a terminal, and for a user who has not turned them off (no-color.org).
fn has_colours() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
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
