//! Values as Python writes them: `str(value)` and `repr(value)`.

use super::objects::{DictView, Range, is_dict};
use crate::untrusted::template::{Budget, out_of_fuel};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error as TemplateError, ErrorKind, State};
use std::borrow::Cow;
use std::fmt::Write as _;

/// `str(value)`. An undefined value is an empty text.
///
/// # Errors
/// If the text takes more fuel than there is, or contains an address in Python (a generator, a
/// function), which differs from run to run.
pub(super) fn str_of<'a>(state: &State, value: &'a Value) -> Result<Cow<'a, str>, TemplateError> {
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    match value.kind() {
        ValueKind::Undefined => Ok("".into()),
        ValueKind::None => Ok("None".into()),
        ValueKind::Bool => Ok(if value.is_true() { "True" } else { "False" }.into()),
        ValueKind::Number => Ok(number(value).into()),
        _ => repr(state, value).map(Cow::Owned),
    }
}

/// `repr(value)`.
///
/// # Errors
/// As for [`str_of`].
pub(super) fn repr(state: &State, value: &Value) -> Result<String, TemplateError> {
    let mut writer = Writer { text: String::new(), budget: Budget::of_structure(state) };
    writer.write(value)?;
    writer.budget.charge(state, writer.text.len())?;
    Ok(writer.text)
}

/// A number as Python prints it.
pub(super) fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float_text(float),
        _ => value.to_string(),
    }
}

/// `repr(float)`: the fewest digits that give this number again. The exponent has two digits at
/// least, and stands below 1e-4 and from 1e16 on.
pub(super) fn float_text(float: f64) -> String {
    if !float.is_finite() {
        return match (float.is_nan(), float.is_sign_negative()) {
            (true, _) => "nan".to_owned(),
            (false, negative) => if negative { "-inf" } else { "inf" }.to_owned(),
        };
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = float.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Whether Python writes the character as it is. (The standard library also escapes marks that
/// combine with the character before them, but only at the start of a text.)
pub(super) fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c if c.is_ascii() => false,
        c => format!("a{c}").escape_debug().count() == 2,
    }
}

struct Writer {
    text: String,
    budget: Budget,
}

impl Writer {
    fn write(&mut self, value: &Value) -> Result<(), TemplateError> {
        if !self.budget.covers(self.text.len()) {
            return Err(out_of_fuel());
        }
        match value.kind() {
            ValueKind::Undefined => self.text.push_str("Undefined"),
            ValueKind::None => self.text.push_str("None"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "True" } else { "False" }),
            ValueKind::Number => self.text.push_str(&number(value)),
            ValueKind::String => self.quoted(value.as_str().unwrap_or_default()),
            ValueKind::Map if is_dict(value) => {
                self.text.push('{');
                for (index, key) in value.try_iter()?.enumerate() {
                    self.separate(index);
                    self.write(&key)?;
                    self.text.push_str(": ");
                    self.write(&value.get_item(&key)?)?;
                }
                self.text.push('}');
            }
            ValueKind::Seq if value.is_tuple() => {
                let length = self.items('(', value)?;
                self.text.push_str(if length == 1 { ",)" } else { ")" });
            }
            ValueKind::Seq | ValueKind::Iterable => {
                if let Some(range) = value.downcast_object_ref::<Range>() {
                    self.text.push_str(&range.to_string());
                } else if let Some(view) = value.downcast_object_ref::<DictView>() {
                    self.text.push_str(view.name());
                    self.items('[', value)?;
                    self.text.push_str("])");
                } else if value.len().is_some() {
                    self.items('[', value)?;
                    self.text.push(']');
                } else {
                    return Err(without_text("a generator, which needs `|list`"));
                }
            }
            kind => return Err(without_text(&kind.to_string())),
        }
        Ok(())
    }

    fn items(&mut self, open: char, value: &Value) -> Result<usize, TemplateError> {
        self.text.push(open);
        let mut length = 0;
        for item in value.try_iter()?.checked() {
            self.separate(length);
            self.write(&item?)?;
            length += 1;
        }
        Ok(length)
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.text.push_str(", ");
        }
    }

    fn quoted(&mut self, text: &str) {
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        self.text.push(quote);
        for c in text.chars() {
            let code = u32::from(c);
            // Writing to a text cannot fail.
            let _ = match c {
                '\n' => self.text.write_str("\\n"),
                '\r' => self.text.write_str("\\r"),
                '\t' => self.text.write_str("\\t"),
                '\\' => self.text.write_str("\\\\"),
                c if c == quote => write!(self.text, "\\{c}"),
                c if is_printable(c) => self.text.write_char(c),
                _ if code < 0x100 => write!(self.text, "\\x{code:02x}"),
                _ if code < 0x1_0000 => write!(self.text, "\\u{code:04x}"),
                _ => write!(self.text, "\\U{code:08x}"),
            };
        }
        self.text.push(quote);
    }
}

fn without_text(what: &str) -> TemplateError {
    TemplateError::new(ErrorKind::InvalidOperation, format!("the text of {what} is not supported"))
}
