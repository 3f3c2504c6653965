//! Which exit code an error means, and how it is shown.

use crate::flags::Flags;
use clap::CommandFactory;

/// Marks an error as found before training: bad arguments, configuration or input.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A usage error from its text.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(message.into()))
    }

    /// Marks any error as a usage error, its causes joined in one line.
    pub fn before_training(error: impl Into<anyhow::Error>) -> anyhow::Error {
        Self::usage(one_line(&error.into()))
    }

    /// An error of training: a usage error if it came before the first step.
    pub fn by_phase(error: sft_trainer::Error) -> anyhow::Error {
        if error.is_not_started() { Self::before_training(error) } else { error.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// 2 for what was found before training, 1 for everything later.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Failure>() { 2 } else { 1 }
}

/// The error and its causes in one line.
pub fn one_line(error: &anyhow::Error) -> String {
    sft_trainer::one_line(error.chain())
}

/// Libraries name an option by its field, as `` `test_size` ``. On the command line it is a flag.
pub fn with_flags(message: &str) -> String {
    let command = Flags::command();
    let names = command.get_arguments().map(|argument| argument.get_id().as_str());
    // `bf16` is also a type's name, and `packing` a common one of a split.
    let names = names.filter(|name| !["bf16", "packing"].contains(name));
    names.fold(message.to_owned(), |message, name| message.replace(&format!("`{name}`"), &format!("--{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_joined_once_and_on_one_line() {
        let error = std::io::Error::other("disk\n gone");
        let error = anyhow::Error::new(error).context("cannot write a: disk\n gone").context("saving");
        assert_eq!(one_line(&error), "saving: cannot write a: disk gone");
        let torch =
            anyhow::anyhow!("out of memory\nException raised from malloc at a.cpp:1\nframe #0").context("step 3");
        assert_eq!(one_line(&torch), "step 3: out of memory");
        let usage: anyhow::Result<()> = Err(Failure::before_training(torch)).context("more");
        assert_eq!(exit_code(&usage.unwrap_err()), 2);
    }

    #[test]
    fn options_are_shown_as_flags_and_other_names_stay() {
        assert_eq!(with_flags("set `test_size`, not `text` or test_size"), "set --test_size, not `text` or test_size");
    }
}
