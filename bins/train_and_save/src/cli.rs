//! From the command line to a run's options: a flag takes precedence over the file.

use crate::config_file;
use crate::failure::{Failure, one_line};
use crate::flags::{Flags, ProgramFlags};
use anyhow::{Context, Result};
use clap::FromArgMatches;
use serde_json::{Map, Value};
use std::ffi::OsString;

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Train.
    Train {
        /// Of the run, by name: see [`sft_trainer::SftConfig::from_options`].
        options: Map<String, Value>,
        /// What concerns the program alone.
        program: ProgramFlags,
    },
    /// Print this (help or version) and do nothing else.
    Print(String),
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// Usage errors, in one line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let arguments = arguments.into_iter().map(with_underscores);
    let matches = match Flags::command_for_parsing().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            use clap::error::ErrorKind;
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Request::Print(error.render().ansi().to_string()))
                }
                _ => Err(Failure::usage(clap_message(&error))),
            };
        }
    };
    let flags = Flags::from_arg_matches(&matches).map_err(|error| Failure::usage(clap_message(&error)))?;
    let options = merged(&flags).map_err(|error| Failure::usage(one_line(&error)))?;
    let (program, options) = ProgramFlags::take_from(options).map_err(Failure::usage)?;
    Ok(Request::Train { options, program })
}

/// The options of the file, with those of the command line over them.
fn merged(flags: &Flags) -> Result<Map<String, Value>> {
    let mut options = match &flags.input_output.config {
        Some(path) => config_file::read(path)?,
        None => Map::new(),
    };
    let given = serde_json::to_value(flags).context("a path among the flags must be valid UTF-8")?;
    let given = given.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    options.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    Ok(options)
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
