//! `NaN`, `Infinity` and `-Infinity`, which Python writes although JSON does not have them.
//!
//! Each is replaced by a text that nothing else contains, so that the parser accepts it and the
//! column that holds it is known.

use super::super::Record;
use serde_json::Value;
use std::io::{self, BufRead, Read};

/// What stands for a number that is not finite. Unicode has set its first character aside as one
/// that no text has.
const MARK: &str = "\u{fdd0}not finite";
const NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// Whether a line may hold such a number.
pub(super) fn is_likely(line: &str) -> bool {
    line.contains("NaN") || line.contains("Infinity")
}

/// A line with marks in place of such numbers.
pub(super) fn marked(line: &str) -> io::Result<String> {
    let mut text = String::new();
    Marked::new(line.as_bytes()).read_to_string(&mut text).map(|_| text)
}

/// Replaces marks by missing values. Returns the first of the `used` columns that has one.
pub(super) fn take_marks(record: &mut Record, used: &[&str]) -> Option<String> {
    let mut found = None;
    for (name, value) in record {
        if take_mark(value) && found.is_none() && used.contains(&name.as_str()) {
            found = Some(name.clone());
        }
    }
    found
}

fn take_mark(value: &mut Value) -> bool {
    match value {
        Value::String(text) if text == MARK => {
            *value = Value::Null;
            true
        }
        // All of them have to be replaced, so this does not stop at the first.
        Value::Array(items) => items.iter_mut().fold(false, |found, item| take_mark(item) | found),
        Value::Object(entries) => entries.values_mut().fold(false, |found, entry| take_mark(entry) | found),
        _ => false,
    }
}

/// Reads JSON with marks in place of such numbers.
pub(super) struct Marked<R> {
    inner: R,
    is_in_text: bool,
    is_escaped: bool,
    /// The start of such a number.
    pending: Vec<u8>,
    output: Vec<u8>,
    position: usize,
    is_over: bool,
}

impl<R: BufRead> Marked<R> {
    pub(super) fn new(inner: R) -> Self {
        let (pending, output) = (Vec::new(), Vec::new());
        Self { inner, is_in_text: false, is_escaped: false, pending, output, position: 0, is_over: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.output.clear();
        self.position = 0;
        let input = self.inner.fill_buf()?;
        let length = input.len();
        if length == 0 {
            self.is_over = true;
            self.output.append(&mut self.pending);
            return Ok(());
        }
        for &byte in input {
            if self.is_in_text {
                self.is_in_text = self.is_escaped || byte != b'"';
                self.is_escaped = !self.is_escaped && byte == b'\\';
                self.output.push(byte);
                continue;
            }
            self.pending.push(byte);
            if !NUMBERS.iter().any(|number| number.starts_with(&self.pending)) {
                // Only `-` can be followed by something else that is JSON, and it is not the start
                // of a text.
                self.is_in_text = byte == b'"';
                self.output.append(&mut self.pending);
            } else if NUMBERS.contains(&self.pending.as_slice()) {
                self.pending.clear();
                self.output.extend([b"\"", MARK.as_bytes(), b"\""].concat());
            }
        }
        self.inner.consume(length);
        Ok(())
    }
}

impl<R: BufRead> Read for Marked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.output.len() {
            if self.is_over {
                return Ok(0);
            }
            self.fill()?;
        }
        let length = buffer.len().min(self.output.len() - self.position);
        buffer[..length].copy_from_slice(&self.output[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::BufReader;

    #[test]
    fn numbers_are_marked_outside_of_texts_only() {
        let line = r#"{"a":NaN,"b":[-Infinity, Infinity,-1],"c":"NaN \" NaN","NaN":-0.5,"d":"x\\","e":NaN}"#;
        let mut text = String::new();
        Marked::new(BufReader::with_capacity(2, line.as_bytes())).read_to_string(&mut text).unwrap();
        assert_eq!(text, marked(line).unwrap());
        let Value::Object(mut record) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert_eq!(take_marks(&mut record.clone(), &["c", "NaN"]), None);
        assert_eq!(take_marks(&mut record, &["c", "b"]).as_deref(), Some("b"));
        let expected = json!({"a": null, "b": [null, null, -1], "c": "NaN \" NaN", "NaN": -0.5, "d": "x\\", "e": null});
        assert_eq!(Value::Object(record), expected);
        for other in [r#"{"a":NaNa}"#, r#"{"a":Inf}"#, r#"{"a":--Infinity}"#, r#"{"a":-"b"}"#, "{\"a\":Infinit"] {
            assert!(serde_json::from_str::<Value>(&marked(other).unwrap()).is_err(), "{other}");
        }
    }
}
