//! Several datasets as one.
//!
//! The options are those of TRL's `DatasetMixtureConfig` and, for how rows alternate,
//! LLaMA-Factory's `mix_strategy` and `interleave_probs`. The rows and their order are those of
//! `datasets.concatenate_datasets` and `datasets.interleave_datasets` for the same seed.

mod order;

use super::memory::RowMemory;
use super::repository::OpenRepository;
use super::{DataFiles, DatasetConfig, Evaluation, Part, Row, Splits, read_part, set_aside};
use crate::error::grouped;
use crate::{ConfigProblem, Error};
use order::Order;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::path::Path;

/// One dataset of a mixture, with the fields of TRL's `DatasetConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSource {
    /// A file, a folder, the name of a repository or of a reader, as `dataset_name`.
    pub path: String,
    /// The configuration to use, as `dataset_config`.
    #[serde(default)]
    pub name: Option<String>,
    /// As [`DatasetConfig::data_dir`].
    #[serde(default)]
    pub data_dir: Option<String>,
    /// As [`DatasetConfig::data_files`].
    #[serde(default)]
    pub data_files: Option<DataFiles>,
    /// The split to train on. `train` by default.
    #[serde(default = "train")]
    pub split: String,
    /// The columns to use. All by default.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// Target share of this dataset in the mixture. The shares are divided by their sum, and as
    /// many of the first rows of each dataset are taken as give these shares without taking a row
    /// twice. All datasets have one, or none has. None by default: all rows.
    #[serde(default)]
    pub fraction: Option<f64>,
}

fn train() -> String {
    "train".to_owned()
}

/// How the rows of several datasets follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixStrategy {
    /// One dataset after the other.
    #[default]
    Concat,
    /// In turn, or at random by `interleave_probs`, until the first dataset has no more rows.
    InterleaveUnder,
    /// The same until each dataset has had its last row once. A dataset that has no more rows
    /// starts again.
    InterleaveOver,
    /// The same until each row has come once. A dataset that has no more rows is left out.
    InterleaveOnce,
}

serde_plain::derive_display_from_serialize!(MixStrategy);

/// A list of datasets, or a JSON text of one.
pub(super) fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DatasetSource>, D::Error> {
    use serde::de::Error as _;
    let value = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|error| D::Error::custom(format!("is not JSON: {error}")))?
        }
        value => value,
    };
    let Value::Array(items) = value else {
        return Err(D::Error::custom("it is not a list of datasets, each with a path"));
    };
    let source = |(index, item): (usize, Value)| {
        serde_json::from_value(item).map_err(|error| D::Error::custom(format!("dataset {}: {error}", index + 1)))
    };
    items.into_iter().enumerate().map(source).collect()
}

/// A list of numbers, or a text of them with commas.
pub(super) fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<f64>>, D::Error> {
    use serde::de::Error as _;
    let bad = || D::Error::custom("it is not a list of probabilities, such as 0.7,0.3");
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| bad());
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(one) => Ok(Some(vec![one.as_f64().ok_or_else(bad)?])),
        Value::String(text) => text.trim_matches(['[', ']']).split(',').map(number).collect::<Result<_, _>>().map(Some),
        Value::Array(items) => {
            let of_item = |item: &Value| match item {
                Value::String(text) => number(text),
                item => item.as_f64().ok_or_else(bad),
            };
            items.iter().map(of_item).collect::<Result<_, _>>().map(Some)
        }
        _ => Err(bad()),
    }
}

