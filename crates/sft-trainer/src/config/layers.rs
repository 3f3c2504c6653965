//! A file of options with other options over it, and everything that is wrong with both.

use super::foreign::{self, Meaning};
use super::{OptionsFile, SftConfig};
use crate::Error;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Options by name, for [`SftConfig::from_options`], and what was found wrong with them so far.
#[derive(Debug)]
pub struct Layers {
    /// The options: those of the file, with the others over them.
    pub options: Map<String, Value>,
    /// What is wrong with options that are not among these any more.
    pub problems: Vec<String>,
    /// Options of TRL and transformers that have no effect here, and why.
    without_effect: Vec<(String, &'static str)>,
    /// The file, and the options that are as it says.
    file: Option<(String, BTreeSet<String>)>,
}

impl Layers {
    /// Options of a file, if there is one, and over them those that were `given`.
    pub fn new(file: Option<OptionsFile>, given: Map<String, Value>) -> Self {
        let Some(OptionsFile { path, mut options, without_effect, problems }) = file else {
            return Self { options: given, problems: Vec::new(), without_effect: Vec::new(), file: None };
        };
        let without_effect_here = without_effect.iter().map(|(name, _)| name);
        let of_file = options.keys().chain(without_effect_here).filter(|name| !given.contains_key(*name)).cloned();
        // A problem begins with the option that it is about.
        let refused = problems.iter().filter_map(|problem| problem.split_whitespace().next()).map(str::to_owned);
        let file = Some((path.display().to_string(), of_file.chain(refused).collect()));
        options.extend(given);
        Self { options, problems, without_effect, file }
    }

    /// Adds an option of TRL or transformers that is none here. See [`foreign`].
    pub fn add_foreign(&mut self, name: &str, value: &Value) {
        match foreign::meaning(name, value) {
            Some(Meaning::Refused(problem)) => self.problems.push(problem),
            Some(Meaning::NoEffect(why)) => self.without_effect.push((name.to_owned(), why)),
            None => {}
        }
    }

    /// One line that names the options without effect and says why, if there are any.
    pub fn warning(&self) -> Option<String> {
        let mut by_reason: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, why) in &self.without_effect {
            by_reason.entry(why).or_default().insert(name);
        }
        let mut reasons: Vec<_> = by_reason.into_iter().collect();
        reasons.sort_by_key(|(_, names)| names.first().copied());
        let told = reasons
            .into_iter()
            .map(|(why, names)| format!("{} ({why})", names.into_iter().collect::<Vec<_>>().join(", ")));
        let told = told.collect::<Vec<_>>().join("; ");
        (!told.is_empty()).then(|| format!("options without effect here: {told}"))
    }

    /// The configuration of the run. Tells the [warning](Self::warning), if there is one.
    ///
    /// # Errors
    /// [`Error::Config`] lists every unknown name and every bad value, those of the file with its
    /// path.
    pub fn config(mut self) -> Result<SftConfig, Error> {
        let warning = self.warning();
        match SftConfig::from_options(self.options) {
            Ok(config) if self.problems.is_empty() => {
                if let Some(warning) = warning {
                    tracing::warn!("{warning}");
                }
                return Ok(config);
            }
            Ok(_) => {}
            Err(Error::Config { problems }) => self.problems.extend(problems),
            Err(error) => return Err(error),
        }
        let Some((path, names)) = self.file else { return Err(Error::Config { problems: self.problems }) };
        let is_of_file = |problem: &String| {
            let subject = problem.split_whitespace().next().unwrap_or_default();
            subject == "unknown" || names.contains(subject)
        };
        let (of_file, others): (Vec<_>, Vec<_>) = self.problems.into_iter().partition(is_of_file);
        let of_file = (!of_file.is_empty()).then(|| format!("{path}: {}", of_file.join("; ")));
        Err(Error::Config { problems: of_file.into_iter().chain(others).collect() })
    }
}
