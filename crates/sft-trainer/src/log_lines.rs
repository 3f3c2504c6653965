//! What a `tracing` event is as a line: a text for people, or an object for machines.

use crate::terminal_text::harmless;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt::Debug;
use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// The message of an event.
    #[default]
    Text,
    /// An object with the message, the fields and where they come from.
    Json,
}

impl LogFormat {
    /// The line of an event. `target` is where it comes from, and `spans` are those around it, the
    /// outermost first.
    pub fn line(self, level: Level, target: &str, spans: Vec<Value>, fields: EventFields) -> String {
        match self {
            Self::Text => as_text(level, &fields.message),
            Self::Json => as_json(level, target, spans, fields),
        }
    }
}

/// The least severe events that are shown. Names are those of Hugging Face.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Also what helps to find a fault.
    Debug,
    /// What a user should know.
    Info,
    /// What may be wrong, and errors.
    Warning,
    /// Errors alone.
    Error,
    /// As `error`: nothing here is worse.
    Critical,
    /// As `info`.
    #[default]
    Passive,
}

impl LogLevel {
    /// A filter of the level `info` with this level in its place.
    pub fn filter(self, of_info: &str) -> String {
        let level = match self {
            Self::Debug => "=debug",
            Self::Info | Self::Passive => "=info",
            Self::Warning => "=warn",
            Self::Error | Self::Critical => "=error",
        };
        of_info.replace("=info", level)
    }
}

fn as_text(level: Level, message: &str) -> String {
    let prefix = match level {
        Level::ERROR => "error: ",
        Level::WARN => "warning: ",
        _ => "",
    };
    format!("{prefix}{}", harmless(message))
}

fn as_json(level: Level, target: &str, spans: Vec<Value>, fields: EventFields) -> String {
    let mut timestamp = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let mut object = Map::from_iter([
        ("timestamp".to_owned(), timestamp.into()),
        ("level".to_owned(), level.as_str().to_ascii_lowercase().into()),
        ("target".to_owned(), target.into()),
        ("spans".to_owned(), spans.into()),
        ("message".to_owned(), fields.message.into()),
    ]);
    object.extend(fields.others);
    Value::Object(object).to_string()
}

/// The fields of an event.
#[derive(Debug, Default)]
pub struct EventFields {
    /// The message.
    pub message: String,
    /// All other fields.
    pub others: Map<String, Value>,
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            // Numbers, quoted texts, and entries of the log history are JSON as they are.
            name => {
                let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_that_of_every_crate() {
        assert_eq!(LogLevel::Passive.filter("off,a=info"), "off,a=info");
        assert_eq!(LogLevel::Warning.filter("off,a=info,progress=info"), "off,a=warn,progress=warn");
    }

    #[test]
    fn levels_are_words_before_the_message() {
        assert_eq!(as_text(Level::INFO, "saved"), "saved");
        assert_eq!(as_text(Level::WARN, "skipped"), "warning: skipped");
        assert_eq!(as_text(Level::ERROR, "gone"), "error: gone");
    }
}
