//! What a run is: kept in each checkpoint as `run.json`, and compared when a run goes on.
//!
//! A resumed run is the same run only on the same rows, with the same model and the same optimizer
//! state; what may change on purpose (learning rate, schedule, length, batch of the evaluation,
//! intervals) is not part of it.

mod saved;

use crate::settings::{OptimizerKind, OptimizerSettings, Settings};
use anyhow::Result;
use causal_lm::{CausalLm, ParameterSpec};
use galore_optim::{GaLoreConfig, MomentDtype};
use saved::Optimizer;
use sft_data::Example;
use sha2::{Digest, Sha256};

pub use saved::{Identity, RUN_FILE};

impl Identity {
    /// Of a run that is about to start.
    ///
    /// # Errors
    /// None in practice: settings are plain data.
    pub fn new(
        settings: &Settings,
        model: &CausalLm,
        moments: MomentDtype,
        train: &[Example],
        eval: Option<&[Example]>,
    ) -> Result<Self> {
        Ok(Self {
            model_name: settings.model_name.clone(),
            dataset_name: settings.dataset.dataset_name.clone(),
            train_rows: digest_rows(train),
            eval_rows: eval.map(digest_rows),
            model_config: digest_model(model)?,
            dtype: format!("{:?}", model.parameters().flat_weights().f_kind()?),
            optimizer: Optimizer::new(&settings.optimizer, moments)?,
        })
    }
}

impl Optimizer {
    fn new(settings: &OptimizerSettings, moments: MomentDtype) -> Result<Self> {
        let (mut galore_refresh, mut galore_solver) = Default::default();
        let (optim, optim_args, optim_target_modules) = match &settings.kind {
            OptimizerKind::AdamW => ("adamw_torch", None, None),
            OptimizerKind::GaLoreAdamW { galore, targets } => {
                (galore_refresh, galore_solver) = (galore.refresh, galore.solver);
                // Flags of their own, and not of optim_args.
                let (refresh, solver) = Default::default();
                let optim_args = GaLoreConfig { refresh, solver, ..galore.clone() };
                ("galore_adamw", Some(serde_json::to_value(optim_args)?), Some(serde_json::to_value(targets)?))
            }
        };
        Ok(Self {
            optim: optim.to_owned(),
            optim_args,
            optim_target_modules,
            bf16_weight_update: serde_json::to_value(settings.weight_update)?,
            optim_state_dtype: moments,
            galore_refresh,
            galore_solver,
            adam: serde_json::to_value(&settings.adam)?,
        })
    }
}

fn digest_rows(rows: &[Example]) -> String {
    let mut hasher = Sha256::new();
    for row in rows {
        hasher.update(row.input_ids.len().to_le_bytes());
        row.input_ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
        row.labels.iter().flatten().for_each(|label| hasher.update(label.to_le_bytes()));
        row.segment_lengths.iter().for_each(|length| hasher.update(length.to_le_bytes()));
    }
    hex(&hasher.finalize())
}

/// Fields that a saved model may state differently, or that say nothing about arithmetic.
const NOT_ARITHMETIC: [&str; 7] = [
    "dtype",
    "torch_dtype",
    "transformers_version",
    "_name_or_path",
    "architectures",
    "use_cache",
    "tie_word_embeddings",
];

fn digest_model(model: &CausalLm) -> Result<String> {
    let config = model.config();
    let mut fields: Vec<_> = config.raw.iter().filter(|(name, _)| !NOT_ARITHMETIC.contains(&name.as_str())).collect();
    fields.sort_by_key(|(name, _)| *name);
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(&fields)?);
    for ParameterSpec { name, shape, .. } in model.parameters().specs() {
        hasher.update(format!("{name}{shape:?}"));
    }
    Ok(hex(&hasher.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use galore_optim::{RefreshTiming, SubspaceSolver};
    use serde_json::Value;

    fn identity() -> Identity {
        Identity {
            model_name: "m".into(),
            dataset_name: "d".into(),
            train_rows: digest_rows(&[Example {
                input_ids: vec![1, 2],
                labels: None,
                segment_lengths: vec![2],
                rows: vec![1],
            }]),
            eval_rows: Some("e".into()),
            model_config: "c".into(),
            dtype: "BFloat16".into(),
            optimizer: Optimizer {
                optim: "galore_adamw".into(),
                optim_args: Some(serde_json::json!({"rank": 4})),
                optim_target_modules: None,
                bf16_weight_update: "exact".into(),
                optim_state_dtype: MomentDtype::Float32,
                galore_refresh: RefreshTiming::Together,
                galore_solver: SubspaceSolver::Auto,
                adam: Value::Null,
            },
        }
    }

    #[test]
    fn what_changed_is_named_and_what_may_change_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(RUN_FILE), identity().to_text().unwrap()).unwrap();
        let renamed = Identity { model_name: "elsewhere/m".into(), ..identity() };
        renamed.check(folder.path()).unwrap();

        let rows = [Example { input_ids: vec![1, 3], labels: None, segment_lengths: vec![2], rows: vec![1] }];
        let mut changed = Identity { train_rows: digest_rows(&rows), dtype: "Float".into(), ..identity() };
        changed.optimizer.optim_args = Some(serde_json::json!({"rank": 8}));
        changed.optimizer.galore_refresh = RefreshTiming::Staggered;
        changed.optimizer.galore_solver = SubspaceSolver::Svd;
        let message = changed.check(folder.path()).unwrap_err().to_string();
        for expected in [
            "the training rows",
            "dtype (was BFloat16, is Float)",
            "optim_args (was {\"rank\":4}, is {\"rank\":8})",
            "galore_refresh (was together, is staggered)",
            "galore_solver (was auto, is svd)",
        ] {
            assert!(message.contains(expected), "{message}");
        }
        assert!(!message.contains("config.json") && !message.contains("evaluation"), "{message}");
    }

    #[test]
    fn flags_of_galore_are_no_part_of_optim_args() {
        let settings = |galore| OptimizerSettings {
            kind: OptimizerKind::GaLoreAdamW { galore, targets: galore_optim::TargetModules::List(vec![]) },
            adam: galore_optim::AdamConfig::galore_default(),
            weight_update: galore_optim::WeightUpdate::Exact,
            moments: None,
        };
        let of = |galore| Optimizer::new(&settings(galore), MomentDtype::Float32).unwrap();
        let plain = of(GaLoreConfig::default());
        let refresh = RefreshTiming::Staggered;
        let staggered = of(GaLoreConfig { refresh, ..GaLoreConfig::default() });
        assert_eq!(staggered, Optimizer { galore_refresh: refresh, ..plain });
        // As checkpoints from before these flags have it.
        let known = serde_json::json!({"rank": 128, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std"});
        assert_eq!(staggered.optim_args, Some(known));
    }

    #[test]
    fn other_evaluation_rows_are_named_and_none_are_no_change() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(RUN_FILE), identity().to_text().unwrap()).unwrap();
        Identity { eval_rows: None, ..identity() }.check(folder.path()).unwrap();
        let changed = Identity { eval_rows: Some("f".into()), ..identity() };
        let message = changed.check(folder.path()).unwrap_err().to_string();
        assert!(message.contains("changed since: the evaluation rows (was d, is d);"), "{message}");

        // A checkpoint from before they were part of it.
        let path = folder.path().join(RUN_FILE);
        let mut saved: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        saved.as_object_mut().unwrap().remove("eval_rows").unwrap();
        std::fs::write(&path, saved.to_string()).unwrap();
        changed.check(folder.path()).unwrap();
    }
}
