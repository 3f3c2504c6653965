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
//! - Python's methods read long texts for free ([`call_method`]). Some filters and methods make a
//!   text before the engine charges for it ([`charge_bytes`], [`Budget`]).
//!
//! The fuel grows with the template and with what it is given, so that a long chat is not stopped.

use super::panics;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error as TemplateError, ErrorKind, State};
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

/// The fuel of every rendering: 64 MiB of text. Templates in use need some 100 to 300 units a
/// message, plus the length of the text as often as they copy it.
const FUEL: u64 = (64 << 20) / TEXT_BYTES_PER_FUEL;
/// How many bytes a rendering may make for each byte of the template and of what it is given, on
/// top of [`FUEL`].
const BYTES_PER_BYTE: u64 = 100;
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
/// Bytes of a list's or a dictionary's text for one unit of fuel, as in the engine.
const STRUCTURE_BYTES_PER_FUEL: u64 = 4;

/// A function that calls a method of Python.
pub(crate) type CallMethod = fn(&State, &Value, &str, &[Value]) -> Result<Value, TemplateError>;

/// A compiled template that is rendered within the limits.
#[derive(Debug)]
pub(crate) struct Sandbox {
    environment: Environment<'static>,
    name: String,
    source_bytes: usize,
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
    /// Compiles a template and adds the limits to its environment. Error messages name the template
    /// by `name`, such as its file.
    pub(crate) fn compile(
        mut environment: Environment<'static>,
        name: &str,
        source: String,
        call: CallMethod,
    ) -> Result<Self, Failure> {
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(move |state, value, method, arguments| {
            call_method(state, value, method, arguments, call)
        });
        // In debug mode, errors hold values of the template, which may be nested too deep to be
        // dropped on the caller's thread.
        environment.set_debug(false);
        let source_bytes = source.len();
        let owned_name = name.to_owned();
        let parse = move || environment.add_template_owned(owned_name, source).map(|()| environment);
        let environment = run(TIME_LIMIT, parse).map_err(|reason| Failure::Stopped(format!("{reason} ({name})")))??;
        Ok(Self {
            environment,
            name: name.to_owned(),
            source_bytes,
            time_limit: TIME_LIMIT,
            has_timed_out: AtomicBool::new(false),
        })
    }

    /// Renders the template with these variables.
    pub(crate) fn render(&self, variables: Map<String, Json>) -> Result<String, Failure> {
        let stopped = |reason: &dyn std::fmt::Display| Failure::Stopped(format!("{reason} ({})", self.name));
        if self.has_timed_out.load(Ordering::Relaxed) {
            return Err(stopped(&Unfinished::TimeLimit));
        }
        let given: usize = variables.iter().map(|(name, value)| name.len() + size_of(value)).sum();
        let fuel = FUEL + (self.source_bytes + given) as u64 * BYTES_PER_BYTE / TEXT_BYTES_PER_FUEL;
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let name = self.name.clone();
        let render = move || environment.get_template(&name)?.render(Serde(&variables));
        let text = run(self.time_limit, render).map_err(|reason| {
            self.has_timed_out.fetch_or(reason == Unfinished::TimeLimit, Ordering::Relaxed);
            stopped(&reason)
        })?;
        text.map_err(|error| match error.kind() {
            ErrorKind::OutOfFuel => stopped(&OutOfFuel { fuel }),
            _ => Failure::Template(error),
        })
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::Template(error)
    }
}

/// The limits of a rendering that ran out of fuel.
#[derive(Debug, thiserror::Error)]
#[error(
    "it writes more than {} MB of text, or takes more than {fuel} instructions, which is far above what this chat needs",
    fuel * TEXT_BYTES_PER_FUEL / 1_000_000
)]
struct OutOfFuel {
    fuel: u64,
}

/// Why `run` has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unfinished {
    #[error("it takes longer than {} s", TIME_LIMIT.as_secs())]
    TimeLimit,
    #[error("the template engine panicked")]
    Panicked,
    #[error(
        "the system refuses a thread with a stack of {} MiB of address space, which a template needs: is there a limit \
         (ulimit -v, ulimit -u)?",
        STACK_BYTES >> 20
    )]
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
fn call_method(
    state: &State,
    value: &Value,
    name: &str,
    arguments: &[Value],
    call: CallMethod,
) -> Result<Value, TemplateError> {
    charge_bytes(state, value.as_str().map_or(0, str::len))?;
    if name == "format" && value.as_str().is_some_and(has_wide_field) {
        return Err(TemplateError::new(ErrorKind::InvalidOperation, "str.format: a width of 1000 or more"));
    }
    call(state, value, name, arguments)
}

/// Whether a format has a number of four digits, which would be a width. Padding to a width takes
/// memory before the engine charges for it.
fn has_wide_field(format: &str) -> bool {
    format.as_bytes().windows(4).any(|window| window.iter().all(u8::is_ascii_digit))
}

/// Charges fuel for a text of this length. Filters and methods that make a text longer than what
/// they are given call this before they do it.
pub(crate) fn charge_bytes(state: &State, bytes: usize) -> Result<(), TemplateError> {
    state.consume_fuel(bytes as u64 / TEXT_BYTES_PER_FUEL)
}

/// Charges fuel for a list of this length.
pub(crate) fn charge_values(state: &State, length: usize) -> Result<(), TemplateError> {
    state.consume_fuel(length as u64 / 2)
}

/// The error that stops a template.
pub(crate) fn out_of_fuel() -> TemplateError {
    TemplateError::from(ErrorKind::OutOfFuel)
}

/// The longest text of a value that there is fuel for. The value may refer to another one many
/// times, so its text may be far longer than the value.
pub(crate) struct Budget(usize);

impl Budget {
    pub(crate) fn of_structure(state: &State) -> Self {
        Self(fuel_left(state).map_or(usize::MAX, |fuel| to_usize(fuel.saturating_mul(STRUCTURE_BYTES_PER_FUEL))))
    }

    /// For how many bytes of text there is fuel.
    pub(crate) fn most_bytes(state: &State) -> usize {
        fuel_left(state).map_or(usize::MAX, |fuel| to_usize(fuel.saturating_mul(TEXT_BYTES_PER_FUEL)))
    }

    pub(crate) fn covers(&self, bytes: usize) -> bool {
        bytes <= self.0
    }

    /// Charges fuel for the text.
    pub(crate) fn charge(&self, state: &State, bytes: usize) -> Result<(), TemplateError> {
        state.consume_fuel(bytes as u64 / STRUCTURE_BYTES_PER_FUEL)
    }
}

fn fuel_left(state: &State) -> Option<u64> {
    state.fuel_levels().map(|(_, left)| left)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// How many bytes the variables take, about.
fn size_of(value: &Json) -> usize {
    const BYTES_A_VALUE: usize = 16;
    let inside: usize = match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(size_of).sum(),
        Json::Object(fields) => fields.iter().map(|(key, value)| key.len() + size_of(value)).sum(),
        _ => 0,
    };
    BYTES_A_VALUE + inside
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
