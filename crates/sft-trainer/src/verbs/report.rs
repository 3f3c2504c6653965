//! A page about runs that were made, from their folders.

use super::{Answer, Colours, problem};
use crate::Error;
use run_reports::{HtmlReport, RunRecord, page};
use serde_json::Value;
use std::path::PathBuf;

/// One run, or several to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    runs: Vec<RunRecord>,
    usual_page: PathBuf,
}

/// Reads the output folders of runs, of Hugging Face's Trainer too.
///
/// # Errors
/// [`Error::Config`] for a folder that is not that of a run, or whose files cannot be read.
pub fn report(folders: &[PathBuf]) -> Result<Report, Error> {
    let runs = folders.iter().map(|folder| RunRecord::read(folder)).collect::<Result<_, _>>();
    let usual_page = match folders {
        [folder] => folder.join(HtmlReport::FILE_NAME),
        _ => PathBuf::from(HtmlReport::FILE_NAME),
    };
    Ok(Report { runs: runs.map_err(|error: run_reports::Error| problem(error.to_string()))?, usual_page })
}

impl Answer for Report {
    fn text(&self, _colours: Colours) -> String {
        self.runs.iter().map(|run| format!("{}: step {} of {}\n", run.name, run.steps.0, run.steps.1)).collect()
    }

    fn json(&self) -> Option<Value> {
        None
    }

    fn html(&self) -> Option<String> {
        Some(page(&self.runs))
    }

    /// In the folder of a single run.
    fn usual_page(&self) -> Option<PathBuf> {
        Some(self.usual_page.clone())
    }
}
