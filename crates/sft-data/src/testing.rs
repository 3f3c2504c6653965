//! Code shared by the unit tests.

use crate::inspect::with_sources;
use crate::{ChatTokenizer, Error, TokenizerOptions};
use serde_json::Value;
use std::cell::RefCell;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The path of a golden file. `tests/goldens/make.py` writes them.
pub(crate) fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

pub(crate) fn golden(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden_path(name)).unwrap()).unwrap()
}

pub(crate) fn numbers<T: TryFrom<u64>>(value: &Value) -> Vec<T>
where
    T::Error: std::fmt::Debug,
{
    value.as_array().unwrap().iter().map(|number| T::try_from(number.as_u64().unwrap()).unwrap()).collect()
}

pub(crate) fn tokenizer(name: &str) -> ChatTokenizer {
    ChatTokenizer::from_dir(&golden_path("tokenizers").join(name)).unwrap()
}

/// A golden tokenizer with another chat template: the golden template of that name, or else the
/// text itself.
pub(crate) fn tokenizer_with_template(name: &str, template: &str) -> ChatTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.jinja");
    let templates = golden("templates.json");
    fs::write(&path, templates["sources"][template].as_str().unwrap_or(template)).unwrap();
    let options = TokenizerOptions { chat_template_path: Some(path), ..TokenizerOptions::default() };
    ChatTokenizer::load(&golden_path("tokenizers").join(name), &options).unwrap()
}

/// A golden tokenizer without a chat template.
pub(crate) fn tokenizer_without_template(name: &str) -> ChatTokenizer {
    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let path = golden_path("tokenizers").join(name).join(file);
        let mut content: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        content.as_object_mut().unwrap().remove("chat_template");
        fs::write(folder.path().join(file), content.to_string()).unwrap();
    }
    ChatTokenizer::from_dir(folder.path()).unwrap()
}

/// The message of an error followed by those of its sources.
pub(crate) fn message(error: &Error) -> String {
    let text = with_sources(error);
    assert!(!text.contains('\n'), "an error is one line, not {text:?}");
    text
}

/// A small random number generator. Property tests with it always run the same cases.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

thread_local! {
    /// The spans that this thread has opened.
    static SPANS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// The progress that this thread has told.
    static PROGRESS: RefCell<Vec<(u64, u64)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` and returns the spans that it opens on this thread: name, field and value.
pub(crate) fn spans_of<T>(work: impl FnOnce() -> T) -> Vec<String> {
    record();
    SPANS.take();
    work();
    SPANS.take()
}

/// Runs `work` and returns the progress that it tells on this thread: `done` and `total`.
pub(crate) fn progress_of<T>(work: impl FnOnce() -> T) -> Vec<(u64, u64)> {
    record();
    PROGRESS.take();
    work();
    PROGRESS.take()
}

fn record() {
    static INSTALL: Once = Once::new();
    // A subscriber of one thread would miss spans whose call sites another thread registers.
    INSTALL.call_once(|| {
        tracing::subscriber::set_global_default(SpanRecorder).unwrap();
        tracing::callsite::rebuild_interest_cache();
    });
}

struct ProgressFields<'a>(&'a mut u64, &'a mut u64);

impl Visit for ProgressFields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "done" => *self.0 = value,
            "total" => *self.1 = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn Debug) {}
}

struct SpanRecorder;

impl Subscriber for SpanRecorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("sft_data") || metadata.target() == "progress"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut text = attributes.metadata().name().to_owned();
        attributes.record(&mut |field: &Field, value: &dyn Debug| text.push_str(&format!(" {field}={value:?}")));
        SPANS.with_borrow_mut(|spans| spans.push(text));
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let (mut done, mut total) = (0, 0);
        event.record(&mut ProgressFields(&mut done, &mut total));
        PROGRESS.with_borrow_mut(|progress| progress.push((done, total)));
    }
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}
