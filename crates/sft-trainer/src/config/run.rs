//! Options that belong to no part alone.

use super::Auto;
use checkpoint_callbacks::EarlyStopping;
use run_reports::Destination;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sft_data::{ByteSize, SamplingStrategy};
use std::path::PathBuf;

/// A batch beyond this is a typing error, and products of two still fit every integer.
const MOST_ROWS: usize = 1_000_000;

/// Options of a run beside those of its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Where to go on from. Default: nowhere, a new run.
    pub resume_from_checkpoint: ResumeFrom,
    /// Whether to evaluate at all. Default true.
    pub do_eval: bool,
    /// Lay rows end to end in place of padding them to the longest. Default `auto`: unless
    /// `pad_to_multiple_of` is set.
    pub padding_free: Auto<bool>,
    /// With padding: round the width up to a multiple of this. Unset: 1.
    pub pad_to_multiple_of: Option<usize>,
    /// The order of the training rows. Default `random`.
    pub train_sampling_strategy: SamplingStrategy,
    /// The older spelling of `train_sampling_strategy` `group_by_length`. Default false.
    pub group_by_length: bool,
    /// Stop after so many evaluations in a row without improvement. Unset: never.
    pub early_stopping_patience: Option<u64>,
    /// What counts as improvement. Unset: 0.
    pub early_stopping_threshold: Option<f64>,
    /// Warn when a logged loss is more than this many times the median before it. Unset: never.
    pub loss_spike_factor: Option<f64>,
    /// Keep tokenized rows in the cache folder, if there is one, and take them from there. Default
    /// true.
    pub token_cache: bool,
    /// What they may take there together. Default 20 GiB.
    pub token_cache_limit: ByteSize,
    /// Where to report to besides the files of every run, by the names of [`Destination`]; `all`
    /// is all that are here. Default: nowhere.
    #[serde(deserialize_with = "one_or_several")]
    pub report_to: Vec<String>,
    /// Where `report_to` tensorboard writes. Unset: `TENSORBOARD_LOGGING_DIR`, else
    /// `runs/<run_name>` in the output folder.
    pub logging_dir: Option<PathBuf>,
    /// The name of the run in reports. Unset: the time and the host.
    pub run_name: Option<String>,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            resume_from_checkpoint: ResumeFrom::Nothing,
            do_eval: true,
            padding_free: Auto(None),
            pad_to_multiple_of: None,
            train_sampling_strategy: SamplingStrategy::default(),
            group_by_length: false,
            early_stopping_patience: None,
            early_stopping_threshold: None,
            loss_spike_factor: None,
            token_cache: true,
            token_cache_limit: ByteSize(20 << 30),
            report_to: Vec::new(),
            logging_dir: None,
            run_name: None,
        }
    }
}

impl RunConfig {
    /// The callback for `early_stopping_patience`, if it is set.
    pub fn early_stopping(&self) -> Option<EarlyStopping> {
        let stopping = EarlyStopping::new(self.early_stopping_patience?);
        Some(stopping.with_threshold(self.early_stopping_threshold.unwrap_or(0.0)))
    }

    /// The order of the training rows, in whichever spelling it was given.
    pub(crate) fn sampling(&self) -> SamplingStrategy {
        if self.group_by_length { SamplingStrategy::GroupByLength } else { self.train_sampling_strategy }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(multiple @ (0 | MOST_ROWS..)) = self.pad_to_multiple_of {
            problems.push(format!("pad_to_multiple_of is {multiple}: use 1 to {}", MOST_ROWS - 1));
        }
        if let (Auto(Some(true)), Some(multiple)) = (self.padding_free, self.pad_to_multiple_of) {
            problems.push(format!("pad_to_multiple_of is {multiple}: there is no padding with padding_free true"));
        }
        if self.group_by_length && self.train_sampling_strategy == SamplingStrategy::Sequential {
            problems.push("group_by_length is true: not with train_sampling_strategy sequential".to_owned());
        }
        if let Some(factor) = self.loss_spike_factor.filter(|factor| !factor.is_finite() || *factor <= 1.0) {
            problems.push(format!("loss_spike_factor is {factor}: use a number above 1"));
        }
        if let Some(threshold) = self.early_stopping_threshold {
            if threshold.is_nan() || threshold < 0.0 {
                problems.push(format!("early_stopping_threshold is {threshold}: use 0 or more"));
            }
            if self.early_stopping_patience.is_none() {
                let fix = "has no effect without early_stopping_patience";
                problems.push(format!("early_stopping_threshold is {threshold}: {fix}"));
            }
        }
        problems.extend(Destination::from_names(&self.report_to).err().map(|error| error.to_string()));
        problems
    }

    /// A line about names in `report_to` that nothing is written for, if there are any.
    pub fn unwritten_reports(&self) -> Option<String> {
        let told = Destination::elsewhere(&self.report_to);
        let rest = "nothing is trained differently, and metrics.jsonl has every figure";
        (!told.is_empty()).then(|| format!("report_to: {}; {rest}", told.join("; ")))
    }
}

/// Where a run goes on from. In files and flags: `false`, `true`, `auto`, or a checkpoint's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResumeFrom {
    /// It is a new run.
    #[default]
    Nothing,
    /// The newest complete checkpoint in the output folder.
    Newest,
    /// That one if there is one; otherwise it is a new run. The name in files is `auto`.
    NewestIfAny,
    /// This checkpoint.
    Checkpoint(PathBuf),
}

const AUTO: &str = "auto";

impl Serialize for ResumeFrom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_bool(false),
            Self::Newest => serializer.serialize_bool(true),
            Self::NewestIfAny => serializer.serialize_str(AUTO),
            Self::Checkpoint(path) => path.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ResumeFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(false) | Value::Null => Ok(Self::Nothing),
            Value::Bool(true) => Ok(Self::Newest),
            Value::String(name) if name == AUTO => Ok(Self::NewestIfAny),
            Value::String(path) => Ok(Self::Checkpoint(path.into())),
            _ => Err(serde::de::Error::custom("expected true, false, auto or a checkpoint's folder")),
        }
    }
}

/// A list of names, or one name.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrSeveral {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(OneOrSeveral::One(name)) => vec![name],
        Some(OneOrSeveral::Several(names)) => names,
    })
}
