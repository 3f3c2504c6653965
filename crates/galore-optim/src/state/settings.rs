//! The settings that a state was made with. With others its numbers would mean something else: a
//! larger gap, for example, would refresh at other steps.

use crate::AdamConfig;
use crate::engine::Engine;
use crate::parameter_state::ParameterState;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Settings that may change on the way, like the learning rate: they are no part of what the state
/// means.
const MAY_CHANGE: [&str; 1] = ["weight_decay"];

/// Parameters with the same settings.
#[derive(Deserialize)]
struct Group {
    parameters: Vec<String>,
    settings: Map<String, Value>,
}

/// The settings of all parameters, as text.
pub(super) fn text(engine: &Engine) -> serde_json::Result<String> {
    let mut groups: Vec<(Value, Vec<&str>)> = Vec::new();
    for state in &engine.parameters {
        let settings = of(state)?;
        let name = state.name_in_state();
        match groups.last_mut().filter(|(last, _)| *last == settings) {
            Some((_, names)) if names.last() == Some(&name) => {}
            Some((_, names)) => names.push(name),
            None => groups.push((settings, vec![name])),
        }
    }
    let groups =
        groups.into_iter().map(|(settings, parameters)| json!({ "parameters": parameters, "settings": settings }));
    serde_json::to_string(&groups.collect::<Vec<_>>())
}

fn of(state: &ParameterState) -> serde_json::Result<Value> {
    let AdamConfig { .. } = &state.adam;
    let mut settings = Map::new();
    if let Value::Object(adam) = serde_json::to_value(&state.adam)? {
        // The type of the moments. The projection has a setting of the same name.
        settings.extend(adam.into_iter().map(|(name, value)| match name.as_str() {
            "moments" => ("moment_dtype".to_owned(), value),
            _ => (name, value),
        }));
    }
    if let Some(projector) = &state.projector
        && let Value::Object(galore) = serde_json::to_value(&projector.config)?
    {
        settings.extend(galore);
    }
    Ok(Value::Object(settings))
}

/// Each setting that differs from those in this text.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn differences(engine: &Engine, saved: &str) -> Result<Vec<String>, String> {
    let read = |text: &str| {
        let groups: Vec<Group> = serde_json::from_str(text).map_err(|error| format!("has bad settings: {error}"))?;
        let with_names = groups.into_iter().flat_map(|Group { parameters, settings }| {
            parameters.into_iter().map(move |name| (name, settings.clone()))
        });
        Ok::<Vec<_>, String>(with_names.collect())
    };
    let saved: HashMap<String, Map<String, Value>> = read(saved)?.into_iter().collect();
    // Through text as well, which may change the last digit of a number.
    let now = read(&text(engine).map_err(|error| error.to_string())?)?;
    let mut differences: Vec<(String, Vec<String>)> = Vec::new();
    for (parameter, now) in &now {
        // A parameter that the file does not know is reported with its tensors.
        let Some(saved) = saved.get(parameter) else { continue };
        let mut names: Vec<&String> = saved.keys().chain(now.keys()).collect();
        names.sort();
        names.dedup();
        for name in names.into_iter().filter(|name| !MAY_CHANGE.contains(&name.as_str())) {
            let (was, is) = (saved.get(name), now.get(name));
            if was == is {
                continue;
            }
            let difference = format!("{name} was {}, is {}", shown(was), shown(is));
            match differences.iter_mut().find(|(known, _)| *known == difference) {
                Some((_, parameters)) => parameters.push(parameter.clone()),
                None => differences.push((difference, vec![parameter.clone()])),
            }
        }
    }
    Ok(differences.into_iter().map(|(difference, of)| format!("{difference} ({})", listed(&of))).collect())
}

/// Settings with their default value are not written.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "the default".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn listed(parameters: &[String]) -> String {
    match parameters {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [first, others @ ..] => format!("`{first}` and {} more", others.len()),
    }
}
