//! The tests of Jinja2 (`x is …`) where the engine has none, or another one.

use super::methods;
use super::objects::{Generator, Method, is_dict, is_generator};
use super::text::str_of;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error as TemplateError, ErrorKind, State};

pub(super) fn add_to(environment: &mut Environment<'static>) {
    // Jinja2 has none of these.
    for name in ["startingwith", "endingwith", "safe"] {
        environment.remove_test(name);
    }
    environment.add_test("boolean", |value: &Value| value.kind() == ValueKind::Bool);
    environment.add_test("callable", is_callable);
    environment.add_test("float", |value: &Value| value.is_number() && !value.is_integer());
    environment.add_test("integer", is_integer);
    environment.add_test("iterable", is_iterable);
    environment.add_test("mapping", is_dict);
    environment.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_test("sequence", is_sequence);
    environment.add_test("lower", |state: &State, value: &Value| is_case(state, value, "islower"));
    environment.add_test("upper", |state: &State, value: &Value| is_case(state, value, "isupper"));
    environment.add_test("odd", |value: &Value| Ok(remainder(value, &Value::from(2))? == Value::from(1)));
    environment.add_test("even", |value: &Value| Ok(remainder(value, &Value::from(2))? == Value::from(0)));
    environment.add_test("divisibleby", |value: &Value, other: &Value| Ok(remainder(value, other)? == Value::from(0)));
    environment.remove_test("int");
}

/// `str(value).islower()`, or the other case.
fn is_case(state: &State, value: &Value, method: &str) -> Result<bool, TemplateError> {
    let text = Value::from(str_of(state, value)?.into_owned());
    Ok(methods::call(state, &text, method, &[])?.is_true())
}

/// The size of `value % divisor`. In Python, only numbers have a remainder, and for texts `%` is a
/// format.
fn remainder(value: &Value, divisor: &Value) -> Result<Value, TemplateError> {
    let failed = |problem: String| TemplateError::new(ErrorKind::InvalidOperation, problem);
    for operand in [value, divisor] {
        if !matches!(operand.kind(), ValueKind::Number | ValueKind::Bool) {
            return Err(failed(format!("{} is no number", operand.kind())));
        }
    }
    let whole = |value: &Value| i128::try_from(value.clone()).ok().filter(|_| value.is_integer() || !value.is_number());
    match (whole(value), whole(divisor)) {
        (Some(_), Some(0)) => Err(failed("division by zero".to_owned())),
        (Some(value), Some(divisor)) => Ok(Value::from(value.checked_rem(divisor).unwrap_or(0).unsigned_abs())),
        _ => Ok(Value::from((f64::try_from(value.clone())? % f64::try_from(divisor.clone())?).abs())),
    }
}

fn is_integer(value: &Value) -> bool {
    value.kind() == ValueKind::Number && value.is_integer()
}

/// In Python, `None` cannot be iterated over, nor can a namespace.
fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::None => false,
        ValueKind::Map => {
            is_dict(value) || value.as_object().is_some_and(|object| object.type_name().ends_with("Loop"))
        }
        _ => value.try_iter().is_ok(),
    }
}

/// Whatever has a length and can be indexed: texts and dictionaries too.
fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::String | ValueKind::Seq => true,
        ValueKind::Map => is_dict(value),
        ValueKind::Iterable => {
            let is_view = value.downcast_object_ref::<super::objects::DictView>().is_some();
            !is_view && !is_generator(value) && value.downcast_object_ref::<Generator>().is_none()
        }
        ValueKind::Undefined => true,
        _ => false,
    }
}

fn is_callable(value: &Value) -> bool {
    let is_function = |name: &str| ["Function", "Macro", "Loop"].iter().any(|kind| name.contains(kind));
    value.is_undefined()
        || value.downcast_object_ref::<Method>().is_some()
        || value.as_object().is_some_and(|object| is_function(object.type_name()))
}
