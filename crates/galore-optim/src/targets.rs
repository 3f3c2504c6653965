//! Which linear modules GaLore projects: Hugging Face's `optim_target_modules`.

use crate::Error;
use fancy_regex::Regex;
use serde::{Deserialize, Serialize};

/// `optim_target_modules`: one string or a list of strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// One string: `all-linear` (or `all_linear`), or a regular expression that must match the
    /// whole module name.
    Pattern(String),
    /// A list. A module is a target if an entry is part of its name, or matches the whole name as a
    /// regular expression.
    List(Vec<String>),
}

impl TargetModules {
    fn is_all_linear(&self) -> bool {
        matches!(self, TargetModules::Pattern(pattern) if pattern.replace('_', "-") == "all-linear")
    }
}

/// Names of the target modules, in the order given. A target's weight is named after it, with
/// `.weight` appended.
///
/// `linear_modules` are the linear modules that own their weight. A head that is tied to the
/// embedding is not one of them, because its weight is the embedding's. Modules are matched as by
/// `check_target_module_exists` in transformers 5.17. Regular expressions may look around, as in
/// Python.
///
/// # Errors
/// [`Error::TargetPattern`] for an entry that must be read as a regular expression and is not a
/// valid one; [`Error::NoTargets`] if no module matches.
pub fn select_targets<'a>(linear_modules: &[&'a str], patterns: &TargetModules) -> Result<Vec<&'a str>, Error> {
    let mut matcher = Matcher::new(patterns);
    let mut targets = Vec::new();
    for &module in linear_modules {
        if matcher.matches(module)? {
            targets.push(module);
        }
    }
    if targets.is_empty() {
        let patterns = match patterns {
            TargetModules::Pattern(pattern) => format!("`{pattern}` (a regular expression for the whole name)"),
            TargetModules::List(list) => format!("{list:?}"),
        };
        return Err(Error::NoTargets {
            patterns,
            num_modules: linear_modules.len(),
            examples: linear_modules.iter().take(3).map(|&name| name.to_owned()).collect(),
        });
    }
    Ok(targets)
}

struct Matcher<'p> {
    patterns: &'p [String],
    /// Compiled when first needed. An entry that is found as a plain string need not be a valid
    /// expression.
    regexes: Vec<Option<Regex>>,
    all: bool,
    substrings: bool,
}

impl<'p> Matcher<'p> {
    fn new(targets: &'p TargetModules) -> Self {
        let (patterns, substrings) = match targets {
            TargetModules::Pattern(pattern) => (std::slice::from_ref(pattern), false),
            TargetModules::List(list) => (list.as_slice(), true),
        };
        Matcher { patterns, regexes: vec![None; patterns.len()], all: targets.is_all_linear(), substrings }
    }

    fn matches(&mut self, module: &str) -> Result<bool, Error> {
        if self.all || (self.substrings && self.patterns.iter().any(|pattern| module.contains(pattern.as_str()))) {
            return Ok(true);
        }
        for (pattern, slot) in self.patterns.iter().zip(&mut self.regexes) {
            let wrap = |source| Error::TargetPattern { pattern: pattern.clone(), source: Box::new(source) };
            let regex = match slot {
                Some(regex) => regex,
                None => slot.insert(Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(wrap)?),
            };
            if regex.is_match(module).map_err(wrap)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
