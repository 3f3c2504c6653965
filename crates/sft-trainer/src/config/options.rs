//! From one flat map of options to the configuration structs of several crates.

mod reading;

use reading::{described, readings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Options by name, and what was found wrong with them so far.
pub(super) struct Options {
    options: Map<String, Value>,
    used: BTreeSet<String>,
    problems: Vec<String>,
}

impl Options {
    pub(super) fn new(options: Map<String, Value>) -> Self {
        Self { options, used: BTreeSet::new(), problems: Vec::new() }
    }

    /// Sets the fields of `part` that are among the options. A name may be a field of several
    /// parts, such as `seed`.
    pub(super) fn apply_to<T: Serialize + DeserializeOwned>(&mut self, part: &mut T) {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(&*part) else { return };
        for (name, value) in &self.options {
            let Some(before) = fields.get(name).cloned() else { continue };
            self.used.insert(name.clone());
            // One at a time, so that the message can name it.
            let mut read = |value: &Value| {
                fields.insert(name.clone(), value.clone());
                serde_json::from_value(Value::Object(fields.clone()))
            };
            let as_it_is = read(value);
            let outcome =
                as_it_is.or_else(|error| readings(value).iter().find_map(|value| read(value).ok()).ok_or(error));
            match outcome {
                Ok(changed) => *part = changed,
                Err(error) => {
                    fields.insert(name.clone(), before);
                    // Python's None on a field that cannot be unset: the recipe's value stays.
                    if !value.is_null() {
                        let problem = format!("{name} is {value}: {}", described(&error.to_string()));
                        // A field of two parts is wrong in both.
                        if !self.problems.contains(&problem) {
                            self.problems.push(problem);
                        }
                    }
                }
            }
        }
    }

    /// Whether an option is given, and as what.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.options.get(name)
    }

    /// Everything wrong, unknown names included.
    pub(super) fn problems(self) -> Vec<String> {
        let unknown = self.options.keys().filter(|name| !self.used.contains(*name));
        let unknown: Vec<String> = unknown.map(|name| format!("unknown option {name}")).collect();
        self.problems.into_iter().chain(unknown).collect()
    }
}

/// Takes the options that are fields of `part` from all others and sets those fields. Returns what
/// is wrong with the values, which then have no effect.
pub fn take_part<T: Serialize + DeserializeOwned>(options: &mut Map<String, Value>, part: &mut T) -> Vec<String> {
    let taken = names(part).into_iter().filter_map(|name| options.remove_entry(&name)).collect();
    let mut taken = Options::new(taken);
    taken.apply_to(part);
    taken.problems()
}

/// The names of a part's options.
pub(super) fn names<T: Serialize>(part: &T) -> Vec<String> {
    fields(part).into_iter().map(|(name, _)| name).collect()
}

/// A part's options with their values.
pub(super) fn fields<T: Serialize>(part: &T) -> Map<String, Value> {
    match serde_json::to_value(part) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
