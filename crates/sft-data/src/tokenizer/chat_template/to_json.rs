//! The filter `tojson`, as transformers defines it.

use crate::untrusted::template::{MAX_INDENT, charge_for_json};
use minijinja::value::{Kwargs, Value};
use minijinja::{Error as TemplateError, ErrorKind, State};
use serde_json::Value as Json;

/// `json.dumps(value, ensure_ascii=False, indent=…, separators=…, sort_keys=…)`.
pub(super) fn to_json(state: &State, value: Value, arguments: Kwargs) -> Result<String, TemplateError> {
    let failed = |problem: String| TemplateError::new(ErrorKind::BadSerialization, format!("tojson: {problem}"));
    let limit = charge_for_json(state, &value)?;
    let json = serde_json::to_value(&value).map_err(|error| failed(error.to_string()))?;
    let indent: Option<Value> = arguments.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) if indent.as_usize().is_some_and(|width| width > MAX_INDENT) => {
            return Err(failed(format!("indent is more than {MAX_INDENT}")));
        }
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
    JsonWriter { indent, item, key, sort_keys, limit }
        .write(&json, 0, &mut text)
        .map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

/// Writes JSON with Python's spacing.
struct JsonWriter {
    /// Largest text in bytes. Long indents and separators are repeated for each value.
    limit: usize,
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
            if out.len() > self.limit {
                return Err(serde::ser::Error::custom("the text is too long"));
            }
        }
        if length > 0 {
            break_line(depth, out);
        }
        out.push(close);
        Ok(())
    }
}
