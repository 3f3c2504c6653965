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
use crate::untrusted::template::{self, FUEL, TIME_LIMIT, Unfinished};
use crate::{ChatContext, Error};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error as TemplateError, ErrorKind, State};
use serde_json::Value as Json;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NAME: &str = "chat_template";
const GENERATION_BLOCK: &str = "__generation_block";
/// The variable that makes `{% generation %}` blocks leave marks.
const MARK: &str = "__mark_generation";
/// Unicode noncharacters, which are reserved for internal use.
pub(super) const GENERATION_START: char = '\u{fdd0}';
pub(super) const GENERATION_END: char = '\u{fdd1}';

/// A compiled template. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct ChatTemplate {
    compiled: Arc<Compiled>,
    has_generation_blocks: bool,
}

#[derive(Debug)]
struct Compiled {
    environment: Environment<'static>,
    time_limit: Duration,
    /// Whether a rendering has taken too long. The template is not rendered again then, because
    /// every row of a dataset would take as long.
    has_timed_out: AtomicBool,
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
        let failed = |during: &str, source| Error::ChatTemplate { during: during.to_owned(), source };
        let mut environment = environment().map_err(|source| failed("setting up", source))?;
        let parse = move || environment.add_template_owned(NAME, source).map(|()| environment);
        let parsed = template::run(TIME_LIMIT, parse).map_err(|reason| stopped("parsing it".to_owned(), &reason))?;
        let environment = parsed.map_err(|source| failed("parsing it", source))?;
        let compiled = Compiled { environment, time_limit: TIME_LIMIT, has_timed_out: AtomicBool::new(false) };
        Ok(Self { compiled: Arc::new(compiled), has_generation_blocks })
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
        let during = format!("given {} messages", messages.len());
        if self.compiled.has_timed_out.load(Ordering::Relaxed) {
            return Err(stopped(during, &Unfinished::TimeLimit));
        }
        let (compiled, time_limit) = (self.compiled.clone(), self.compiled.time_limit);
        let render = move || compiled.environment.get_template(NAME)?.render(Serde(&variables));
        match template::run(time_limit, render) {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) if error.kind() == ErrorKind::OutOfFuel => Err(stopped(
                during,
                &format!("it takes more than {FUEL} instructions, or as much text as {FUEL} are worth"),
            )),
            Ok(Err(source)) => Err(Error::ChatTemplate { during, source }),
            Err(reason) => {
                self.compiled.has_timed_out.fetch_or(reason == Unfinished::TimeLimit, Ordering::Relaxed);
                Err(stopped(during, &reason))
            }
        }
    }
}

fn environment() -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    // In debug mode, errors hold values of the template, which may be nested too deep to be dropped
    // on this thread.
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(template::call_method);
    environment.add_filter("tojson", to_json::to_json);
    // In Python, `None` cannot be iterated over.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter(GENERATION_BLOCK, generation_block);
    Ok(environment)
}

fn stopped(during: String, reason: &dyn Display) -> Error {
    Error::ChatTemplateStopped { during, reason: reason.to_string() }
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
