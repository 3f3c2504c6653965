//! `run.json` as it is written, read and compared. Nothing here knows where its fields come from.

use anyhow::{Context, Result, bail};
use galore_optim::{MomentDtype, RefreshTiming, SubspaceSolver};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The file in a checkpoint.
pub const RUN_FILE: &str = "run.json";

/// Everything that an exact continuation depends on, and what the run was started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// For people: what was named on the command line.
    pub(super) model_name: String,
    pub(super) dataset_name: String,
    /// SHA-256 over the token ids and labels of the training rows, in order.
    pub(super) train_rows: String,
    /// The same of the rows to evaluate on, if there are any.
    #[serde(default)]
    pub(super) eval_rows: Option<String>,
    /// SHA-256 over config.json, less what has no influence on the arithmetic.
    pub(super) model_config: String,
    /// Type of the weights.
    pub(super) dtype: String,
    pub(super) optimizer: Optimizer,
}

/// What an optimizer state fits to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    pub(super) optim: String,
    pub(super) optim_args: Option<Value>,
    pub(super) optim_target_modules: Option<Value>,
    pub(super) bf16_weight_update: Value,
    /// Of the moments. Checkpoints of versions that had no choice do not say.
    #[serde(default)]
    pub(super) optim_state_dtype: MomentDtype,
    /// GaLore's, like the next: on which steps subspaces are made anew, and how.
    #[serde(default)]
    pub(super) galore_refresh: RefreshTiming,
    #[serde(default)]
    pub(super) galore_solver: SubspaceSolver,
    pub(super) adam: Value,
}

impl Identity {
    /// The text of its file.
    ///
    /// # Errors
    /// None in practice: it is plain data.
    pub fn to_text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Refuses to go on from a checkpoint of another run.
    ///
    /// # Errors
    /// Names each difference.
    pub fn check(&self, checkpoint: &Path) -> Result<()> {
        let path = checkpoint.join(RUN_FILE);
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let saved: Self = serde_json::from_slice(&text).with_context(|| format!("{} is not a run", path.display()))?;
        let mut differences = Vec::new();
        let mut compare = |what: &str, is_same: bool, saved: &str, now: &str| {
            if !is_same {
                differences.push(format!("{what} (was {saved}, is {now})"));
            }
        };
        compare("the training rows", saved.train_rows == self.train_rows, &saved.dataset_name, &self.dataset_name);
        // Evaluations may be turned on or off on the way, but those of other rows tell nothing of
        // which checkpoint is best.
        let has_both = saved.eval_rows.is_some() && self.eval_rows.is_some();
        let is_same = !has_both || saved.eval_rows == self.eval_rows;
        compare("the evaluation rows", is_same, &saved.dataset_name, &self.dataset_name);
        compare(
            "the model's config.json",
            saved.model_config == self.model_config,
            &saved.model_name,
            &self.model_name,
        );
        compare("dtype", saved.dtype == self.dtype, &saved.dtype, &self.dtype);
        let (before, now) = (&saved.optimizer, &self.optimizer);
        compare("optim", before.optim == now.optim, &before.optim, &now.optim);
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "none".to_owned(), Value::to_string);
        let (before_args, now_args) = (text(&before.optim_args), text(&now.optim_args));
        compare("optim_args", before_args == now_args, &before_args, &now_args);
        let (before_targets, now_targets) = (text(&before.optim_target_modules), text(&now.optim_target_modules));
        compare("optim_target_modules", before_targets == now_targets, &before_targets, &now_targets);
        let (before_update, now_update) = (before.bf16_weight_update.to_string(), now.bf16_weight_update.to_string());
        compare("bf16_weight_update", before_update == now_update, &before_update, &now_update);
        let [before_state, now_state] = [before, now].map(|run| match run.optim_state_dtype {
            MomentDtype::Float32 => "float32",
            MomentDtype::Bfloat16 => "bfloat16",
        });
        compare("optim_state_dtype", before_state == now_state, before_state, now_state);
        let [before_refresh, now_refresh] = [before, now].map(|run| match run.galore_refresh {
            RefreshTiming::Together => "together",
            RefreshTiming::Staggered => "staggered",
        });
        compare("galore_refresh", before_refresh == now_refresh, before_refresh, now_refresh);
        let [before_solver, now_solver] = [before, now].map(|run| match run.galore_solver {
            SubspaceSolver::Auto => "auto",
            SubspaceSolver::Svd => "svd",
            SubspaceSolver::Eigenvectors => "eigenvectors",
        });
        compare("galore_solver", before_solver == now_solver, before_solver, now_solver);
        if differences.is_empty() {
            return Ok(());
        }
        bail!(
            "{} is of another run; changed since: {}; give the same as before, or start anew in another --output_dir",
            checkpoint.display(),
            differences.join(", ")
        )
    }
}
