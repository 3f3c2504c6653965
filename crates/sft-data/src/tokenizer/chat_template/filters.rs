//! Filters of Jinja2 where the engine has none, or another one.

use super::arguments::{bind, given, integer, text};
use super::methods::{capitalize as capitalized, is_space, split_lines, trim as trimmed};
use super::objects::{Generator, Method, is_dict};
use super::source::{ATTRIBUTE, CONCAT, DICT_METHODS, GENERATION_BLOCK, ITERATE};
use super::text::str_of;
use super::{GENERATION_END, GENERATION_START, MARK, formats, to_json};
use crate::untrusted::template::{charge_bytes, charge_values};
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error as TemplateError, ErrorKind, State, filters};
use std::borrow::Cow;

type Result<T, E = TemplateError> = std::result::Result<T, E>;
type Args = Rest<ValueOrKwargs>;

pub(super) fn add_to(environment: &mut Environment<'static>) {
    // Jinja2 has none of these. A template for it that names one is refused there.
    for name in ["attr", "bool", "chain", "lines", "pprint", "split", "zip"] {
        environment.remove_filter(name);
    }
    environment.add_function(CONCAT, concat);
    environment.add_function(ITERATE, iterate);
    environment.add_function(ATTRIBUTE, attribute);
    environment.add_filter(GENERATION_BLOCK, generation_block);
    environment.add_filter("attr", |value: Value, name: &str| attribute_only(&value, name));
    environment.add_filter("tojson", to_json::to_json);
    environment.add_filter("format", formats::percent_format);
    environment.add_filter("string", string);
    environment.add_filter("join", join);
    environment.add_filter("list", list);
    environment.add_filter("first", first);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("trim", trim);
    environment.add_filter("title", title);
    environment.add_filter("capitalize", |state: &State, value: Value| Ok(capitalized(&str_of(state, &value)?)));
    environment.add_filter("lower", |state: &State, value: Value| Ok(str_of(state, &value)?.to_lowercase()));
    environment.add_filter("upper", |state: &State, value: Value| Ok(str_of(state, &value)?.to_uppercase()));
    environment.add_filter("center", center);
    environment.add_filter("indent", indent);
    environment.add_filter("replace", replace);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("safe", safe);
    for name in ["e", "escape", "forceescape"] {
        environment.add_filter(name, escape);
    }
    add_generators(environment);
}

/// These filters return generators in Jinja2. Only their items are what the engine returns.
fn add_generators(environment: &mut Environment<'static>) {
    type Test<'a> = Option<Cow<'a, str>>;
    type Name<'a> = Cow<'a, str>;
    environment.add_filter("map", |state: &mut State, value: Value, args: Args| {
        generator(filters::map(state, optional(value)?, args)?)
    });
    environment.add_filter("select", |state: &mut State, value: Value, test: Test, args: Args| {
        generator(filters::select(state, optional(value)?, test, args)?)
    });
    environment.add_filter("reject", |state: &mut State, value: Value, test: Test, args: Args| {
        generator(filters::reject(state, optional(value)?, test, args)?)
    });
    environment.add_filter("selectattr", |state: &mut State, value: Value, name: Name, test: Test, args: Args| {
        generator(filters::selectattr(state, optional(value)?, name, test, args)?)
    });
    environment.add_filter("rejectattr", |state: &mut State, value: Value, name: Name, test: Test, args: Args| {
        generator(filters::rejectattr(state, optional(value)?, name, test, args)?)
    });
    environment.add_filter("unique", |state: &State, value: Value, args: Args| {
        let args = named("unique", args, ["case_sensitive", "attribute"])?;
        let unique = filters::unique(state, iterable(value)?, args)?;
        generator(unique.try_iter()?.checked().collect::<Result<_>>()?)
    });
    environment.add_filter("batch", |state: &State, value: Value, count: usize, fill: Option<Value>| {
        let batches = filters::batch(state, iterable(value)?, count, fill)?;
        generator(batches.try_iter()?.checked().collect::<Result<_>>()?)
    });
    environment.add_filter("slice", |state: &State, value: Value, count: usize, fill: Option<Value>| {
        let slices = filters::slice(state, iterable(value)?, count, fill)?;
        generator(slices.try_iter()?.checked().collect::<Result<_>>()?)
    });
    environment.add_filter("sort", |state: &State, value: Value, args: Args| {
        let args = named("sort", args, ["reverse", "case_sensitive", "attribute"])?;
        filters::sort(state, iterable(value)?, args)
    });
    environment.add_filter("dictsort", |state: &State, value: Value, args: Args| {
        charge_values(state, value.len().unwrap_or(0).saturating_mul(8))?;
        filters::dictsort(&value, named("dictsort", args, ["case_sensitive", "by", "reverse"])?)
    });
    environment.add_filter("min", |state: &State, value: Value, args: Args| {
        filters::min(state, iterable(value)?, named("min", args, ["case_sensitive", "attribute"])?)
    });
    environment.add_filter("max", |state: &State, value: Value, args: Args| {
        filters::max(state, iterable(value)?, named("max", args, ["case_sensitive", "attribute"])?)
    });
    environment.add_filter(
        "sum",
        |state: &State, value: Value, attribute: Option<&str>, start: Option<Value>, args: Kwargs| {
            filters::sum(state, iterable(value)?, attribute, start, args)
        },
    );
}

