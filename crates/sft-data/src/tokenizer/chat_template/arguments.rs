//! The arguments of filters and methods, as Python passes them.

use minijinja::value::{Kwargs, Value, from_args};
use minijinja::{Error as TemplateError, ErrorKind};

/// The arguments in the order of `names`, whether they were given by position or by name. An
/// argument without a name (`""`) is given by position only.
///
/// # Errors
/// If there are too many arguments, or one that no name fits.
pub(super) fn bind<const N: usize>(
    called: &str,
    args: &[Value],
    names: [&str; N],
) -> Result<[Option<Value>; N], TemplateError> {
    let wrong = |problem: String| TemplateError::new(ErrorKind::TooManyArguments, format!("{called}: {problem}"));
    let (positional, named): (&[Value], Kwargs) = from_args(args)?;
    if positional.len() > N {
        return Err(wrong(format!("takes {N} arguments at most, not {}", positional.len())));
    }
    let mut bound = [const { None }; N];
    for (slot, value) in bound.iter_mut().zip(positional) {
        *slot = Some(value.clone());
    }
    for name in named.args() {
        let index = names.iter().position(|known| *known == name);
        match index.map(|index| &mut bound[index]) {
            Some(slot @ None) => *slot = Some(named.peek::<Value>(name)?),
            Some(Some(_)) => return Err(wrong(format!("`{name}` is given twice"))),
            None => return Err(wrong(format!("has no argument `{name}`"))),
        }
    }
    Ok(bound)
}

/// An argument that is not there, or is `None`, has no value.
pub(super) fn given(argument: &Option<Value>) -> Option<&Value> {
    argument.as_ref().filter(|value| !value.is_none())
}

/// # Errors
/// If the value is no text.
pub(super) fn text<'a>(called: &str, value: Option<&'a Value>) -> Result<&'a str, TemplateError> {
    value.and_then(Value::as_str).ok_or_else(|| {
        let found = value.map_or("nothing".to_owned(), |value| value.kind().to_string());
        TemplateError::new(ErrorKind::InvalidOperation, format!("{called}: needs a text, not {found}"))
    })
}

/// # Errors
/// If the value is no whole number.
pub(super) fn integer(called: &str, value: &Value) -> Result<i64, TemplateError> {
    i64::try_from(value.clone()).ok().filter(|_| value.is_integer() || !value.is_number()).ok_or_else(|| {
        let problem = format!("{called}: needs a whole number, not {}", value.kind());
        TemplateError::new(ErrorKind::InvalidOperation, problem)
    })
}
