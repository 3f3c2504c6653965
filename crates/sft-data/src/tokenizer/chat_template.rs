//! Jinja chat templates, rendered as transformers renders them.
//!
//! transformers compiles templates with `trim_blocks` and `lstrip_blocks`. It adds the functions
//! `raise_exception` and `strftime_now`, its own `tojson`, and a `{% generation %}` block that
//! marks what the assistant wrote. Templates also call methods of Python's strings and
//! dictionaries, which `minijinja-contrib` provides.
//! [`untrusted::template`](crate::untrusted::template) limits what a hostile template can do.

mod to_json;

use super::AddGenerationPrompt;
use super::special::SpecialTokens;
use crate::untrusted::template::{Failure, Sandbox};
use crate::{ChatContext, Error};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error as TemplateError, ErrorKind, State};
use serde_json::Value as Json;
use std::fmt::Write as _;
use std::sync::Arc;

const GENERATION_BLOCK: &str = "__generation_block";
/// The variable that makes `{% generation %}` blocks leave marks.
const MARK: &str = "__mark_generation";
/// Unicode noncharacters, which are reserved for internal use.
pub(super) const GENERATION_START: char = '\u{fdd0}';
pub(super) const GENERATION_END: char = '\u{fdd1}';

/// A compiled template. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct ChatTemplate {
    sandbox: Arc<Sandbox>,
    has_generation_blocks: bool,
}

/// Whether `{% generation %}` blocks leave [`GENERATION_START`] and [`GENERATION_END`] in the
/// output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    Leave,
    None,
}

impl ChatTemplate {
    pub(super) fn compile(source: String) -> Result<Self, Error> {
        let (source, has_generation_blocks) = replace_generation_tags(&source);
        let environment =
            environment().map_err(|source| Error::ChatTemplate { during: "setting up".to_owned(), source })?;
        let sandbox = Sandbox::compile(environment, source).map_err(|failure| failed("parsing it", failure))?;
        Ok(Self { sandbox: Arc::new(sandbox), has_generation_blocks })
    }

    /// Whether the template itself marks what the assistant wrote.
    pub(super) fn has_generation_blocks(&self) -> bool {
        self.has_generation_blocks
    }

    pub(super) fn render(
        &self,
        messages: &[Json],
        context: &ChatContext,
        special: &SpecialTokens,
        prompt: AddGenerationPrompt,
    ) -> Result<String, Error> {
        self.render_marked(messages, context, special, prompt, Marks::None)
    }

    pub(super) fn render_marked(
        &self,
        messages: &[Json],
        context: &ChatContext,
        special: &SpecialTokens,
        prompt: AddGenerationPrompt,
        marks: Marks,
    ) -> Result<String, Error> {
        let mut variables = special.roles().clone();
        variables.insert("messages".to_owned(), Json::from(messages));
        // An empty list counts as no tools: Llama's template would write its tool preamble for
        // `[]`.
        let tools = context.tools.clone().filter(|tools| tools.as_array().is_none_or(|tools| !tools.is_empty()));
        variables.insert("tools".to_owned(), tools.unwrap_or(Json::Null));
        variables.insert("documents".to_owned(), Json::Null);
        variables.insert("add_generation_prompt".to_owned(), Json::Bool(prompt == AddGenerationPrompt::Yes));
        variables.insert(MARK.to_owned(), Json::Bool(marks == Marks::Leave));
        variables.extend(context.template_kwargs.clone());
        let during = || format!("given {} messages", messages.len());
        self.sandbox.render(variables).map_err(|failure| failed(during(), failure))
    }
}

fn failed(during: impl Into<String>, failure: Failure) -> Error {
    let during = during.into();
    match failure {
        Failure::Template(source) => Error::ChatTemplate { during, source },
        Failure::Stopped(reason) => Error::ChatTemplateStopped { during, reason },
    }
}

fn environment() -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("tojson", to_json::to_json);
    // In Python, `None` cannot be iterated over.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter(GENERATION_BLOCK, generation_block);
    Ok(environment)
}

/// Replaces `{% generation %}` by a filter block, which the engine knows, and keeps its whitespace
/// control. Returns the source and whether there was such a block. (transformers uses a call block.
/// In this engine that is a macro, whose body cannot assign to a namespace outside of it.)
fn replace_generation_tags(source: &str) -> (String, bool) {
    let mut replaced = String::with_capacity(source.len() + 64);
    let mut rest = source;
    let mut found = false;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start + 2..].find("%}") else { break };
        let end = start + 2 + length;
        let tag = &rest[start + 2..end];
        let bare = tag.trim_matches(['-', '+']).trim();
        replaced.push_str(&rest[..start]);
        if let Some(statement) = match bare {
            "generation" => Some(format!("filter {GENERATION_BLOCK}")),
            "endgeneration" => Some("endfilter".to_owned()),
            _ => None,
        } {
            found = true;
            let control =
                |at: Option<char>| at.filter(|c| matches!(c, '-' | '+')).map(String::from).unwrap_or_default();
            let (before, after) = (control(tag.chars().next()), control(tag.chars().last()));
            let _ = write!(replaced, "{{%{before} {statement} {after}%}}");
        } else {
            replaced.push_str(&rest[start..end + 2]);
        }
        rest = &rest[end + 2..];
    }
    replaced.push_str(rest);
    (replaced, found)
}

fn generation_block(state: &State, body: String) -> String {
    let marked = state.lookup(MARK).is_some_and(|mark| mark.is_true());
    if marked { format!("{GENERATION_START}{body}{GENERATION_END}") } else { body }
}

fn raise_exception(message: String) -> Result<Value, TemplateError> {
    Err(TemplateError::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, TemplateError> {
    let mut text = String::new();
    write!(text, "{}", chrono::Local::now().format(format)).map_err(|_| {
        TemplateError::new(ErrorKind::InvalidOperation, format!("strftime_now: unknown date format {format:?}"))
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests;