/// The arguments of a filter of the engine that takes them by name only.
fn named<const N: usize>(filter: &str, args: Args, names: [&'static str; N]) -> Result<Kwargs> {
    let bound = bind(filter, &args.into_values(), names)?;
    Ok(names.into_iter().zip(bound).filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Like [`iterable`], but `None` counts as empty.
fn optional(value: Value) -> Result<Value> {
    if value.is_none() { Ok(value) } else { iterable(value) }
}

fn generator(items: Vec<Value>) -> Result<Value> {
    Ok(Generator::of(items))
}

fn failed(problem: impl Into<Cow<'static, str>>) -> TemplateError {
    TemplateError::new(ErrorKind::InvalidOperation, problem)
}

/// `a ~ b`.
fn concat(state: &State, values: Rest<Value>) -> Result<String> {
    let mut text = String::new();
    for value in values.iter() {
        let part = str_of(state, value)?;
        charge_bytes(state, part.len())?;
        text.push_str(&part);
    }
    Ok(text)
}

/// What a loop runs over. In Python, `None` and numbers cannot be iterated over.
fn iterate(state: &State, value: Value) -> Result<Value> {
    let value = iterable(value)?;
    // With a list, the engine knows `loop.last` and `loop.length`.
    let items: Vec<Value> = if let Some(generator) = value.downcast_object_ref::<Generator>() {
        generator.take()
    } else if let Some(text) = value.as_str() {
        charge_values(state, text.len())?;
        text.chars().map(Value::from).collect()
    } else {
        return Ok(value);
    };
    Ok(Value::from(items))
}

fn iterable(value: Value) -> Result<Value> {
    match value.kind() {
        kind @ (ValueKind::None | ValueKind::Number | ValueKind::Bool) => {
            Err(failed(format!("{kind} cannot be iterated over")))
        }
        _ => Ok(value),
    }
}

/// `value.name` where a dictionary of Python has a method of that name.
fn attribute(value: &Value, name: &str) -> Result<Value> {
    match value.as_object() {
        Some(object) if is_dict(value) => Ok(Method::of(object, name)),
        _ => value.get_attr(name),
    }
}

/// The filter `attr`, which does not look for keys.
fn attribute_only(value: &Value, name: &str) -> Result<Value> {
    match value.as_object() {
        Some(object) if is_dict(value) && DICT_METHODS.contains(&name) => Ok(Method::of(object, name)),
        _ if is_dict(value) => Ok(Value::UNDEFINED),
        _ => value.get_attr(name),
    }
}

fn generation_block(state: &State, body: String) -> String {
    let marked = state.lookup(MARK).is_some_and(|mark| mark.is_true());
    if marked { format!("{GENERATION_START}{body}{GENERATION_END}") } else { body }
}

fn string(state: &State, value: Value) -> Result<Value> {
    if value.as_str().is_some() { Ok(value) } else { Ok(Value::from(str_of(state, &value)?.into_owned())) }
}

fn join(state: &State, value: Value, args: Args) -> Result<String> {
    let [separator, attribute] = bind("join", &args.into_values(), ["d", "attribute"])?;
    let separator = separator.map_or(Ok(String::new()), |separator| str_of(state, &separator).map(Cow::into_owned))?;
    let path = given(&attribute).map(ToString::to_string);
    let mut joined = String::new();
    for (index, item) in iterable(value)?.try_iter()?.checked().enumerate() {
        let mut item = item?;
        for part in path.iter().flat_map(|path| path.split('.')) {
            let key = part.parse::<i64>().map_or_else(|_| Value::from(part), Value::from);
            item = item.get_item(&key)?;
        }
        let item = str_of(state, &item)?;
        charge_bytes(state, item.len() + separator.len())?;
        if index > 0 {
            joined.push_str(&separator);
        }
        joined.push_str(&item);
    }
    Ok(joined)
}

fn list(state: &State, value: Value) -> Result<Value> {
    filters::list(state, iterable(value)?)
}

fn first(value: Value) -> Result<Value> {
    filters::first(&iterable(value)?)
}

fn default(value: Value, args: Args) -> Result<Value> {
    let [default, lax] = bind("default", &args.into_values(), ["default_value", "boolean"])?;
    let lax = lax.is_some_and(|lax| lax.is_true());
    let is_kept = !value.is_undefined() && (!lax || value.is_true());
    Ok(if is_kept { value } else { default.unwrap_or_else(|| Value::from("")) })
}

/// A number in a text, with the underscores that Python accepts between digits.
fn without_underscores(text: &str) -> Option<String> {
    let text = trimmed(text, None);
    let bytes = text.as_bytes();
    let is_between = |at: usize| {
        at > 0 && bytes[at - 1].is_ascii_alphanumeric() && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric)
    };
    let valid = bytes.iter().enumerate().all(|(at, &byte)| byte != b'_' || is_between(at));
    valid.then(|| text.replace('_', ""))
}

fn int(value: Value, args: Args) -> Result<Value> {
    let [default, base] = bind("int", &args.into_values(), ["default", "base"])?;
    let default = default.unwrap_or_else(|| Value::from(0));
    let base = base.map_or(Ok(10), |base| integer("int", &base))?;
    let truncated = |float: f64| match float.trunc() {
        whole if whole.abs() < 1e38 => Some(Value::from(whole as i128)),
        _ => None,
    };
    match value.kind() {
        ValueKind::String => {
            let Some(text) = without_underscores(value.as_str().unwrap_or_default()) else { return Ok(default) };
            let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
            let lower = digits.to_ascii_lowercase();
            let (digits, base) = match (base, lower.get(..2)) {
                (0 | 16, Some("0x")) => (&lower[2..], 16),
                (0 | 8, Some("0o")) => (&lower[2..], 8),
                (0 | 2, Some("0b")) => (&lower[2..], 2),
                (0, _) => (lower.as_str(), 10),
                (base, _) => {
                    (lower.as_str(), u32::try_from(base).ok().filter(|base| (2..=36).contains(base)).unwrap_or(10))
                }
            };
            let whole = i128::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with(['+', '-']));
            let whole = whole.map(|whole| Value::from(if text.starts_with('-') { -whole } else { whole }));
            Ok(whole.or_else(|| text.parse::<f64>().ok().and_then(truncated)).unwrap_or(default))
        }
        ValueKind::Number if value.is_integer() => Ok(value),
        ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        ValueKind::Number => match f64::try_from(value)? {
            float if float.is_nan() => Ok(default),
            float => truncated(float).ok_or_else(|| failed("int: the number is too large")),
        },
        ValueKind::Undefined => Err(TemplateError::from(ErrorKind::UndefinedError)),
        _ => Ok(default),
    }
}

fn float(value: Value, args: Args) -> Result<Value> {
    let [default] = bind("float", &args.into_values(), ["default"])?;
    let parsed = match value.kind() {
        ValueKind::String => {
            without_underscores(value.as_str().unwrap_or_default()).and_then(|text| text.parse::<f64>().ok())
        }
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value).ok(),
        ValueKind::Undefined => return Err(TemplateError::from(ErrorKind::UndefinedError)),
        _ => None,
    };
    Ok(parsed.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0)))
}

