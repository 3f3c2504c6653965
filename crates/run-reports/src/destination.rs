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
    /// all that are here. Names of [`Destination::elsewhere`] are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Destination`] says for each other name what to use.
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
                    None if why_elsewhere(name).is_some() => {}
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

    /// For each name that Hugging Face knows and that nothing is written for here, why.
    pub fn elsewhere(names: &[String]) -> Vec<String> {
        names.iter().filter_map(|name| Some(format!("{name} {}", why_elsewhere(name)?))).collect()
    }
}

fn why_elsewhere(name: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| *why)
}

fn problem(name: &str) -> String {
    let here = HERE.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    format!("{name} is not known; use {here}, all or none (metrics.jsonl has every figure, one JSON object a line)")
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
    fn what_is_not_here_is_left_out_with_a_reason_and_what_is_unknown_is_refused() {
        assert_eq!(named(&["wandb", "tensorboard"]), Ok(vec![Destination::TensorBoard]));
        let names = ["wandb", "tensorboard", "codecarbon"].map(str::to_owned);
        let told = Destination::elsewhere(&names);
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("wandb needs that service's own"), "{told:?}");
        let message = named(&["tensorbord"]).unwrap_err();
        assert!(message.contains("tensorbord is not known; use tensorboard, csv, html"), "{message}");
        assert!(named(&["none", "csv"]).unwrap_err().contains("none goes with no other name"));
    }
}
