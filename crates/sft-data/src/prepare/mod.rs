//! Rows to token ids.
use crate::{ChatTokenizer, Error, Row};

/// How rows become examples.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrepareConfig {
    /// Longest example in tokens; what is beyond is cut off. None: no limit.
    pub max_length: Option<usize>,
    /// Whether and how several rows share one example.
    pub packing: Packing,
    /// Which tokens count in the loss.
    pub loss_on: LossOn,
}

/// Whether and how several rows share one example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// One row, one example.
    #[default]
    None,
    /// Rows are kept whole and put together so that little is left over; attention stays within a row.
    #[serde(rename = "bfd")]
    BestFitDecreasing,
    /// As above, and rows that are too long are split rather than cut off.
    #[serde(rename = "bfd_split")]
    BestFitDecreasingSplit,
    /// All rows as one stream, cut into equal pieces, regardless of where a row ends.
    Wrapped,
}

/// Which tokens count in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// The completion of a prompt-completion row, everything of any other.
    #[default]
    Auto,
    /// Every token.
    All,
    /// What the assistant says (`assistant_only_loss`).
    Assistant,
}

impl Default for PrepareConfig {
    fn default() -> Self {
        Self { max_length: Some(1024), packing: Packing::None, loss_on: LossOn::Auto }
    }
}

/// Token ids of one row, or of several packed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids, `[t]`.
    pub input_ids: Vec<u32>,
    /// Labels, `[t]`, not shifted; `None` if they are the ids themselves.
    pub labels: Option<Vec<i64>>,
    /// Lengths of the documents in it, in order; one entry unless packed.
    pub segment_lengths: Vec<u32>,
}

/// Examples and what was done to get them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What to train on.
    pub examples: Vec<Example>,
    /// The count of it all.
    pub report: PrepareReport,
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct PrepareReport {
    /// Rows that came in.
    pub rows: usize,
    /// Rows that are trained on.
    pub kept: usize,
    /// Rows of which the end was cut off.
    pub truncated: usize,
    /// Tokens cut off.
    pub truncated_tokens: usize,
    /// Rows without anything to learn.
    pub dropped_empty: usize,
    /// Rows whose every target was cut off, the prompt alone being too long.
    pub dropped_truncated: usize,
    /// Tokens in the examples.
    pub tokens: usize,
    /// Tokens that count in the loss.
    pub target_tokens: usize,
}

/// Turns rows into examples.
pub fn prepare(_rows: &[Row], _tokenizer: &ChatTokenizer, _config: &PrepareConfig) -> Result<Prepared, Error> {
    Ok(Prepared { examples: Vec::new(), report: PrepareReport::default() })
}
