//! Limits on chat templates.
//!
//! A template reads only the values that it is given. There is no loader, so it cannot include
//! files. The engine limits recursion, and it limits work and memory by "fuel": each instruction
//! and every 64 bytes of text cost one unit. This module covers what the engine's fuel does not:
//!
//! - Lists nested as deep as the fuel allows use one stack frame a level when they are dropped or
//!   printed. So [`Sandbox`] renders on a thread with a large stack.
//! - A list that holds another list twice, which holds another list twice, and so on, takes little
//!   memory, but comparing two of them never ends. So [`Sandbox`] gives up after [`TIME_LIMIT`] and
//!   abandons the thread.
//! - Python's string methods read long texts for free ([`call_method`]), and `tojson` writes its
//!   result before the engine charges for it ([`charge_for_json`]).

use super::panics;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error as TemplateError, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

/// The fuel of one rendering. Templates in use need some 100 to 300 units a message, plus the
/// length of the text as often as they copy it.
const FUEL: u64 = 2_000_000;
/// The longest time that a rendering may take. Usually it takes a millisecond at most.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(5);
/// The largest indent that `tojson` accepts.
pub(crate) const MAX_INDENT: usize = 64;
/// Enough for lists that are nested as deep as the fuel allows: some 200,000 levels. The system
/// provides memory only for the part that is used.
const STACK_BYTES: usize = 256 << 20;
/// The time limit is waited for in this many parts. If the whole process is suspended meanwhile,
/// only one part is lost.
const NUM_WAITS: u32 = 50;
/// Bytes of text for one unit of fuel, as in the engine.
const TEXT_BYTES_PER_FUEL: u64 = 64;
/// Bytes of serialized JSON for one unit of fuel, as in the engine.
const JSON_BYTES_PER_FUEL: u64 = 4;

/// The name of the template in its environment.
const NAME: &str = "chat_template";

/// A compiled template that is rendered within the limits.
#[derive(Debug)]
pub(crate) struct Sandbox {
    environment: Arc<Environment<'static>>,
    pub(crate) time_limit: Duration,
    /// Whether a rendering has taken too long. The template is not rendered again then, because
    /// every row of a dataset would take as long.
    has_timed_out: AtomicBool,
}

/// Why a template gives no text.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The template is malformed, or refuses what it is given.
    Template(TemplateError),
    /// The template exceeds the limit that the text names.
    Stopped(String),
}

impl Sandbox {
    /// Compiles a template and adds the limits to its environment.
    pub(crate) fn compile(mut environment: Environment<'static>, source: String) -> Result<Self, Failure> {
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(call_method);
        // In debug mode, errors hold values of the template, which may be nested too deep to be
        // dropped on the caller's thread.
        environment.set_debug(false);
        let parse = move || environment.add_template_owned(NAME, source).map(|()| environment);
        let environment = run(TIME_LIMIT, parse)??.into();
        Ok(Self { environment, time_limit: TIME_LIMIT, has_timed_out: AtomicBool::new(false) })
    }

    /// Renders the template with these variables.
    pub(crate) fn render(&self, variables: Map<String, Json>) -> Result<String, Failure> {
        if self.has_timed_out.load(Ordering::Relaxed) {
            return Err(Unfinished::TimeLimit.into());
        }
        let environment = self.environment.clone();
        let render = move || environment.get_template(NAME)?.render(Serde(&variables));
        let text = run(self.time_limit, render).inspect_err(|reason| {
            self.has_timed_out.fetch_or(*reason == Unfinished::TimeLimit, Ordering::Relaxed);
        })?;
        Ok(text?)
    }
}

impl From<Unfinished> for Failure {
    fn from(reason: Unfinished) -> Self {
        Self::Stopped(reason.to_string())
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        match error.kind() {
            ErrorKind::OutOfFuel => Self::Stopped(format!(
                "it takes more than {FUEL} instructions, or writes more than {} MB of text",
                FUEL * TEXT_BYTES_PER_FUEL / 1_000_000
            )),
            _ => Self::Template(error),
        }
    }
}

/// Why `run` has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unfinished {
    #[error("it takes longer than {} s", TIME_LIMIT.as_secs())]
    TimeLimit,
    #[error("the template engine gave up on it")]
    Panicked,
    #[error("no thread can be started for it")]
    NoThread,
}

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The worker of this thread. It ends when this thread does.
    static WORKER: RefCell<Option<Sender<Job>>> = const { RefCell::new(None) };
}

