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
    /// rows by default; it has no effect on chats and texts. The column `completion_mask` of rows
    /// of token ids is used only if this is true, as in TRL.
    pub completion_only_loss: Option<bool>,
    /// What happens to rows that are longer than `max_length`. `keep_start` by default.
    pub truncation_mode: TruncationMode,
    /// Which tokens count in the loss. Unset, `assistant_only_loss` and `completion_only_loss`
    /// decide.
    pub train_on: Option<TrainOn>,
    /// Whether only the last turn of the assistant counts in the loss, as if `train_on` were
    /// `last`. False by default.
    pub mask_history: bool,
    /// What becomes of the assistant's reasoning. `keep` by default.
    pub thinking: Thinking,
    /// Which of the tokens that end the assistant's turns count in the loss. `turn` by default.
    pub train_on_eos: TrainOnEos,
}

/// What happens to rows that are longer than `max_length`. With `packing`, it applies to the rows
/// before they are packed; strategies that split rows take only `keep_start`, and split them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TruncationMode {
    /// Their end is cut off.
    #[default]
    KeepStart,
    /// Their start is cut off.
    KeepEnd,
    /// They are dropped.
    Drop,
    /// Each becomes several examples.
    Split,
}

/// Which tokens count in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Every token.
    All,
    /// What the assistant says in any turn, in prompts too.
    Assistant,
    /// What the assistant says in its last turn.
    Last,
    /// The completion. Every row must have one.
    Completion,
}

/// What becomes of the assistant's reasoning: of text between tags such as `<think>` and
/// `</think>`, and of the key `reasoning_content`, which a template may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// It stays and counts in the loss like the text around it.
    #[default]
    Keep,
    /// It is removed from the messages before the chat template sees them.
    Drop,
    /// It stays, and does not count in the loss. Its tags do not count either.
    Mask,
}

/// Which of the tokens that end the assistant's turns count in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOnEos {
    /// That of each turn that counts itself.
    #[default]
    Turn,
    /// That of the row's last turn.
    Last,
    /// None.
    None,
}

serde_plain::derive_display_from_serialize!(TruncationMode);
serde_plain::derive_fromstr_from_deserialize!(TruncationMode);
serde_plain::derive_display_from_serialize!(TrainOn);
serde_plain::derive_fromstr_from_deserialize!(TrainOn);
serde_plain::derive_display_from_serialize!(Thinking);
serde_plain::derive_fromstr_from_deserialize!(Thinking);
serde_plain::derive_display_from_serialize!(TrainOnEos);
serde_plain::derive_fromstr_from_deserialize!(TrainOnEos);

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
            truncation_mode: TruncationMode::default(),
            train_on: None,
            mask_history: false,
            thinking: Thinking::default(),
            train_on_eos: TrainOnEos::default(),
        }
    }
}

/// What the settings resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The longest row, and what happens to longer ones.
    pub(crate) limit: Option<(usize, TruncationMode)>,
    pub(crate) packing: Packing,
    pub(crate) learn: Learn,
}

/// How rows share examples, and the length in tokens to which an example is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Each row is one example.
    None,
    BestFitDecreasing(usize),
    Wrapped(usize),
}

/// What counts in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Learn {
    pub(crate) on: LossOn,
    /// The option that `on` comes from, for messages.
    pub(crate) option: &'static str,
    pub(crate) thinking: Thinking,
    pub(crate) eos: TrainOnEos,
    /// Whether the column `completion_mask` of token ids is used.
    pub(crate) uses_completion_mask: bool,
}

/// Which tokens count in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LossOn {
    /// The completion of a prompt-completion row, and every token of other rows.
    Default,
    /// The completion. Every row must have one.
    Completion,
    /// Every token.
    All,
    /// What the assistant says, and in the completion if a row has one.
    Assistant,
    /// What the assistant says, in the prompt too.
    AssistantAnywhere,
    /// What the assistant says last.
    Last,
}

impl LossOn {
    pub(crate) fn is_assistant(self) -> bool {
        matches!(self, Self::Assistant | Self::AssistantAnywhere | Self::Last)
    }
}

impl PrepareConfig {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem: `max_length` is 1, or there is no limit although rows
    /// are to be packed, or two of the fields that say what counts in the loss contradict each
    /// other, or `truncation_mode` has no effect.
    pub fn validate(&self) -> Result<(), Error> {
        self.plan().map(|_| ())
    }

    pub(crate) fn plan(&self) -> Result<Plan, Error> {
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
        let mode = self.truncation_mode;
        let splits = self.packing && self.packing_strategy != PackingStrategy::BestFitDecreasing;
        if splits && !matches!(mode, TruncationMode::KeepStart | TruncationMode::Split) {
            let fix = format!("packing_strategy {} splits rows and cuts nothing off: use bfd", self.packing_strategy);
            problems.push(ConfigProblem::new("truncation_mode", mode, fix));
        }
        let limit = if splits { None } else { limit.map(|limit| (limit, mode)) };
        let learn = self.learn(&mut problems);
        Error::of_problems(problems).map(|()| Plan { limit, packing, learn })
    }

    fn learn(&self, problems: &mut Vec<ConfigProblem>) -> Learn {
        if self.assistant_only_loss && self.completion_only_loss == Some(true) {
            let fix = "not together with assistant_only_loss";
            problems.push(ConfigProblem::new("completion_only_loss", true, fix));
        }
        if let Some(train_on) = self.train_on {
            let fix = |option| format!("not together with {option}, which says the same in another way");
            if self.assistant_only_loss && train_on != TrainOn::Assistant {
                problems.push(ConfigProblem::new("train_on", train_on, fix("assistant_only_loss")));
            }
            if self.completion_only_loss == Some(true) && train_on != TrainOn::Completion {
                problems.push(ConfigProblem::new("train_on", train_on, fix("completion_only_loss")));
            }
        }
        let masks_nothing = matches!(self.train_on, Some(TrainOn::All | TrainOn::Completion));
        if self.mask_history && (masks_nothing || self.completion_only_loss == Some(false)) {
            let fix = "the last turn alone counts then: leave out `train_on` and `completion_only_loss`";
            problems.push(ConfigProblem::new("mask_history", true, fix));
        }
        let (on, option) = match (self.train_on, self.assistant_only_loss, self.completion_only_loss) {
            _ if self.mask_history => (LossOn::Last, "mask_history"),
            (Some(TrainOn::Last), ..) => (LossOn::Last, "train_on"),
            (Some(TrainOn::All), ..) => (LossOn::All, "train_on"),
            (Some(TrainOn::Completion), ..) => (LossOn::Completion, "train_on"),
            (Some(TrainOn::Assistant), ..) => (LossOn::AssistantAnywhere, "train_on"),
            (None, true, Some(false)) => (LossOn::AssistantAnywhere, "assistant_only_loss"),
            (None, true, _) => (LossOn::Assistant, "assistant_only_loss"),
            (None, false, Some(false)) => (LossOn::All, "completion_only_loss"),
            (None, false, _) => (LossOn::Default, "completion_only_loss"),
        };
        let uses_completion_mask =
            self.completion_only_loss == Some(true) || self.train_on == Some(TrainOn::Completion);
        Learn { on, option, thinking: self.thinking, eos: self.train_on_eos, uses_completion_mask }
    }
}
