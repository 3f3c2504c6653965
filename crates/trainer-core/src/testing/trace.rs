//! A `tracing` subscriber that records.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Records the `tracing` events and spans of a piece of code; clones share one list.
///
/// ```
/// use trainer_core::testing::TraceRecording;
///
/// let recording = TraceRecording::default();
/// let sum = recording.capture(|| 1 + 1);
/// assert_eq!((sum, recording.events().len()), (2, 0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct TraceRecording(Arc<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    last_id: AtomicU64,
    events: Mutex<Vec<Traced>>,
    spans: Mutex<Vec<Traced>>,
}

/// One event, or one span at its beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// How important it is.
    pub level: Level,
    /// Its target: the module it comes from, unless the code sets another one.
    pub target: String,
    /// The message of an event, or the name of a span.
    pub message: String,
    /// The other fields, as text.
    pub fields: BTreeMap<&'static str, String>,
}

impl TraceRecording {
    /// Runs `code` and records what it does on this thread.
    pub fn capture<T>(&self, code: impl FnOnce() -> T) -> T {
        tracing::subscriber::with_default(self.clone(), code)
    }

    /// The events so far, in order.
    pub fn events(&self) -> Vec<Traced> {
        lock(&self.0.events).clone()
    }

    /// The messages of the events of `level` so far, in order.
    pub fn messages(&self, level: Level) -> Vec<String> {
        self.events().into_iter().filter(|event| event.level == level).map(|event| event.message).collect()
    }

    /// The spans that have begun so far, in order.
    pub fn spans(&self) -> Vec<Traced> {
        lock(&self.0.spans).clone()
    }
}

/// A test that panicked while it recorded is reported by its panic.
fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traced {
    fn new(metadata: &Metadata<'_>, message: &str) -> Self {
        let (level, target) = (*metadata.level(), metadata.target().to_owned());
        Self { level, target, message: message.to_owned(), fields: BTreeMap::new() }
    }
}

impl Visit for Traced {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => drop(self.fields.insert(name, text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl Subscriber for TraceRecording {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut traced = Traced::new(span.metadata(), span.metadata().name());
        span.record(&mut traced);
        lock(&self.0.spans).push(traced);
        // Ids begin at 1: 0 is no id.
        Id::from_u64(self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut traced = Traced::new(event.metadata(), "");
        event.record(&mut traced);
        lock(&self.0.events).push(traced);
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}
