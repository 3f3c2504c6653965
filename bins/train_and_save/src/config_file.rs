//! Configuration files: YAML, TOML or JSON with any flag as a key.

use crate::flags::Flags;
use anyhow::{Context, Result, anyhow, bail};
use clap::CommandFactory;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::Path;

/// Options by the names of their flags.
///
/// # Errors
/// When the file cannot be read, is malformed, or has a key that is no flag.
pub fn read(path: &Path) -> Result<Map<String, Value>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let value: Value = match extension.to_ascii_lowercase().as_str() {
        "json" => serde_json::from_str(&text).with_context(|| format!("{shown} is not valid JSON"))?,
        "toml" => toml::from_str(&text).map_err(first_line).with_context(|| format!("{shown} is not valid TOML"))?,
        "yaml" | "yml" => {
            serde_saphyr::from_str(&text).map_err(first_line).with_context(|| format!("{shown} is not valid YAML"))?
        }
        _ => bail!("{shown}: a configuration file must end in .yaml, .yml, .toml or .json"),
    };
    let object = match value {
        Value::Object(object) => object,
        Value::Null => Map::new(),
        _ => bail!("{shown} must hold one mapping of flags to values"),
    };
    let mut resolved = Map::new();
    for (key, value) in object {
        let name = known_name(&key).with_context(|| format!("{shown}: unknown key {key}{}", suggestion(&key)))?;
        let value = match (name.as_str(), value) {
            // YAML reads `no` as false.
            ("eval_strategy" | "save_strategy" | "logging_strategy", Value::Bool(false)) => Value::from("no"),
            (_, value) => value,
        };
        if resolved.insert(name.clone(), value).is_some() {
            bail!("{shown}: {name} is given twice, the second time as {key}");
        }
    }
    Ok(resolved)
}

fn first_line(error: impl Display) -> anyhow::Error {
    anyhow!("{}", error.to_string().lines().next().unwrap_or_default())
}

/// The flag that a key means: its own name or an older spelling.
fn known_name(key: &str) -> Option<String> {
    let key = key.replace('-', "_");
    let command = Flags::command();
    let found = command.get_arguments().filter(|argument| argument.get_id() != "config").find(|argument| {
        argument.get_id().as_str() == key
            || argument.get_all_aliases().is_some_and(|names| names.contains(&key.as_str()))
    });
    found.map(|argument| argument.get_id().to_string())
}

fn suggestion(key: &str) -> String {
    let command = Flags::command();
    let names = command.get_arguments().map(|argument| argument.get_id().to_string()).filter(|name| name != "config");
    let nearest = names
        .map(|name| (strsim::jaro_winkler(&name, key), name))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}
