//! What can be asked about a run without making it.

pub mod doctor;
pub mod estimate;
pub mod inspect;
pub mod report;

use crate::Error;
use serde_json::Value;
use std::path::PathBuf;

/// How what is important is set apart in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// By the escape codes of terminals.
    Terminal,
    /// By brackets, for files and pipes.
    None,
}

/// The answer to a question.
pub trait Answer {
    /// In lines for people.
    fn text(&self, colours: Colours) -> String;

    /// As data.
    fn json(&self) -> Option<Value>;

    /// As a page for a browser. Default: there is none.
    fn html(&self) -> Option<String> {
        None
    }

    /// Where the page goes if nobody says. Default: nowhere.
    fn usual_page(&self) -> Option<PathBuf> {
        None
    }

    /// What is wrong with what was asked about. Default: nothing.
    fn failure(&self) -> Option<String> {
        None
    }
}

/// A name or a value that cannot be used.
fn problem(problem: String) -> Error {
    Error::Config { problems: vec![problem] }
}
