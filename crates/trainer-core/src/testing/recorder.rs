//! A callback that records every event, and a check of the record.

use crate::{Callback, CallbackContext, EventResult, LogEntry, Requests};
use std::cell::{Ref, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// One recorded event.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The name of the event.
    pub event: &'static str,
    /// `global_step` at the event.
    pub step: u64,
    /// `epoch` at the event.
    pub epoch: f64,
    /// The entry of `on_log` and `on_evaluate`.
    pub entry: Option<LogEntry>,
    /// The path of `on_save`.
    pub checkpoint: Option<PathBuf>,
}

type Hook<'a> = Box<dyn FnMut(&Recorded, &mut Requests) -> EventResult + 'a>;

/// A callback that adds every event to a [`Recording`]. A hook can act on the events.
pub struct Recorder<'a> {
    recording: Recording,
    hook: Option<Hook<'a>>,
}

/// The events that one or more [`Recorder`]s saw. It can be read during and after the run; clones
/// share one list.
#[derive(Clone, Default)]
pub struct Recording(Rc<RefCell<Vec<Recorded>>>);

impl Recording {
    /// The events so far.
    pub fn events(&self) -> Ref<'_, Vec<Recorded>> {
        self.0.borrow()
    }

    /// The names of the events so far.
    pub fn names(&self) -> Vec<&'static str> {
        self.events().iter().map(|recorded| recorded.event).collect()
    }

    /// Checks that the events are exactly the expected ones, in this order.
    ///
    /// # Errors
    ///
    /// A message about the first event that differs.
    pub fn check(&self, expected: &[Expected]) -> Result<(), String> {
        let events = self.events();
        for (index, recorded) in events.iter().enumerate() {
            match expected.get(index) {
                Some(expected) if expected.matches(recorded) => {}
                Some(expected) => return Err(format!("event {index}: expected {expected}, found {recorded:?}")),
                None => return Err(format!("event {index}: expected the end, found {recorded:?}")),
            }
        }
        match expected.get(events.len()) {
            Some(missing) => Err(format!("event {}: expected {missing}, found the end", events.len())),
            None => Ok(()),
        }
    }
}

/// An event that a test expects.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    event: &'static str,
    step: Option<u64>,
    key: Option<&'static str>,
}

impl Expected {
    /// Expects an event with this name.
    pub fn event(event: &'static str) -> Self {
        Self { event, step: None, key: None }
    }

    /// Expects this `global_step` as well.
    #[must_use]
    pub fn at_step(self, step: u64) -> Self {
        Self { step: Some(step), ..self }
    }

    /// Expects an entry with this key as well.
    #[must_use]
    pub fn with_key(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    fn matches(&self, recorded: &Recorded) -> bool {
        let has_key = |key| recorded.entry.as_ref().is_some_and(|entry| entry.contains_key(key));
        self.event == recorded.event
            && self.step.is_none_or(|step| step == recorded.step)
            && self.key.is_none_or(has_key)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.event)?;
        self.step.map_or(Ok(()), |step| write!(formatter, " at step {step}"))?;
        self.key.map_or(Ok(()), |key| write!(formatter, " with {key}"))
    }
}

impl<'a> Recorder<'a> {
    /// A recorder that writes to `recording`.
    pub fn new(recording: &Recording) -> Self {
        Self { recording: recording.clone(), hook: None }
    }

    /// Calls `hook` after each event is recorded. The hook can make requests, and its error is the
    /// error of the callback.
    #[must_use]
    pub fn with_hook(self, hook: impl FnMut(&Recorded, &mut Requests) -> EventResult + 'a) -> Self {
        Self { hook: Some(Box::new(hook)), ..self }
    }

    fn record(
        &mut self,
        event: &'static str,
        context: &CallbackContext<'_>,
        carried: (Option<&LogEntry>, Option<&Path>),
        requests: &mut Requests,
    ) -> EventResult {
        let recorded = Recorded {
            event,
            step: context.state.global_step,
            epoch: context.state.epoch,
            entry: carried.0.cloned(),
            checkpoint: carried.1.map(Path::to_owned),
        };
        self.recording.0.borrow_mut().push(recorded.clone());
        self.hook.as_mut().map_or(Ok(()), |hook| hook(&recorded, requests))
    }
}

macro_rules! record {
    ($($event:ident)*) => {
        $(fn $event(&mut self, context: &CallbackContext<'_>, requests: &mut Requests) -> EventResult {
            self.record(stringify!($event), context, (None, None), requests)
        })*
    };
}

impl Callback for Recorder<'_> {
    fn name(&self) -> &str {
        "Recorder"
    }

    record! {
        on_train_begin on_train_end on_epoch_begin on_epoch_end on_step_begin on_substep_end on_pre_optimizer_step
        on_optimizer_step on_step_end
    }

    fn on_log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry, requests: &mut Requests) -> EventResult {
        self.record("on_log", context, (Some(entry), None), requests)
    }

    fn on_evaluate(
        &mut self,
        context: &CallbackContext<'_>,
        metrics: &LogEntry,
        requests: &mut Requests,
    ) -> EventResult {
        self.record("on_evaluate", context, (Some(metrics), None), requests)
    }

    fn on_save(&mut self, context: &CallbackContext<'_>, checkpoint: &Path, requests: &mut Requests) -> EventResult {
        self.record("on_save", context, (None, Some(checkpoint)), requests)
    }
}
