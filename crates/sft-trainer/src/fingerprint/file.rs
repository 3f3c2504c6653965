//! `run.json` as it is written, read and compared.

use crate::Error;
use galore_optim::{MomentDtype, RefreshTiming, SubspaceSolver};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// The file in a checkpoint.
pub const RUN_FILE: &str = "run.json";

/// Everything that an exact continuation depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// For people: what the run was started with.
    pub(super) model_name: String,
    pub(super) dataset_name: String,
    /// SHA-256 over the token ids and labels of the training rows, in order.
    pub(super) train_rows: String,
    /// The same of the evaluation rows, if there are any. Old checkpoints do not say.
    #[serde(default)]
    pub(super) eval_rows: Option<String>,
    /// Options that decide rows, by name: they say why rows differ. Old checkpoints do not have
    /// them.
    #[serde(default)]
    pub(super) row_options: Map<String, Value>,
    /// SHA-256 over config.json without the fields that have no influence on the arithmetic.
    pub(super) model_config: String,
    /// Type of the weights.
    pub(super) dtype: String,
    pub(super) optimizer: OptimizerFingerprint,
}

/// What an optimizer state belongs to. Checkpoints of versions that had no choice lack the fields
/// with a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OptimizerFingerprint {
    pub(super) optim: String,
    pub(super) optim_args: Option<Value>,
    pub(super) optim_target_modules: Option<Value>,
    pub(super) bf16_weight_update: Value,
    #[serde(default)]
    pub(super) optim_state_dtype: MomentDtype,
    #[serde(default)]
    pub(super) galore_refresh: RefreshTiming,
    #[serde(default)]
    pub(super) galore_solver: SubspaceSolver,
    /// For people: the state of the optimizer says which of them may change.
    pub(super) adam: Value,
}

/// Fields that are for people.
const NOT_COMPARED: [&str; 4] = ["model_name", "dataset_name", "adam", ROW_OPTIONS];
/// Options that may change as long as the rows stay the same.
const ROW_OPTIONS: &str = "row_options";
/// What differs when one of these options did.
const ROWS: [&str; 2] = ["train_rows", "eval_rows"];
/// What a digest stands for, and the field that people know it by.
const DIGESTS: [(&str, &str, &str); 3] = [
    ("train_rows", "the training rows", "dataset_name"),
    ("eval_rows", "the evaluation rows", "dataset_name"),
    ("model_config", "the model's config.json", "model_name"),
];

impl RunFile {
    /// The text of the file.
    ///
    /// # Errors
    /// None in practice: it is plain data.
    pub fn to_text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Refuses to go on from a checkpoint of another run.
    ///
    /// # Errors
    /// [`Error::RunFile`] when the checkpoint's file cannot be read, [`Error::DifferentRun`] with
    /// each difference.
    pub fn check(&self, checkpoint: &Path) -> Result<(), Error> {
        let path = checkpoint.join(RUN_FILE);
        let unreadable = |problem: String| Error::RunFile { path: path.clone(), problem };
        let text = std::fs::read(&path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        let saved: Self =
            serde_json::from_slice(&text).map_err(|error| unreadable(format!("does not describe a run: {error}")))?;
        let differences = differences(&saved.fields()?, &self.fields()?);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::DifferentRun { checkpoint: checkpoint.to_owned(), differences })
    }

    /// All fields side by side, those of the optimizer too.
    fn fields(&self) -> serde_json::Result<Map<String, Value>> {
        let Value::Object(mut fields) = serde_json::to_value(self)? else { return Ok(Map::new()) };
        if let Some(Value::Object(optimizer)) = fields.remove("optimizer") {
            fields.extend(optimizer);
        }
        Ok(fields)
    }
}

/// Each field that changed, with both values.
fn differences(saved: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let mut differences = Vec::new();
    let mut changed_options = row_option_changes(saved, now);
    let are_options_known = !changed_options.is_empty();
    for (name, value) in now.iter().filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str())) {
        let before = saved.get(name).unwrap_or(&Value::Null);
        // Evaluation may be turned on or off on the way. Other rows would tell nothing about which
        // checkpoint is best.
        let is_optional = name == "eval_rows" && (before.is_null() || value.is_null());
        if before == value || is_optional {
            continue;
        }
        // The options that changed say more than the rows that they made.
        if ROWS.contains(&name.as_str()) && are_options_known {
            differences.append(&mut changed_options);
            continue;
        }
        let digest = DIGESTS.iter().find(|(field, ..)| field == name);
        let (what, [was, is]) = match digest {
            Some((_, what, known_by)) => (*what, [saved, now].map(|run| shown(run.get(*known_by)))),
            None => (name.as_str(), [shown(Some(before)), shown(Some(value))]),
        };
        differences.push(format!("{what} (was {was}, is {is})"));
    }
    differences
}

/// Each option that decides rows and is not as it was.
fn row_option_changes(saved: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let options = |run: &Map<String, Value>| run.get(ROW_OPTIONS).and_then(Value::as_object).cloned();
    let (Some(before), Some(now)) = (options(saved), options(now)) else { return Vec::new() };
    // An option that the checkpoint's version did not have is no difference.
    let both = before.iter().filter_map(|(name, before)| Some((name, before, now.get(name)?)));
    both.filter(|(_, before, now)| before != now)
        .map(|(name, before, now)| format!("{name} (was {}, is {})", shown(Some(before)), shown(Some(now))))
        .collect()
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}