fn trim(state: &State, value: Value, args: Args) -> Result<String> {
    let [characters] = bind("trim", &args.into_values(), ["chars"])?;
    let characters = given(&characters).map(|characters| text("trim", Some(characters))).transpose()?;
    Ok(trimmed(&str_of(state, &value)?, characters).to_owned())
}

/// The filter `title`: a word starts after whitespace, a hyphen or an opening bracket. (The method
/// `title` starts one after every character that is no letter.)
fn title(state: &State, value: Value) -> Result<String> {
    let text = str_of(state, &value)?;
    let mut result = String::with_capacity(text.len());
    let mut word = String::new();
    let is_boundary = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let push = |part: &mut String, result: &mut String| {
        let mut chars = part.chars();
        result.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        result.push_str(&chars.as_str().to_lowercase());
        part.clear();
    };
    for c in text.chars() {
        if is_boundary(c) {
            push(&mut word, &mut result);
            result.push(c);
        } else {
            word.push(c);
        }
    }
    push(&mut word, &mut result);
    Ok(result)
}

fn center(state: &mut State, value: Value, args: Args) -> Result<Value> {
    let [width] = bind("center", &args.into_values(), ["width"])?;
    let text = Value::from(str_of(state, &value)?.into_owned());
    text.call_method(state, "center", &[width.unwrap_or_else(|| Value::from(80))])
}

