//! What the user reads. Events of all crates become lines on stderr, above the progress bars.
//!
//! A closed pipe must not end a training run, so what cannot be written is dropped; `eprintln!`
//! would panic.

use crate::flags::ProgramFlags;
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sft_trainer::terminal_text::harmless;
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
    fn filter(self, of_info: &str) -> String {
        let level = match self {
            Self::Debug => "=debug",
            Self::Info | Self::Passive => "=info",
            Self::Warning => "=warn",
            Self::Error | Self::Critical => "=error",
        };
        of_info.replace("=info", level)
    }
}

/// Shows events from [`open`](Self::open) on, for the rest of the process.
pub struct Terminal {
    bars: MultiProgress,
}

impl Terminal {
    /// Shows events in the format and from the level that was chosen. Bars appear where stderr is a
    /// terminal, unless they are disabled or lines are for machines.
    pub fn open(program: &ProgramFlags) -> Self {
        let format = program.log_format;
        let bars = match program.disable_tqdm || format == LogFormat::Json {
            true => MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            false => MultiProgress::new(),
        };
        let _ = FORMAT.set(format);
        let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.trim().is_empty());
        let filter = wanted.as_ref().and_then(|wanted| EnvFilter::try_new(wanted).ok());
        let is_malformed = wanted.is_some() && filter.is_none();
        let lines = Lines { bars: bars.clone(), format, stages: Stages::new(bars.clone()) };
        let filter = filter.unwrap_or_else(|| EnvFilter::new(program.log_level.filter(DEFAULT_FILTER)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_that_of_every_crate() {
        assert_eq!(LogLevel::Passive.filter(DEFAULT_FILTER), DEFAULT_FILTER);
        assert_eq!(LogLevel::Warning.filter("off,a=info,progress=info"), "off,a=warn,progress=warn");
    }

    #[test]
    fn levels_are_words_before_the_message() {
        assert_eq!(as_text(Level::INFO, "saved"), "saved");
        assert_eq!(as_text(Level::WARN, "skipped"), "warning: skipped");
        assert_eq!(as_text(Level::ERROR, "gone"), "error: gone");
    }
}
