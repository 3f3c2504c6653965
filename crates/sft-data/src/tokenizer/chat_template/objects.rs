//! Objects of Python that the engine does not have.

use super::arguments::bind;
use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error as TemplateError, ErrorKind, State};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The most numbers in a range, as in Jinja2's sandbox.
const MAX_RANGE: i64 = 100_000;

/// Whether the value is a dictionary. Namespaces and the variable `loop` are no dictionaries in
/// Python.
pub(super) fn is_dict(value: &Value) -> bool {
    let is_other = |name: &str| ["Namespace", "Loop", "Module"].iter().any(|other| name.ends_with(other));
    value.kind() == ValueKind::Map && value.as_object().is_some_and(|object| !is_other(object.type_name()))
}

/// Whether the value is a generator, or another iterator that runs once.
pub(super) fn is_generator(value: &Value) -> bool {
    value.kind() == ValueKind::Iterable && value.len().is_none()
}

/// What `map`, `select` and some other filters return: its items can be read once.
#[derive(Debug)]
pub(super) struct Generator(Mutex<std::vec::IntoIter<Value>>);

impl Generator {
    pub(super) fn of(items: Vec<Value>) -> Value {
        Value::from_object(Self(Mutex::new(items.into_iter())))
    }

    /// The items that were not read yet.
    pub(super) fn take(&self) -> Vec<Value> {
        let mut items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *items).collect()
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    /// Without this, the engine would count items.
    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        Some(Value::UNDEFINED)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let generator = self.clone();
        let next = move || generator.0.lock().unwrap_or_else(PoisonError::into_inner).next();
        Enumerator::Iter(Box::new(std::iter::from_fn(next)))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// `range(start, stop, step)`.
#[derive(Debug)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
    length: i64,
}

impl Range {
    pub(super) fn call(args: &[Value]) -> Result<Value, TemplateError> {
        let invalid = |problem: &str| TemplateError::new(ErrorKind::InvalidOperation, format!("range {problem}"));
        let values = bind("range", args, ["", "", ""])?;
        let number = |value: &Option<Value>| match value {
            Some(value) if value.is_integer() || value.kind() == ValueKind::Bool => {
                i64::try_from(value.clone()).map(Some).map_err(|_| invalid("has too many elements"))
            }
            Some(value) => Err(invalid(&format!("of {} is not possible", value.kind()))),
            None => Ok(None),
        };
        let (start, stop) = match (number(&values[0])?, number(&values[1])?) {
            (Some(stop), None) => (0, stop),
            (Some(start), Some(stop)) => (start, stop),
            _ => return Err(invalid("needs a number")),
        };
        let step = number(&values[2])?.unwrap_or(1);
        if step == 0 {
            return Err(invalid("has a step of 0"));
        }
        let distance =
            if step > 0 { i128::from(stop) - i128::from(start) } else { i128::from(start) - i128::from(stop) };
        let length =
            (distance + i128::from(step.unsigned_abs()) - 1).div_euclid(i128::from(step.unsigned_abs())).max(0);
        let length = i64::try_from(length).ok().filter(|&length| length <= MAX_RANGE);
        let length = length.ok_or_else(|| invalid("has too many elements"))?;
        Ok(Value::from_object(Self { start, stop, step, length }))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            1 => write!(f, "range({}, {})", self.start, self.stop),
            step => write!(f, "range({}, {}, {step})", self.start, self.stop),
        }
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = key.as_i64().filter(|index| (0..self.length).contains(index))?;
        Some(Value::from(self.start + index * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(usize::try_from(self.length).unwrap_or(0))
    }
}

/// What a dictionary's `keys`, `values` and `items` return.
#[derive(Debug)]
pub(super) struct DictView {
    items: Vec<Value>,
    method: &'static str,
}

impl DictView {
    pub(super) fn of(method: &'static str, items: Vec<Value>) -> Value {
        Value::from_object(Self { items, method })
    }

    /// The start of the view's text in Python.
    pub(super) fn name(&self) -> &'static str {
        match self.method {
            "keys" => "dict_keys(",
            "values" => "dict_values(",
            _ => "dict_items(",
        }
    }
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    /// A view has no indices.
    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        Some(Value::UNDEFINED)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
}

/// A method that is not called, such as `message.items`. It is true.
#[derive(Debug)]
pub(super) struct Method {
    object: DynObject,
    name: String,
}

impl Method {
    pub(super) fn of(object: &DynObject, name: &str) -> Value {
        Value::from_object(Self { object: object.clone(), name: name.to_owned() })
    }
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, TemplateError> {
        Value::from_dyn_object(self.object.clone()).call_method(state, &self.name, args)
    }
}