fn indent(state: &State, value: Value, args: Args) -> Result<String> {
    let [width, first, blank] = bind("indent", &args.into_values(), ["width", "first", "blank"])?;
    let [first, blank] = [first, blank].map(|option| option.is_some_and(|option| option.is_true()));
    let indention = match &width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(indention) => indention.to_owned(),
            None => {
                let width = usize::try_from(integer("indent", width)?).unwrap_or(0);
                charge_bytes(state, width)?;
                " ".repeat(width)
            }
        },
    };
    // Jinja2 appends a line end, so that one at the end of the text starts an empty line.
    let text = text("indent", Some(&value))?.to_owned() + "\n";
    let lines: Vec<&str> = split_lines(&text);
    charge_bytes(state, lines.len().saturating_mul(indention.len()))?;
    let mut result = String::with_capacity(text.len());
    for (index, line) in lines.iter().enumerate() {
        let is_indented = if index == 0 { first } else { blank || !line.is_empty() };
        if index > 0 {
            result.push('\n');
        }
        if is_indented {
            result.push_str(&indention);
        }
        result.push_str(line);
    }
    Ok(result)
}

fn replace(state: &mut State, value: Value, args: Args) -> Result<Value> {
    let [old, new, count] = bind("replace", &args.into_values(), ["old", "new", "count"])?;
    let text = Value::from(str_of(state, &value)?.into_owned());
    let missing = || TemplateError::from(ErrorKind::MissingArgument);
    let old = Value::from(str_of(state, &old.ok_or_else(missing)?)?.into_owned());
    let new = Value::from(str_of(state, &new.ok_or_else(missing)?)?.into_owned());
    let count = given(&count).cloned().unwrap_or_else(|| Value::from(-1));
    text.call_method(state, "replace", &[old, new, count])
}

/// The number of words: runs of letters, digits and underscores.
fn wordcount(state: &State, value: Value) -> Result<usize> {
    let text = str_of(state, &value)?;
    Ok(text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count())
}

fn safe(state: &State, value: Value) -> Result<Value> {
    Ok(Value::from_safe_string(str_of(state, &value)?.into_owned()))
}

fn escape(state: &State, value: Value) -> Result<Value> {
    if value.is_safe() {
        return Ok(value);
    }
    let mut escaped = String::new();
    let text = str_of(state, &value)?;
    charge_bytes(state, text.len().saturating_mul(5))?;
    escape_into(&mut escaped, &text);
    Ok(Value::from_safe_string(escaped))
}

fn escape_into(escaped: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            c => escaped.push(c),
        }
    }
}
