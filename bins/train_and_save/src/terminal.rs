//! What the user reads. Events of all crates become lines on stderr, above the progress bars.
//!
//! A closed pipe must not end a training run, so what cannot be written is dropped; `eprintln!`
//! would panic.

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde_json::Value;
use sft_trainer::config::FrontendConfig;
use sft_trainer::log_lines::{EventFields, LogFormat};
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, registry};
use trainer_core::{PROGRESS_TARGET, StageProgress, Stages};

/// What is shown unless `RUST_LOG` says otherwise: what the crates of this workspace tell.
const DEFAULT_FILTER: &str = "off,train_and_save=info,sft_trainer=info,trainer_core=info,checkpoint_callbacks=info,\
                              causal_lm=info,galore_optim=info,sft_data=info,torch_ext=info,progress=info";

/// The format in use, once the terminal is open.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Shows events from [`open`](Self::open) on, for the rest of the process.
pub struct Terminal {
    bars: MultiProgress,
}

impl Terminal {
    /// Shows events in the format and from the level that was chosen. Bars appear where stderr is a
    /// terminal, unless they are disabled or lines are for machines.
    pub fn open(program: &FrontendConfig) -> Self {
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
    let fields = EventFields { message: message.to_owned(), ..EventFields::default() };
    let format = FORMAT.get().copied().unwrap_or_default();
    let line = format.line(Level::ERROR, env!("CARGO_PKG_NAME"), Vec::new(), fields);
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
        let mut fields = EventFields::default();
        event.record(&mut fields);
        if event.metadata().target() == PROGRESS_TARGET {
            let Some(line) = StageProgress::of(&fields.others).and_then(|progress| self.stages.show(progress)) else {
                return;
            };
            fields.message = line;
        }
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans = spans.map(|span| Value::from(span.name())).collect();
        let line = self.format.line(*event.metadata().level(), event.metadata().target(), spans, fields);
        self.bars.suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
    }
}

/// Colours are for a terminal, and for a user who has not turned them off (no-color.org).
pub fn has_colours() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
