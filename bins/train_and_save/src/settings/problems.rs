//! All that is wrong with the flags, reported in one line.

use crate::failure::Failure;
use anyhow::Result;
use std::fmt::Display;

/// Everything that is wrong, to be reported at once.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, field: &str, value: impl Display, fix: impl Display) {
        self.0.push(format!("{field} is {value}: {fix}"));
    }

    /// What everything else would be read after.
    pub(super) fn put_first(&mut self, problem: &str) {
        self.0.insert(0, problem.to_owned());
    }

    pub(super) fn check<T, E: Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.0.push(error.to_string())).ok()
    }

    pub(super) fn none(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::usage(self.0.join("; "))) }
    }
}
