//! Jinja chat templates, rendered as transformers renders them.
//!
//! transformers compiles templates with `trim_blocks` and `lstrip_blocks`, adds `raise_exception`,
//! `strftime_now` and its own `tojson`, and a `{% generation %}` block that says which part the
//! assistant wrote. Templates call methods of Python's strings and dictionaries, which
//! `minijinja-contrib` supplies. What a hostile template could do is bounded by [`sandbox`].

mod sandbox;
mod to_json;

use super::AddGenerationPrompt;
use super::special::SpecialTokens;
use crate::{ChatContext, Error};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error as TemplateError, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use sandbox::{FUEL, PATIENCE, Unfinished};
use serde_json::Value as Json;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NAME: &str = "chat_template";
const GENERATION_BLOCK: &str = "__generation_block";
/// Variable that makes `{% generation %}` leave marks.
const MARK: &str = "__mark_generation";
/// Unicode noncharacters, reserved for use inside a program.
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
    patience: Duration,
    /// A render took too long. That of the next row would too.
    is_endless: AtomicBool,
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
        let parsed = sandbox::run(PATIENCE, parse).map_err(|reason| stopped("parsing it".to_owned(), &reason))?;
        let environment = parsed.map_err(|source| failed("parsing it", source))?;
        let compiled = Compiled { environment, patience: PATIENCE, is_endless: AtomicBool::new(false) };
        Ok(Self { compiled: Arc::new(compiled), has_generation_blocks })
    }

    /// Whether the template says itself what the assistant wrote.
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
        // An empty list is no list: Llama's template writes its tool preamble for `[]`.
        let tools = context.tools.clone().filter(|tools| tools.as_array().is_none_or(|tools| !tools.is_empty()));
        variables.insert("tools".to_owned(), tools.unwrap_or(Json::Null));
        variables.insert("documents".to_owned(), Json::Null);
        variables.insert("add_generation_prompt".to_owned(), Json::Bool(prompt == AddGenerationPrompt::Yes));
        variables.insert(MARK.to_owned(), Json::Bool(marks == Marks::Leave));
        variables.extend(context.template_kwargs.clone());
        let during = format!("given {} messages", messages.len());
        if self.compiled.is_endless.load(Ordering::Relaxed) {
            return Err(stopped(during, &Unfinished::TooLong));
        }
        let (compiled, patience) = (self.compiled.clone(), self.compiled.patience);
        let render = move || compiled.environment.get_template(NAME)?.render(Serde(&variables));
        match sandbox::run(patience, render) {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) if error.kind() == ErrorKind::OutOfFuel => Err(stopped(
                during,
                &format!("it takes more than {FUEL} instructions, or as much text as {FUEL} are worth"),
            )),
            Ok(Err(source)) => Err(Error::ChatTemplate { during, source }),
            Err(reason) => {
                self.compiled.is_endless.fetch_or(reason == Unfinished::TooLong, Ordering::Relaxed);
                Err(stopped(during, &reason))
            }
        }
    }
}

fn environment() -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    // Errors would carry values of the template out of the sandbox.
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(method);
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

/// A method of Python. The engine charges for what it returns; what it reads is charged here.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let read = value.as_str().map(|text| text.len() / 64).or(value.len()).unwrap_or(0);
    state.consume_fuel(read as u64)?;
    if name == "format" && value.as_str().is_some_and(has_wide_field) {
        return Err(TemplateError::new(ErrorKind::InvalidOperation, "str.format: a width of 1000 or more"));
    }
    unknown_method_callback(state, value, name, arguments)
}

/// Whether a format has a number of four digits: what is padded to its width takes memory before it
/// is charged.
fn has_wide_field(format: &str) -> bool {
    format.as_bytes().windows(4).any(|window| window.iter().all(u8::is_ascii_digit))
}

/// Writes `{% generation %}` as a filter block, which the engine knows, with its whitespace control
/// left as it is. (A call block, as in transformers, would be a macro here, whose body cannot
/// assign to a namespace outside.)
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
