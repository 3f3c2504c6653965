//! What makes two runs the same run: kept in each checkpoint as `run.json`, and compared when a run
//! resumes.
//!
//! A resumed run is the same run only on the same rows, with the same model and the same optimizer
//! state. What may change on purpose (learning rate, schedule, evaluation batch, intervals) is not
//! compared.

mod file;

pub(crate) use file::OptimizerFingerprint;
pub use file::{RUN_FILE, RunFile};

use crate::Error;
use crate::config::{OptimizerConfig, SftConfig};
use causal_lm::{CausalLm, ParameterSpec};
use galore_optim::{GaLoreConfig, MomentDtype, WeightUpdate};
use serde_json::{Map, Value};
use sft_data::Example;
use sha2::{Digest, Sha256};

impl RunFile {
    /// Of a run that is about to start, from its training rows and its evaluation rows.
    pub(crate) fn new(
        config: &SftConfig,
        model: &CausalLm,
        optimizer: OptimizerFingerprint,
        (train, eval): (&[Example], Option<&[Example]>),
    ) -> Result<Self, Error> {
        Ok(Self {
            model_name: config.model.model_name.clone(),
            dataset_name: config.dataset.shown_name(),
            train_rows: digest_rows(train),
            eval_rows: eval.map(digest_rows),
            row_options: row_options(config)?,
            model_config: digest_model(model)?,
            dtype: format!("{:?}", model.parameters().flat_weights().f_kind()?),
            optimizer,
        })
    }
}

impl OptimizerFingerprint {
    pub(crate) fn new(
        settings: &OptimizerConfig,
        galore: Option<&GaLoreConfig>,
        moments: MomentDtype,
        weight_update: WeightUpdate,
    ) -> Result<Self, Error> {
        // Options of their own, and so no part of optim_args.
        let (refresh, subspace) = Default::default();
        let optim_args = galore.map(|galore| GaLoreConfig { refresh, subspace, ..galore.clone() });
        let mut optim_args = optim_args.map(serde_json::to_value).transpose()?;
        if let (Some(Value::Object(optim_args)), Ok(Some(scaling))) = (&mut optim_args, settings.apollo_scaling()) {
            optim_args.insert("scale_type".to_owned(), serde_json::to_value(scaling)?);
        }
        Ok(Self {
            optim: settings.optim.to_string(),
            optim_args,
            optim_target_modules: galore.map(|_| serde_json::to_value(settings.targets())).transpose()?,
            bf16_weight_update: serde_json::to_value(weight_update)?,
            optim_state_dtype: moments,
            galore_refresh: galore.map(|galore| galore.refresh).unwrap_or_default(),
            galore_solver: galore.map(|galore| galore.subspace).unwrap_or_default(),
            adam: serde_json::to_value(settings.adam())?,
        })
    }

    /// Of an optimizer that is known by its name alone.
    pub(crate) fn custom(name: String) -> Self {
        Self {
            optim: name,
            optim_args: None,
            optim_target_modules: None,
            bf16_weight_update: serde_json::Value::Null,
            optim_state_dtype: MomentDtype::default(),
            galore_refresh: Default::default(),
            galore_solver: Default::default(),
            adam: serde_json::Value::Null,
        }
    }
}

/// Options that say nothing about which rows there are.
const NOT_ROWS: [&str; 2] = ["max_dataset_memory", "evaluation"];

/// Every option that decides which rows there are and what their tokens and labels are.
fn row_options(config: &SftConfig) -> Result<Map<String, Value>, Error> {
    let parts = [
        serde_json::to_value(&config.dataset)?,
        serde_json::to_value(&config.prepare)?,
        serde_json::to_value(&config.tokenizer)?,
    ];
    let fields =
        parts.into_iter().filter_map(|part| if let Value::Object(fields) = part { Some(fields) } else { None });
    Ok(fields.flatten().filter(|(name, _)| !NOT_ROWS.contains(&name.as_str())).collect())
}

fn digest_rows(rows: &[Example]) -> String {
    let mut hasher = Sha256::new();
    for row in rows {
        hasher.update(row.input_ids.len().to_le_bytes());
        row.input_ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
        if row.labels.is_some() {
            row.label_ids().for_each(|label| hasher.update(label.to_le_bytes()));
        }
        row.segment_lengths.iter().for_each(|length| hasher.update(length.to_le_bytes()));
    }
    hex::encode(hasher.finalize())
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

fn digest_model(model: &CausalLm) -> Result<String, Error> {
    let config = model.config();
    let mut fields: Vec<_> = config.raw.iter().filter(|(name, _)| !NOT_ARITHMETIC.contains(&name.as_str())).collect();
    fields.sort_by_key(|(name, _)| *name);
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(&fields)?);
    for ParameterSpec { name, shape, .. } in model.parameters().specs() {
        hasher.update(format!("{name}{shape:?}"));
    }
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests;
