//! Changes to a file that keep most of it, so that readers get past their first check.

use proptest::prelude::*;
use serde_json::Value;

/// The format of a file, which decides where it is changed.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    Bytes,
    Json,
    /// Text, with words that have a meaning in it.
    Text(&'static [&'static str]),
    /// Eight bytes with a length, JSON of that length, data.
    Safetensors,
}

/// One change. Numbers are taken modulo the number of places.
#[derive(Debug, Clone)]
pub struct Mutation {
    how: u8,
    at: u32,
    length: u16,
    what: u32,
}

impl Arbitrary for Mutation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let fields = (any::<u8>(), any::<u32>(), any::<u16>(), any::<u32>());
        fields.prop_map(|(how, at, length, what)| Self { how, at, length, what }).boxed()
    }
}

/// `bytes` with all changes.
pub fn mutated(bytes: &[u8], content: Content, changes: &[Mutation]) -> Vec<u8> {
    match content {
        Content::Json => match serde_json::from_slice(bytes) {
            Ok(value) => change_json(value, changes),
            Err(_) => change_bytes(bytes.to_vec(), changes),
        },
        Content::Safetensors => change_safetensors(bytes, changes),
        Content::Text(words) => changes.iter().fold(bytes.to_vec(), |bytes, change| {
            if change.how % 4 == 0 { change.bytes(bytes) } else { change.text(bytes, words) }
        }),
        Content::Bytes => change_bytes(bytes.to_vec(), changes),
    }
}

fn change_bytes(bytes: Vec<u8>, changes: &[Mutation]) -> Vec<u8> {
    changes.iter().fold(bytes, |bytes, change| change.bytes(bytes))
}

/// Changes values in most cases, and the text of the JSON in some.
fn change_json(mut value: Value, changes: &[Mutation]) -> Vec<u8> {
    let (to_text, to_values): (Vec<_>, Vec<_>) = changes.iter().cloned().partition(|change| change.how % 8 == 0);
    for change in &to_values {
        let at = change.at as usize % count(&value);
        change.node(&mut value, &mut { at });
    }
    change_bytes(value.to_string().into_bytes(), &to_text)
}

fn change_safetensors(bytes: &[u8], changes: &[Mutation]) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (to_bytes, to_header): (Vec<_>, Vec<_>) = changes.iter().cloned().partition(|change| change.how % 4 == 1);
    let header = change_json(serde_json::from_slice(&bytes[8..8 + length]).unwrap(), &to_header);
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header);
    changed.extend(&bytes[8 + length..]);
    change_bytes(changed, &to_bytes)
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

const NUMBERS: [u64; 12] =
    [0, 1, 2, 255, 65_536, 1 << 24, i32::MAX as u64, 1 << 31, u32::MAX as u64, 1 << 53, i64::MAX as u64, u64::MAX];

impl Mutation {
    fn value(&self) -> Value {
        let number = NUMBERS[self.length as usize % NUMBERS.len()];
        match self.what % 16 {
            0 => Value::Null,
            1 => Value::Bool(self.length.is_multiple_of(2)),
            2..=5 => Value::from(number),
            6 => Value::from(-(number.min(1 << 60) as i64)),
            7 => Value::from(f64::from(self.length) / 7.0),
            8 => Value::from(1e300),
            9 => Value::from(""),
            10 => Value::from("x".repeat(self.length as usize % 5000)),
            11 => Value::from(
                ["../x", "/etc/passwd", "\0", "\u{fffd}é\u{1f600}", "\\", "(?:", "(a*)*$", "{}"]
                    [self.length as usize % 8],
            ),
            12 => Value::Array(Vec::new()),
            13 => Value::Object(serde_json::Map::new()),
            14 => (0..self.length % 200).fold(Value::Null, |inner, _| Value::Array(vec![inner])),
            _ => Value::Array(vec![Value::from(number); self.length as usize % 2000]),
        }
    }

    /// Changes the `at`th value, counted from `value`.
    fn node(&self, value: &mut Value, at: &mut usize) -> bool {
        if *at == 0 {
            match (self.how % 4, &mut *value) {
                (0, Value::Array(items)) if !items.is_empty() => {
                    let item = items[self.what as usize % items.len()].clone();
                    items.insert(self.length as usize % items.len(), item);
                }
                (1, Value::Array(items)) if !items.is_empty() => drop(items.remove(self.what as usize % items.len())),
                (0 | 1, Value::Object(entries)) if !entries.is_empty() => {
                    let key = entries.keys().nth(self.what as usize % entries.len()).cloned().unwrap_or_default();
                    entries.shift_remove(&key);
                }
                (_, Value::String(text)) if self.how % 8 == 2 => {
                    *text = String::from_utf8_lossy(&self.bytes(text.clone().into_bytes())).into_owned();
                }
                (_, other) => *other = self.value(),
            }
            return true;
        }
        *at -= 1;
        match value {
            Value::Array(items) => items.iter_mut().any(|item| self.node(item, at)),
            Value::Object(entries) => entries.values_mut().any(|entry| self.node(entry, at)),
            _ => false,
        }
    }

    fn text(&self, mut bytes: Vec<u8>, words: &[&str]) -> Vec<u8> {
        let word = words[self.what as usize % words.len()];
        let at = self.at as usize % (bytes.len() + 1);
        let end = if self.how.is_multiple_of(2) { at } else { (at + self.length as usize % 24).min(bytes.len()) };
        bytes.splice(at..end, word.bytes());
        bytes
    }

    fn bytes(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return self.what.to_le_bytes().to_vec();
        }
        let at = self.at as usize % bytes.len();
        let end = (at + 1 + self.length as usize % 64).min(bytes.len());
        match self.how / 8 % 8 {
            0 | 1 => bytes[at] ^= 1 << (self.what % 8),
            2 => bytes[at] = self.what as u8,
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => {
                let number = NUMBERS[self.what as usize % NUMBERS.len()].to_le_bytes();
                let width = [1, 2, 4, 8][self.length as usize % 4];
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
            }
            _ => {
                bytes.splice(at..at, std::iter::repeat_n(self.what as u8, self.length as usize % 300));
            }
        }
        bytes
    }
}
