//! Jinja chat templates, rendered as transformers renders them.
//!
//! transformers compiles templates with `trim_blocks` and `lstrip_blocks`. It adds the functions
//! `raise_exception` and `strftime_now`, its own `tojson`, and a `{% generation %}` block that
//! marks what the assistant wrote. Templates also call methods of Python's texts, lists and
//! dictionaries, and print values as Python does.
//!
//! | module | what differs between the engine and Jinja2 |
//! |---|---|
//! | [`source`] | constructs of the language; these are rewritten before the engine sees them |
//! | [`text`], [`formats`], [`to_json`] | how values are written |
//! | [`filters`], [`value_tests`], [`methods`] | what can be called |
//! | [`objects`] | values of Python that the engine does not have |
//!
//! What Python refuses is an error here, and so is what is not supported.
//! `tests/goldens/jinja.json` compares some 1,000 constructs, and
//! `chat_template/tests/constructs.rs` lists the few that differ.
//! [`untrusted::template`](crate::untrusted::template) limits what a hostile template can do.

mod arguments;
mod calls;
mod content;
mod dates;
mod filters;
mod formats;
mod methods;
mod objects;
mod source;
mod text;
mod text_template;
mod to_json;
mod value_tests;

use super::AddGenerationPrompt;
use super::files::TemplateSource;
use super::special::SpecialTokens;
use crate::untrusted::template::{Failure, Sandbox};
use crate::{ChatContext, Error};
use calls::CallFormat;
use content::ContentFormat;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value};
use minijinja::{Environment, Error as TemplateError, ErrorKind};
use serde_json::{Map, Value as Json};
use source::Rewritten;
use std::sync::{Arc, OnceLock};

pub(crate) use text_template::TextTemplate;

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
    content_format: Arc<OnceLock<ContentFormat>>,
    call_format: Arc<OnceLock<CallFormat>>,
}

/// Whether `{% generation %}` blocks leave [`GENERATION_START`] and [`GENERATION_END`] in the
/// output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    Leave,
    None,
}

impl ChatTemplate {
    pub(super) fn compile(source: TemplateSource) -> Result<Self, Error> {
        let Rewritten { text, has_generation_blocks } = source::rewrite(&source.text);
        let environment =
            environment().map_err(|source| Error::ChatTemplate { during: "setting up".to_owned(), source })?;
        let sandbox = Sandbox::compile(environment, &source.file, text, methods::call);
        let sandbox = Arc::new(sandbox.map_err(|failure| failed("parsing it", failure))?);
        Ok(Self { sandbox, has_generation_blocks, content_format: Arc::default(), call_format: Arc::default() })
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
        let during = || match messages.len() {
            1 => "given 1 message".to_owned(),
            number => format!("given {number} messages"),
        };
        let render = |messages: &[Json]| self.sandbox.render(variables(messages, context, special, prompt, marks));
        let messages_of_text;
        let messages = if content::has_parts(messages)
            && *self.content_format.get_or_init(|| content::probe(render)) == ContentFormat::Text
        {
            messages_of_text = content::joined(messages)
                .map_err(|problem| failed(during(), TemplateError::new(ErrorKind::InvalidOperation, problem).into()))?;
            &messages_of_text
        } else {
            messages
        };
        let adapted_messages;
        let messages = if calls::concerns(messages) {
            adapted_messages = self.call_format.get_or_init(|| calls::probe(render)).adapted(messages);
            &adapted_messages
        } else {
            messages
        };
        render(messages).map_err(|failure| failed(during(), failure))
    }
}

/// The tools of a chat. An empty list counts as none: Llama's template would write its tool
/// preamble for `[]`.
pub(super) fn tools_of(context: &ChatContext) -> Option<&Json> {
    let is_empty = |tools: &Json| tools.is_null() || tools.as_array().is_some_and(Vec::is_empty);
    context.tools.as_ref().filter(|tools| !is_empty(tools))
}

fn variables(
    messages: &[Json],
    context: &ChatContext,
    special: &SpecialTokens,
    prompt: AddGenerationPrompt,
    marks: Marks,
) -> Map<String, Json> {
    let mut variables = special.roles().clone();
    variables.insert("messages".to_owned(), Json::from(messages));
    variables.insert("tools".to_owned(), tools_of(context).cloned().unwrap_or(Json::Null));
    variables.insert("documents".to_owned(), Json::Null);
    variables.insert("add_generation_prompt".to_owned(), Json::Bool(prompt == AddGenerationPrompt::Yes));
    variables.insert(MARK.to_owned(), Json::Bool(marks == Marks::Leave));
    variables.extend(context.template_kwargs.clone());
    variables
}

fn failed(during: impl Into<String>, failure: Failure) -> Error {
    let during = during.into();
    match failure {
        Failure::Template(source) => Error::ChatTemplate { during, source: printable(source) },
        Failure::Stopped(reason) => Error::ChatTemplateStopped { during, reason },
    }
}

/// The error with escapes in place of characters that a terminal would act on. A template quotes
/// messages in its errors.
fn printable(error: TemplateError) -> TemplateError {
    let is_plain = |c: char| c == ' ' || text::is_printable(c);
    let Some(detail) = error.detail().filter(|detail| !detail.chars().all(is_plain)) else { return error };
    let escaped = |c: char| if is_plain(c) { c.to_string() } else { c.escape_debug().to_string() };
    let mut detail: String = detail.chars().map(escaped).collect();
    if let (Some(name), Some(line)) = (error.name(), error.line()) {
        detail.push_str(&format!(" (in {name}:{line})"));
    }
    TemplateError::new(error.kind(), detail)
}

fn environment() -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(|out, state, value| {
        let text = text::str_of(state, value)?;
        out.write_str(&text).map_err(TemplateError::from)
    });
    environment.remove_global("debug");
    environment.add_function("range", |args: Rest<Value>| objects::Range::call(&args));
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", dates::strftime_now);
    filters::add_to(&mut environment);
    value_tests::add_to(&mut environment);
    Ok(environment)
}

fn raise_exception(message: String) -> Result<Value, TemplateError> {
    Err(TemplateError::new(ErrorKind::InvalidOperation, message))
}

#[cfg(test)]
mod tests;