/// What is wrong with the options of a mixture.
pub(super) fn problems(config: &DatasetConfig) -> Vec<ConfigProblem> {
    let DatasetConfig { datasets, mix_strategy, interleave_probs, .. } = config;
    let mut problems = Vec::new();
    let mut add = |field, value: String, fix: &str| problems.push(ConfigProblem::new(field, value, fix));
    if datasets.is_empty() {
        if *mix_strategy != MixStrategy::Concat {
            add("mix_strategy", mix_strategy.to_string(), "name the datasets to mix with `datasets`");
        }
        if interleave_probs.is_some() {
            add("interleave_probs", "set".to_owned(), "name the datasets to mix with `datasets`");
        }
        return problems;
    }
    if let Some(number) = datasets.iter().position(|source| source.path.is_empty()) {
        add("datasets", format!("number {}", number + 1), "give its `path`: a file, a folder or a repository's name");
    }
    let fractions: Vec<f64> = datasets.iter().filter_map(|source| source.fraction).collect();
    if !fractions.is_empty() {
        if fractions.len() < datasets.len() {
            add(
                "datasets",
                format!("{} of {} fractions", fractions.len(), datasets.len()),
                "give all datasets a `fraction`, or none",
            );
        }
        if fractions.iter().any(|fraction| !fraction.is_finite() || *fraction < 0.0)
            || fractions.iter().sum::<f64>() <= 0.0
        {
            add("datasets", format!("fractions {fractions:?}"), "use positive numbers for `fraction`");
        }
        if *mix_strategy != MixStrategy::Concat {
            add("mix_strategy", mix_strategy.to_string(), "leave out the `fraction` of each dataset, or use concat");
        }
    }
    if let Some(probabilities) = interleave_probs {
        let value = || format!("{probabilities:?}");
        let sum: f64 = probabilities.iter().sum();
        if *mix_strategy == MixStrategy::Concat {
            add(
                "interleave_probs",
                value(),
                "has no meaning with mix_strategy concat; use one of interleave_under, interleave_over, interleave_once",
            );
        } else if probabilities.len() != datasets.len() {
            add("interleave_probs", value(), &format!("give {} numbers, one for each dataset", datasets.len()));
        } else if probabilities.iter().any(|probability| probability.is_nan() || *probability < 0.0)
            || (sum - 1.0).abs() > f64::EPSILON.sqrt()
        {
            add("interleave_probs", value(), "use numbers of 0 or more that sum to 1");
        } else if *mix_strategy != MixStrategy::InterleaveUnder && probabilities.contains(&0.0) {
            add(
                "interleave_probs",
                value(),
                "a dataset of probability 0 never comes to its end: leave it out of `datasets`",
            );
        }
    }
    for (field, value, default) in [
        ("dataset_train_split", &config.dataset_train_split, "train"),
        ("dataset_test_split", &config.dataset_test_split, "test"),
    ] {
        if let Some(value) = value.as_ref().filter(|value| *value != default) {
            add(
                field,
                value.clone(),
                "has no meaning with `datasets`: each has its own `split`, and `test_size` sets rows aside",
            );
        }
    }
    for (field, is_set) in [
        ("data_files", config.data_files.is_some()),
        ("data_dir", config.data_dir.is_some()),
        ("dataset_config", config.dataset_config.is_some()),
        ("dataset_revision", config.dataset_revision != "main"),
    ] {
        if is_set {
            add(field, "set".to_owned(), "has no meaning with `datasets`; set it in one of them");
        }
    }
    problems
}