/// Runs `work` on the worker of this thread, which has a large stack, for at most `time_limit`.
fn run<T: Send + 'static>(time_limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unfinished> {
    let (sender, receiver) = sync_channel(1);
    let job = Box::new(move || {
        // Sending fails if the time limit has passed: nobody waits for the result then.
        let _ = sender.send(panics::catch(work));
    });
    // A worker that does not finish in time is not put back, so the next call starts a new one.
    let worker = WORKER.take().map_or_else(start_worker, Ok)?;
    worker.send(job).map_err(|_| Unfinished::Panicked)?;
    for _ in 0..NUM_WAITS {
        match receiver.recv_timeout(time_limit / NUM_WAITS) {
            Ok(result) => {
                WORKER.set(Some(worker));
                return result.map_err(|_| Unfinished::Panicked);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Unfinished::Panicked),
        }
    }
    Err(Unfinished::TimeLimit)
}

fn start_worker() -> Result<Sender<Job>, Unfinished> {
    let (sender, receiver) = channel::<Job>();
    let work = move || receiver.iter().for_each(|job| job());
    let thread = std::thread::Builder::new().name("template".to_owned()).stack_size(STACK_BYTES).spawn(work);
    thread.map(|_| sender).map_err(|_| Unfinished::NoThread)
}

/// Calls a method of Python's strings, lists or dictionaries. The engine charges fuel for the
/// result; this function charges for the value that the method reads.
fn call_method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let read = value.as_str().map(|text| text.len() / TEXT_BYTES_PER_FUEL as usize).or(value.len()).unwrap_or(0);
    state.consume_fuel(read as u64)?;
    if name == "format" && value.as_str().is_some_and(has_wide_field) {
        return Err(TemplateError::new(ErrorKind::InvalidOperation, "str.format: a width of 1000 or more"));
    }
    unknown_method_callback(state, value, name, arguments)
}

/// Whether a format has a number of four digits, which would be a width. Padding to a width takes
/// memory before the engine charges for it.
fn has_wide_field(format: &str) -> bool {
    format.as_bytes().windows(4).any(|window| window.iter().all(u8::is_ascii_digit))
}

/// Charges fuel for serializing a value. The value may refer to another one many times, so its JSON
/// may be far larger than the value. Returns for how many bytes of text there is still fuel.
pub(crate) fn charge_for_json(state: &State, value: &Value) -> Result<usize, TemplateError> {
    let Some((_, fuel)) = state.fuel_levels() else { return Ok(usize::MAX) };
    let limit = fuel.saturating_mul(JSON_BYTES_PER_FUEL);
    let mut counter = Counter { bytes_left: limit };
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => state.consume_fuel((limit - counter.bytes_left) / JSON_BYTES_PER_FUEL)?,
        // Consuming more than there is fails with the engine's own error.
        Err(error) if error.is_io() => state.consume_fuel(fuel + 1)?,
        // The value cannot be JSON. The caller serializes it again and reports that.
        Err(_) => {}
    }
    Ok(usize::try_from(fuel.saturating_mul(TEXT_BYTES_PER_FUEL)).unwrap_or(usize::MAX))
}

/// Discards what is written, up to a limit.
struct Counter {
    bytes_left: u64,
}

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.bytes_left.checked_sub(bytes.len() as u64);
        self.bytes_left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_that_takes_too_long_is_abandoned() {
        let thread = || std::thread::current().id();
        let first = run(TIME_LIMIT, thread).unwrap();
        assert_eq!(run(TIME_LIMIT, thread).unwrap(), first, "each thread has one worker");
        assert_ne!(first, std::thread::current().id());

        let started = Instant::now();
        let sleep = || std::thread::sleep(Duration::from_secs(2));
        assert_eq!(run(Duration::from_millis(50), sleep), Err(Unfinished::TimeLimit));
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_ne!(run(TIME_LIMIT, thread).unwrap(), first, "the next render does not wait for it");

        assert_eq!(run(TIME_LIMIT, || panic!("on purpose")), Err::<(), _>(Unfinished::Panicked));
        assert!(run(TIME_LIMIT, thread).is_ok());
    }
}
