//! Methods of Python's dictionaries, lists and texts.

mod characters;
mod strings;

use super::arguments::{bind, integer};
use super::objects::{DictView, is_dict, is_generator};
use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error as TemplateError, ErrorKind, State};

pub(super) use characters::{capitalize, is_space, split_lines, trim};

/// Calls a method that the engine does not know.
///
/// # Errors
/// If there is no such method, or Python would refuse the arguments.
pub(super) fn call(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, TemplateError> {
    match value.kind() {
        ValueKind::String => strings::call(state, value.as_str().unwrap_or_default(), name, args),
        ValueKind::Map if is_dict(value) => dict_method(state, value, name, args),
        ValueKind::Seq | ValueKind::Iterable if value.len().is_some() && !is_generator(value) => {
            list_method(state, value, name, args)
        }
        _ => Err(TemplateError::from(ErrorKind::UnknownMethod)),
    }
}

fn dict_method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, TemplateError> {
    let entries = || -> Result<Vec<(Value, Value)>, TemplateError> {
        bind(name, args, [])?;
        state.consume_fuel(value.len().unwrap_or(0) as u64)?;
        value.try_iter()?.map(|key| Ok((key.clone(), value.get_item(&key)?))).collect()
    };
    let view = |method, items: Vec<Value>| Ok(DictView::of(method, items));
    match name {
        "keys" => view("keys", entries()?.into_iter().map(|(key, _)| key).collect()),
        "values" => view("values", entries()?.into_iter().map(|(_, value)| value).collect()),
        "items" => {
            view("items", entries()?.into_iter().map(|(key, value)| Value::from(Tuple::from([key, value]))).collect())
        }
        "copy" => entries().map(Value::from_pairs),
        "get" => {
            let [key, default] = bind(name, args, ["", ""])?;
            let key = key.ok_or(TemplateError::from(ErrorKind::MissingArgument))?;
            let object = value.as_object().ok_or(TemplateError::from(ErrorKind::UnknownMethod))?;
            Ok(object.get_value(&key).or(default).unwrap_or_else(|| Value::from(())))
        }
        _ => Err(TemplateError::from(ErrorKind::UnknownMethod)),
    }
}

fn list_method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, TemplateError> {
    if !matches!(name, "copy" | "count" | "index") || value.downcast_object_ref::<DictView>().is_some() {
        return Err(TemplateError::from(ErrorKind::UnknownMethod));
    }
    state.consume_fuel(value.len().unwrap_or(0) as u64)?;
    let items: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
    match name {
        "copy" => bind(name, args, []).map(|[]| Value::from(items)),
        "count" => {
            let [what] = bind(name, args, [""])?;
            let what = what.ok_or(TemplateError::from(ErrorKind::MissingArgument))?;
            Ok(Value::from(items.iter().filter(|item| **item == what).count()))
        }
        _ => {
            let [what, start] = bind(name, args, ["", ""])?;
            let what = what.ok_or(TemplateError::from(ErrorKind::MissingArgument))?;
            let start = start.map_or(Ok(0), |start| integer(name, &start))?;
            let start = usize::try_from(start).map_err(|_| failed("index: a start below 0 is not supported"))?;
            let found = items.iter().skip(start).position(|item| *item == what);
            found.map(|at| Value::from(at + start)).ok_or_else(|| failed("index: the value is not in the list"))
        }
    }
}

fn failed(problem: &str) -> TemplateError {
    TemplateError::new(ErrorKind::InvalidOperation, problem.to_owned())
}
