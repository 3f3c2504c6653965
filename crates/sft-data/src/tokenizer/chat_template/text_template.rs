//! A template that makes a text of the columns of a row, in the same language as chat templates.

use super::{environment, failed, source};
use crate::Error;
use crate::tokenizer::chat_template::methods;
use crate::untrusted::template::Sandbox;
use serde_json::{Map, Value as Json};

/// A compiled template, and the columns that it names.
#[derive(Debug)]
pub(crate) struct TextTemplate {
    sandbox: Sandbox,
    variables: Vec<String>,
}

/// What it is called in messages of the engine.
const NAME: &str = "text_template";

impl TextTemplate {
    pub(crate) fn compile(source: String) -> Result<Self, Error> {
        let during = "parsing `text_template`";
        let engine_failed = |source| Error::ChatTemplate { during: during.to_owned(), source };
        let text = source::rewrite(&source).text;
        let sandbox = environment().map_err(engine_failed)?;
        let sandbox =
            Sandbox::compile(sandbox, NAME, text.clone(), methods::call).map_err(|failure| failed(during, failure))?;
        let environment = environment().map_err(engine_failed)?;
        let functions: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
        let template = environment.template_from_str(&text).map_err(engine_failed)?;
        let mut variables: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        variables.retain(|name| !functions.contains(&name.as_str()));
        variables.sort();
        Ok(Self { sandbox, variables })
    }

    /// The columns that the template names, in order of the alphabet.
    pub(crate) fn variables(&self) -> &[String] {
        &self.variables
    }

    pub(crate) fn render(&self, record: Map<String, Json>) -> Result<String, Error> {
        self.sandbox.render(record).map_err(|failure| failed("given a row", failure))
    }
}
