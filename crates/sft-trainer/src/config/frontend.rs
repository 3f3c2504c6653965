//! Options that concern only what shows a run and listens for signals.

use super::take_part;
use crate::log_lines::{LogFormat, LogLevel};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Options that are no part of [`SftConfig`](crate::SftConfig): training does not depend on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrontendConfig {
    /// No progress bar.
    pub disable_tqdm: bool,
    /// Whether a signal that ends the run saves it first.
    pub save_on_signal: bool,
    /// How lines look.
    pub log_format: LogFormat,
    /// Which are shown.
    pub log_level: LogLevel,
}

impl Default for FrontendConfig {
    fn default() -> Self {
        Self { disable_tqdm: false, save_on_signal: true, log_format: LogFormat::Text, log_level: LogLevel::Passive }
    }
}

impl FrontendConfig {
    /// Takes these options from all others, which are returned too, with what is wrong with values.
    pub fn take_from(mut options: Map<String, Value>) -> (Self, Map<String, Value>, Vec<String>) {
        let mut own = Self::default();
        let problems = take_part(&mut options, &mut own);
        (own, options, problems)
    }
}