/// Reads all datasets and mixes their rows.
pub(super) fn load(config: &DatasetConfig, hub: &dyn OpenRepository) -> Result<Splits, Error> {
    let mut memory = RowMemory::new(config.max_dataset_memory);
    let mut parts = Vec::new();
    for source in &config.datasets {
        let alone = DatasetConfig {
            dataset_name: source.path.clone(),
            dataset_config: source.name.clone(),
            data_dir: source.data_dir.clone(),
            data_files: source.data_files.clone(),
            dataset_train_split: Some(source.split.clone()),
            dataset_text_field: config.dataset_text_field.clone(),
            evaluation: Evaluation::Off,
            ..DatasetConfig::default()
        };
        parts.push(read_part(&alone, source.columns.as_deref(), hub, &mut memory)?);
    }
    let lengths = taken(config, &parts)?;
    let order =
        Order { strategy: config.mix_strategy, probabilities: config.interleave_probs.as_deref(), seed: config.seed };
    let order = order.of(&lengths).map_err(|source| {
        let DatasetSource { path, .. } = &config.datasets[source];
        Error::config("datasets", path, "has no rows to interleave: leave it out")
    })?;
    tell(config, &parts, &order);
    let source = parts.iter().map(|part| part.source.as_str()).collect::<Vec<_>>().join("; ");
    let unused_columns = parts.iter().flat_map(|part| part.unused_columns.clone()).collect();
    let rows = pick(parts, &order, &mut memory)?;
    if rows.is_empty() {
        return Err(Error::NoRows { location: format!("mixture of {source}") });
    }
    if config.test_size.is_none() && config.evaluation == Evaluation::Required {
        return Err(Error::OnlyOneSplit { location: format!("mixture of {source}"), only: "train".to_owned() });
    }
    let aside = set_aside(config, rows)?;
    Ok(Splits {
        eval_name: aside.eval.as_ref().map(|_| "test".to_owned()),
        train: aside.train,
        train_numbers: aside.train_numbers,
        eval: aside.eval,
        train_name: "train".to_owned(),
        source: format!("mixture of {source}"),
        unused_columns,
    })
}

/// How many rows of each dataset take part: all, or the share that `fraction` says.
fn taken(config: &DatasetConfig, parts: &[Part]) -> Result<Vec<usize>, Error> {
    let fractions: Option<Vec<f64>> = config.datasets.iter().map(|source| source.fraction).collect();
    let Some(fractions) = fractions else { return Ok(parts.iter().map(|part| part.rows.len()).collect()) };
    let sum: f64 = fractions.iter().sum();
    let weights: Vec<f64> = fractions.iter().map(|fraction| fraction / sum).collect();
    let wanted = parts.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0);
    let total = wanted.map(|(part, weight)| part.rows.len() as f64 / weight).fold(f64::INFINITY, f64::min);
    // Python rounds to even.
    Ok(weights.iter().map(|weight| (weight * total).round_ties_even() as usize).collect())
}

/// Says how many rows come from each dataset.
fn tell(config: &DatasetConfig, parts: &[Part], order: &[(usize, usize)]) {
    let mut counts = vec![0u64; parts.len()];
    for (source, _) in order {
        counts[*source] += 1;
    }
    let all = order.len().max(1) as f64;
    let shares: Vec<String> = config
        .datasets
        .iter()
        .zip(parts)
        .zip(&counts)
        .map(|((source, part), count)| {
            let rows = grouped(part.rows.len() as u64);
            format!("{} {} of {rows} rows ({:.1} %)", shown(&source.path), grouped(*count), *count as f64 / all * 100.0)
        })
        .collect();
    tracing::info!("mixture, {}, in each epoch: {}", config.mix_strategy, shares.join("; "));
}

/// A name without the folders before it.
fn shown(path: &str) -> &str {
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
    if Path::new(path).exists() { name } else { path }
}

/// The rows in their order. A row that comes several times is copied.
fn pick(parts: Vec<Part>, order: &[(usize, usize)], memory: &mut RowMemory) -> Result<Vec<Row>, Error> {
    let mut left: Vec<Vec<u32>> = parts.iter().map(|part| vec![0; part.rows.len()]).collect();
    for (source, row) in order {
        left[*source][*row] += 1;
    }
    let mut rows: Vec<Vec<Option<Row>>> =
        parts.into_iter().map(|part| part.rows.into_iter().map(Some).collect()).collect();
    let mut picked = Vec::with_capacity(order.len());
    for (source, row) in order {
        let uses = &mut left[*source][*row];
        *uses -= 1;
        let place = &mut rows[*source][*row];
        let row = if *uses == 0 { place.take() } else { place.clone() };
        let Some(row) = row else { continue };
        if *uses > 0 {
            memory.spend(&row, Path::new("the mixture"), picked.len() as u64 + 1)?;
        }
        picked.push(row);
    }
    Ok(picked)
}

#[cfg(test)]
mod tests;
