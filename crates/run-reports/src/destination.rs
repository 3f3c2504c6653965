//! The names of `report_to`.

use crate::Error;

/// A place that a run can report to. Names are those of Hugging Face's `report_to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `tensorboard`: event files.
    TensorBoard,
    /// `csv`: a table with a column a figure.
    Csv,
    /// `html`: one page with curves, settings and figures.
    Html,
}

/// What is here.
const HERE: &[(&str, Destination)] =
    &[("tensorboard", Destination::TensorBoard), ("csv", Destination::Csv), ("html", Destination::Html)];

/// What Hugging Face has and this has not, with the reason.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["wandb", "swanlab", "trackio", "comet_ml", "neptune", "clearml", "mlflow", "azure_ml", "dagshub"],
        "needs that service's own Python client",
    ),
    (&["dvclive", "flyte", "kubeflow", "codecarbon"], "is a Python tool that lives in the training process"),
];

impl Destination {
    /// The destinations that `report_to` names, each once. `none`, or no name, is none; `all` is
    /// all that are here.
    ///
    /// # Errors
    ///
    /// [`Error::Destination`] says for each other name why it is not here and what to use.
    pub fn from_names(names: &[String]) -> Result<Vec<Self>, Error> {
        let mut found = Vec::new();
        let mut problems = Vec::new();
        for name in names {
            match name.as_str() {
                "none" if names.len() == 1 => {}
                "none" => problems.push("none goes with no other name: leave it out".to_owned()),
                "all" => found.extend(HERE.iter().map(|(_, destination)| *destination)),
                name => match HERE.iter().find(|(known, _)| *known == name) {
                    Some((_, destination)) => found.push(*destination),
                    None => problems.push(problem(name)),
                },
            }
        }
        if !problems.is_empty() {
            return Err(Error::Destination { names: names.join(", "), problems });
        }
        let mut seen = Vec::new();
        found.retain(|destination| {
            !seen.contains(destination) && {
                seen.push(*destination);
                true
            }
        });
        Ok(found)
    }
}

fn problem(name: &str) -> String {
    let here = HERE.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let why = ELSEWHERE.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| *why);
    let why = why.unwrap_or("is not known");
    format!("{name} {why}; use {here}, all or none (metrics.jsonl has every figure, one JSON object a line)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Result<Vec<Destination>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Destination::from_names(&names).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_found_once_each() {
        assert_eq!(named(&[]), Ok(vec![]));
        assert_eq!(named(&["none"]), Ok(vec![]));
        assert_eq!(named(&["csv", "tensorboard", "csv"]), Ok(vec![Destination::Csv, Destination::TensorBoard]));
        assert_eq!(named(&["csv", "all"]).unwrap().len(), HERE.len());
    }

    #[test]
    fn what_is_not_here_is_refused_with_a_reason() {
        let message = named(&["wandb", "tensorboard"]).unwrap_err();
        assert!(message.starts_with("report_to is wandb, tensorboard: wandb needs that service's own"), "{message}");
        assert!(message.contains("use tensorboard, csv, html"), "{message}");
        assert!(named(&["tensorbord"]).unwrap_err().contains("tensorbord is not known"));
        assert!(named(&["none", "csv"]).unwrap_err().contains("none goes with no other name"));
    }
}
