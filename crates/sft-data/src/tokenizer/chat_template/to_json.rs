//! The filter `tojson`, as transformers defines it.

use super::arguments::{bind, given};
use super::objects::{DictView, Range, is_dict};
use super::text::{float_text, number};
use crate::untrusted::template::{Budget, MAX_INDENT, out_of_fuel};
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error as TemplateError, ErrorKind, State};
use std::cmp::Ordering;
use std::fmt::Write as _;

/// `json.dumps(value, ensure_ascii=…, indent=…, separators=…, sort_keys=…)`, where `ensure_ascii`
/// is false unless it is given.
pub(super) fn to_json(state: &State, value: Value, args: Rest<ValueOrKwargs>) -> Result<String, TemplateError> {
    let args = args.into_values();
    let [ensure_ascii, indent, separators, sort_keys] =
        bind("tojson", &args, ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match given(&indent) {
        None => None,
        Some(indent) if indent.as_str().is_some() => Some(indent.to_string()),
        // `True` is 1 in Python.
        Some(indent) if indent.kind() == ValueKind::Bool => Some(" ".repeat(usize::from(indent.is_true()))),
        Some(indent) => {
            let width = indent.as_i64().filter(|_| indent.is_integer()).ok_or_else(|| failed("indent is no number"))?;
            let width = usize::try_from(width).unwrap_or(0);
            if width > MAX_INDENT {
                return Err(failed(&format!("indent is more than {MAX_INDENT}")));
            }
            Some(" ".repeat(width))
        }
    };
    let (item, key) = match given(&separators) {
        Some(separators) => {
            let texts: Vec<Value> = separators.try_iter()?.collect();
            match texts.as_slice() {
                [item, key] => match (item.as_str(), key.as_str()) {
                    (Some(item), Some(key)) => (item.to_owned(), key.to_owned()),
                    _ => return Err(failed("separators must be two strings")),
                },
                other => return Err(failed(&format!("separators must be two strings, not {}", other.len()))),
            }
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let is_true = |argument: Option<Value>| argument.is_some_and(|value| value.is_true());
    let mut writer = JsonWriter {
        text: String::new(),
        ensure_ascii: is_true(ensure_ascii),
        indent,
        item,
        key,
        sort_keys: is_true(sort_keys),
        layout_bytes: 0,
        most_bytes: Budget::most_bytes(state),
        budget: Budget::of_structure(state),
    };
    writer.write(&value, 0)?;
    writer.budget.charge(state, writer.text.len() - writer.layout_bytes)?;
    Ok(writer.text)
}

fn failed(problem: &str) -> TemplateError {
    TemplateError::new(ErrorKind::BadSerialization, format!("tojson: {problem}"))
}

/// Writes JSON as Python does.
struct JsonWriter {
    text: String,
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
    /// The bytes that indents and separators took so far. Long ones are repeated for each value.
    layout_bytes: usize,
    most_bytes: usize,
    budget: Budget,
}

impl JsonWriter {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), TemplateError> {
        if !self.budget.covers(self.text.len() - self.layout_bytes) {
            return Err(out_of_fuel());
        }
        if self.text.len() > self.most_bytes {
            return Err(failed("the text is too long"));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&json_number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map if is_dict(value) => self.object(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable if is_list(value) => {
                let mut length = 0;
                self.text.push('[');
                for item in value.try_iter()?.checked() {
                    self.start_entry(length, depth);
                    self.write(&item?, depth + 1)?;
                    length += 1;
                }
                self.close(']', length, depth);
            }
            kind => return Err(failed(&format!("{kind} cannot be JSON"))),
        }
        Ok(())
    }

    fn object(&mut self, value: &Value, depth: usize) -> Result<(), TemplateError> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            let is_of_one_kind = keys.windows(2).all(|pair| pair[0].kind() == pair[1].kind());
            if !is_of_one_kind {
                return Err(failed("sort_keys needs keys of one type"));
            }
            keys.sort_by(|left, right| left.partial_cmp(right).unwrap_or(Ordering::Equal));
        }
        self.text.push('{');
        for (index, key) in keys.iter().enumerate() {
            self.start_entry(index, depth);
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                ValueKind::Number => self.string(&json_number(key)),
                ValueKind::Bool => self.string(if key.is_true() { "true" } else { "false" }),
                ValueKind::None => self.string("null"),
                kind => return Err(failed(&format!("{kind} cannot be a key"))),
            }
            self.text.push_str(&self.key);
            self.layout_bytes += self.key.len();
            self.write(&value.get_item(key)?, depth + 1)?;
        }
        self.close('}', keys.len(), depth);
        Ok(())
    }

    fn start_entry(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.text.push_str(&self.item);
            self.layout_bytes += self.item.len();
        }
        self.break_line(depth + 1);
    }

    fn close(&mut self, bracket: char, length: usize, depth: usize) {
        if length > 0 {
            self.break_line(depth);
        }
        self.text.push(bracket);
    }

    fn break_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.text.push('\n');
            let bytes = indent.len().saturating_mul(depth);
            // What is longer is refused before the next value.
            if bytes <= self.most_bytes {
                self.text.push_str(&indent.repeat(depth));
                self.layout_bytes += bytes + 1;
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            // Writing to a text cannot fail.
            let _ = match c {
                '"' => self.text.write_str("\\\""),
                '\\' => self.text.write_str("\\\\"),
                '\n' => self.text.write_str("\\n"),
                '\r' => self.text.write_str("\\r"),
                '\t' => self.text.write_str("\\t"),
                '\u{8}' => self.text.write_str("\\b"),
                '\u{c}' => self.text.write_str("\\f"),
                c if c < ' ' => write!(self.text, "\\u{:04x}", u32::from(c)),
                c if self.ensure_ascii && !(' '..='~').contains(&c) => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().try_for_each(|unit| write!(self.text, "\\u{unit:04x}"))
                }
                c => self.text.write_char(c),
            };
        }
        self.text.push('"');
    }
}

/// Whether Python has a list or a tuple here.
fn is_list(value: &Value) -> bool {
    let is_other = value.downcast_object_ref::<Range>().is_some() || value.downcast_object_ref::<DictView>().is_some();
    value.len().is_some() && !is_other
}

fn json_number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => match float_text(float).as_str() {
            "nan" => "NaN".to_owned(),
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            text => text.to_owned(),
        },
        _ => number(value),
    }
}
