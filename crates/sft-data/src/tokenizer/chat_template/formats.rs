//! Python's two ways to format: `'%s' % x`, which is the filter `format`, and `'{}'.format(x)`.
//!
//! The engine formats, but it writes some values in its own way. So values are written here where
//! the format just asks for their text, and are refused where the result would differ.

use super::text::str_of;
use crate::untrusted::template::charge_bytes;
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error as TemplateError, ErrorKind, State};

/// The filter `format`.
pub(super) fn percent_format(
    state: &mut State,
    value: Value,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, TemplateError> {
    let format = str_of(state, &value)?.into_owned();
    let args = as_written(state, &args.into_values(), percent_asks_for_text(&format))?;
    let most = format.replace("%%", "").matches(['%', '*']).count();
    if args.last().is_some_and(|last| !last.is_kwargs()) && args.len() > most {
        let problem = format!("format: {} values for {most} conversions", args.len());
        return Err(TemplateError::new(ErrorKind::InvalidOperation, problem));
    }
    let args = Rest(args.into_iter().map(ValueOrKwargs::from).collect());
    minijinja::filters::format(state, &Value::from(format), args)
}

/// `format.format(…)`.
pub(super) fn str_format(state: &State, string: &str, args: &[Value]) -> Result<String, TemplateError> {
    let args = as_written(state, args, braces_ask_for_text(string))?;
    let longest = args.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0);
    charge_bytes(state, string.matches('{').count().saturating_mul(longest))?;
    format(FormatStyle::StrFormat, string, &args)
}

/// The arguments, with texts in place of the values that the engine writes in its own way.
fn as_written(state: &State, args: &[Value], only_text: bool) -> Result<Vec<Value>, TemplateError> {
    let written = |value: &Value| {
        if !matches!(value.kind(), ValueKind::Number | ValueKind::Map | ValueKind::Seq | ValueKind::Iterable)
            || value.is_integer()
        {
            return Ok(value.clone());
        }
        let text = str_of(state, value)?;
        if only_text {
            return Ok(Value::from(text.into_owned()));
        }
        if value.is_number() && value.to_string() == text {
            return Ok(value.clone());
        }
        let problem = format!("formatting of {} ({text:.40}) is not supported; use the filter `string`", value.kind());
        Err(TemplateError::new(ErrorKind::InvalidOperation, problem))
    };
    let (positional, named): (&[Value], Kwargs) = from_args(args)?;
    let mut result = positional.iter().map(written).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = named.args().map(str::to_owned).collect();
    if !names.is_empty() {
        let pairs = names.into_iter().map(|name| {
            let value = written(&named.peek::<Value>(&name)?)?;
            Ok((name, value))
        });
        result.push(Kwargs::from_iter(pairs.collect::<Result<Vec<_>, TemplateError>>()?).into());
    }
    Ok(result)
}

/// Whether the only conversions are `%s`, `%(name)s` and `%%`.
fn percent_asks_for_text(format: &str) -> bool {
    format.replace("%%", "").split('%').skip(1).all(|conversion| {
        let named = conversion.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(_, rest)| rest);
        named.unwrap_or(conversion).starts_with('s')
    })
}

/// Whether the only fields are `{}`, `{0}` and `{name}`.
fn braces_ask_for_text(format: &str) -> bool {
    format.replace("{{", "").split('{').skip(1).all(|field| {
        let name = field.split('}').next().unwrap_or_default();
        name.chars().all(|c| c == '_' || c.is_alphanumeric())
    })
}
