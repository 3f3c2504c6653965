//! How rows become examples: the settings, and what they resolve to.

use crate::{ConfigProblem, Error};
use serde::{Deserialize, Serialize};

/// How rows become examples.
///
/// The fields have the names and defaults of TRL's `SFTConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrepareConfig {
    /// Length of the longest example in tokens. Longer rows are cut off at the end, or split if the
    /// packing strategy splits rows. None and 0 mean no limit. 1024 by default.
    pub max_length: Option<usize>,
    /// Whether to put several rows into one example. False by default.
    pub packing: bool,
    /// How rows are packed if `packing` is true. `bfd` by default.
    pub packing_strategy: PackingStrategy,
    /// Whether only what the assistant says counts in the loss. Every row must be a chat then.
    /// False by default.
    pub assistant_only_loss: bool,
    /// Whether only the completion counts in the loss of a prompt-completion row. True for such
    /// rows by default; it has no effect on other rows.
    pub completion_only_loss: Option<bool>,
}

/// How rows are packed into examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PackingStrategy {
    /// Rows stay whole and are combined so that little space is left over. Attention stays within
    /// a row.
    #[default]
    #[serde(rename = "bfd")]
    BestFitDecreasing,
    /// As `bfd`, but rows longer than `max_length` are split, not cut off.
    #[serde(rename = "bfd_split")]
    BestFitDecreasingSplit,
    /// All rows form one stream, which is cut into pieces of `max_length` tokens, even inside a
    /// row.
    #[serde(rename = "wrapped")]
    Wrapped,
}

serde_plain::derive_display_from_serialize!(PackingStrategy);
serde_plain::derive_fromstr_from_deserialize!(PackingStrategy);

impl Default for PrepareConfig {
    fn default() -> Self {
        Self {
            max_length: Some(1024),
            packing: false,
            packing_strategy: PackingStrategy::default(),
            assistant_only_loss: false,
            completion_only_loss: None,
        }
    }
}

/// What the settings resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Rows are cut off after this many tokens.
    pub(super) cut_to: Option<usize>,
    pub(super) packing: Packing,
    pub(super) loss_on: LossOn,
}

/// How rows share examples, and the length in tokens to which an example is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Each row is one example.
    None,
    BestFitDecreasing(usize),
    Wrapped(usize),
}

/// Which tokens count in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LossOn {
    /// The completion of a prompt-completion row, and every token of other rows.
    Completion,
    /// Every token.
    All,
    /// What the assistant says, and in the completion if a row has one.
    Assistant,
    /// What the assistant says, in the prompt too.
    AssistantAnywhere,
}

impl LossOn {
    pub(super) fn is_assistant(self) -> bool {
        matches!(self, Self::Assistant | Self::AssistantAnywhere)
    }
}

impl PrepareConfig {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem: `max_length` is 1, or there is no limit although rows
    /// are to be packed, or `assistant_only_loss` and `completion_only_loss` are both true.
    pub fn validate(&self) -> Result<(), Error> {
        self.plan().map(|_| ())
    }

    pub(super) fn plan(&self) -> Result<Plan, Error> {
        let mut problems = Vec::new();
        let limit = self.max_length.filter(|&length| length > 0);
        if limit == Some(1) {
            problems.push(ConfigProblem::new("max_length", 1, "at least 2: one token to read and one to predict"));
        }
        let packing = match (self.packing.then_some(self.packing_strategy), limit) {
            (None, _) => Packing::None,
            (Some(_), None) => {
                let value = self.max_length.map_or("none".to_owned(), |length| length.to_string());
                let fix = "a number of tokens is needed, to which packing fills each example";
                problems.push(ConfigProblem::new("max_length", value, fix));
                Packing::None
            }
            (Some(PackingStrategy::BestFitDecreasing | PackingStrategy::BestFitDecreasingSplit), Some(limit)) => {
                Packing::BestFitDecreasing(limit)
            }
            (Some(PackingStrategy::Wrapped), Some(limit)) => Packing::Wrapped(limit),
        };
        let cut_to = match self.packing_strategy {
            PackingStrategy::BestFitDecreasingSplit | PackingStrategy::Wrapped if self.packing => None,
            _ => limit,
        };
        if self.assistant_only_loss && self.completion_only_loss == Some(true) {
            let fix = "not together with assistant_only_loss";
            problems.push(ConfigProblem::new("completion_only_loss", true, fix));
        }
        let loss_on = match (self.assistant_only_loss, self.completion_only_loss) {
            (true, Some(false)) => LossOn::AssistantAnywhere,
            (true, _) => LossOn::Assistant,
            (false, Some(false)) => LossOn::All,
            (false, _) => LossOn::Completion,
        };
        Error::of_problems(problems).map(|()| Plan { cut_to, packing, loss_on })
    }
}
