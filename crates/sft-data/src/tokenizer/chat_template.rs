//! Jinja chat templates, rendered as transformers renders them.
//!
//! transformers compiles templates with `trim_blocks` and `lstrip_blocks`, adds `raise_exception`, `strftime_now` and
//! its own `tojson`, and a `{% generation %}` block that says which part the assistant wrote. Templates call methods of
//! Python's strings and dictionaries, which `minijinja-contrib` supplies.

use std::fmt::Write as _;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error as TemplateError, ErrorKind, State};
use serde_json::Value as Json;

use super::AddGenerationPrompt;
use super::special::SpecialTokens;
use crate::{ChatContext, Error};

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
    environment: Arc<Environment<'static>>,
    has_generation_blocks: bool,
}

/// Whether `{% generation %}` blocks leave [`GENERATION_START`] and [`GENERATION_END`] in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    Leave,
    None,
}

impl ChatTemplate {
    pub(super) fn compile(source: String) -> Result<Self, Error> {
        let (source, has_generation_blocks) = replace_generation_tags(&source);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment
            .set_syntax(syntax.map_err(|source| Error::ChatTemplate { during: "setting up".to_owned(), source })?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        // In Python, `None` cannot be iterated over.
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter(GENERATION_BLOCK, generation_block);
        environment
            .add_template_owned(NAME, source)
            .map_err(|source| Error::ChatTemplate { during: "parsing it".to_owned(), source })?;
        Ok(Self { environment: Arc::new(environment), has_generation_blocks })
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
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Serde(&variables)))
            .map_err(|source| Error::ChatTemplate { during: format!("given {} messages", messages.len()), source })
    }
}

/// Writes `{% generation %}` as a filter block, which the engine knows, with its whitespace control left as it is. (A
/// call block, as in transformers, would be a macro here, whose body cannot assign to a namespace outside.)
fn replace_generation_tags(source: &str) -> (String, bool) {
    let mut replaced = String::with_capacity(source.len() + 64);
    let mut rest = source;
    let mut found = false;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
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
            replaced.push_str(&rest[start..start + length + 2]);
        }
        rest = &rest[start + length + 2..];
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

/// `json.dumps(value, ensure_ascii=False, indent=…, separators=…, sort_keys=…)`.
fn to_json(value: Value, arguments: Kwargs) -> Result<String, TemplateError> {
    let failed = |problem: String| TemplateError::new(ErrorKind::BadSerialization, format!("tojson: {problem}"));
    let json = serde_json::to_value(&value).map_err(|error| failed(error.to_string()))?;
    let indent: Option<Value> = arguments.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) if indent.is_number() => indent.as_usize().map(|width| " ".repeat(width)),
        Some(indent) => Some(indent.to_string()),
    };
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let sort_keys = arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    arguments.get::<Option<bool>>("ensure_ascii")?;
    arguments.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(other) => return Err(failed(format!("separators must be two strings, not {}", other.len()))),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut text = String::new();
    JsonWriter { indent, item, key, sort_keys }
        .write(&json, 0, &mut text)
        .map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

/// Writes JSON with Python's spacing.
struct JsonWriter {
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl JsonWriter {
    fn write(&self, json: &Json, depth: usize, out: &mut String) -> Result<(), serde_json::Error> {
        match json {
            Json::Array(items) => {
                self.group('[', ']', items.len(), depth, out, |index, out| self.write(&items[index], depth + 1, out))
            }
            Json::Object(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|&(key, _)| key);
                }
                self.group('{', '}', entries.len(), depth, out, |index, out| {
                    let (key, value) = entries[index];
                    out.push_str(&serde_json::to_string(key)?);
                    out.push_str(&self.key);
                    self.write(value, depth + 1, out)
                })
            }
            scalar => {
                out.push_str(&serde_json::to_string(scalar)?);
                Ok(())
            }
        }
    }

    fn group(
        &self,
        open: char,
        close: char,
        length: usize,
        depth: usize,
        out: &mut String,
        mut entry: impl FnMut(usize, &mut String) -> Result<(), serde_json::Error>,
    ) -> Result<(), serde_json::Error> {
        let break_line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        for index in 0..length {
            if index > 0 {
                out.push_str(&self.item);
            }
            break_line(depth + 1, out);
            entry(index, out)?;
        }
        if length > 0 {
            break_line(depth, out);
        }
        out.push(close);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
