//! What the user reads. Events of all crates become lines on stderr, above the progress bars.
//!
//! A closed pipe must not end a training run, so what cannot be written is dropped; `eprintln!`
//! would panic.

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt::Debug;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, registry};
use trainer_core::{PROGRESS_TARGET, StageProgress, Stages};

/// Longest line in bytes. Messages quote files, and those may hold anything.
const LONGEST_LINE: usize = 8 << 10;
/// What is shown unless `RUST_LOG` says otherwise: what the crates of this workspace tell.
const DEFAULT_FILTER: &str = "off,train_and_save=info,sft_trainer=info,trainer_core=info,checkpoint_callbacks=info,\
                              causal_lm=info,galore_optim=info,sft_data=info,torch_ext=info,progress=info";

/// The format in use, once the terminal is open.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

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

/// Shows events from [`open`](Self::open) on, for the rest of the process.
pub struct Terminal {
    bars: MultiProgress,
}

impl Terminal {
    /// Shows events in this format. Bars appear where stderr is a terminal, unless they are
    /// disabled or lines are for machines.
    pub fn open(format: LogFormat, bars_disabled: bool) -> Self {
        let bars = match bars_disabled || format == LogFormat::Json {
            true => MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            false => MultiProgress::new(),
        };
        let _ = FORMAT.set(format);
        let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.trim().is_empty());
        let filter = wanted.as_ref().and_then(|wanted| EnvFilter::try_new(wanted).ok());
        let is_malformed = wanted.is_some() && filter.is_none();
        let lines = Lines { bars: bars.clone(), format, stages: Stages::new(bars.clone()) };
        let filter = filter.unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
        // Fails if there is a subscriber already. Then that one stays.
        let _ = tracing::subscriber::set_global_default(registry().with(filter).with(lines));
        if is_malformed {
            tracing::warn!("RUST_LOG is not a filter, and has no effect");
        }
        Self { bars }
    }

    /// Whether progress is told in lines, because stderr is no terminal or its lines are for
    /// machines.
    pub fn tells_progress_in_lines(&self) -> bool {
        !std::io::stderr().is_terminal() || FORMAT.get() == Some(&LogFormat::Json)
    }

    /// Where progress bars are drawn.
    pub fn bars(&self) -> MultiProgress {
        self.bars.clone()
    }
}

/// Text on stdout, as it is.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The error that ends the program. It is shown whatever `RUST_LOG` selects, in the format of all
/// other lines.
pub fn error(message: &str) {
    let line = match FORMAT.get() {
        Some(LogFormat::Json) => {
            let fields = Fields { message: message.to_owned(), ..Fields::default() };
            as_json(Level::ERROR, env!("CARGO_PKG_NAME"), Vec::new(), fields)
        }
        Some(LogFormat::Text) | None => as_text(Level::ERROR, message),
    };
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes a line per event.
struct Lines {
    bars: MultiProgress,
    format: LogFormat,
    stages: Stages,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if event.metadata().target() == PROGRESS_TARGET {
            let Some(line) = StageProgress::of(&fields.others).and_then(|progress| self.stages.show(progress)) else {
                return;
            };
            fields.message = line;
        }
        let line = match self.format {
            LogFormat::Text => as_text(*event.metadata().level(), &fields.message),
            LogFormat::Json => {
                let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
                let spans = spans.map(|span| Value::from(span.name())).collect();
                as_json(*event.metadata().level(), event.metadata().target(), spans, fields)
            }
        };
        self.bars.suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
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

fn as_json(level: Level, target: &str, spans: Vec<Value>, fields: Fields) -> String {
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
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Visit for Fields {
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

/// Whether a terminal would obey the character (a title, colours, the cursor), or show the text
/// around it in another order than it has, or show nothing.
fn is_obeyed(c: char) -> bool {
    let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let separates = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    reorders || separates || c.is_control() && c != '\n' && c != '\t'
}

/// The line without what a terminal obeys, and cut where it is out of all proportion.
fn harmless(line: &str) -> Cow<'_, str> {
    let obeyed = is_obeyed;
    if line.len() <= LONGEST_LINE && !line.contains(obeyed) {
        return Cow::Borrowed(line);
    }
    let end = (0..=LONGEST_LINE.min(line.len())).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
    let mut text = String::with_capacity(end);
    for c in line[..end].chars() {
        if obeyed(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    if end < line.len() {
        text += " … (cut)";
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_hold_does_not_reach_the_terminal_as_commands() {
        assert_eq!(harmless("warning: naïve\n\tplain"), "warning: naïve\n\tplain");
        assert_eq!(harmless("\u{1b}]0;owned\u{7} \u{9b}2J\r"), "\\u{1b}]0;owned\\u{7} \\u{9b}2J\\r");
        assert_eq!(harmless("a\u{202e}txt.exe\u{2066}\u{2028}b"), "a\\u{202e}txt.exe\\u{2066}\\u{2028}b");
        let long = harmless(&"é".repeat(LONGEST_LINE)).into_owned();
        assert_eq!(long, "é".repeat(LONGEST_LINE / 2) + " … (cut)");
    }

    #[test]
    fn levels_are_words_before_the_message() {
        assert_eq!(as_text(Level::INFO, "saved"), "saved");
        assert_eq!(as_text(Level::WARN, "skipped"), "warning: skipped");
        assert_eq!(as_text(Level::ERROR, "gone"), "error: gone");
    }
}
