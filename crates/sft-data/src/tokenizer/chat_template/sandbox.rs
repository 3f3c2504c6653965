//! What keeps a template that comes with a stranger's model within bounds.
//!
//! A template reaches nothing but the values it is given: there is no loader, so it cannot include
//! files. Work and memory are bounded by the engine's fuel, and recursion by the engine. Two things
//! fuel does not see, so each render runs on a thread of its own: lists within lists, as deep as
//! fuel allows, take a stack frame a level when they are dropped or printed; and a list that holds
//! another twice, which holds another twice, takes no room but has no end when two of them are
//! compared. The thread has the stack for the first, and is left behind after [`PATIENCE`] with the
//! second.

use crate::guard::guarded;
use std::cell::RefCell;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

/// Instructions a render may run; 64 bytes of text cost as much as one. Templates in use take some
/// 100 to 300 a message, and bytes as often as they copy them.
pub(super) const FUEL: u64 = 2_000_000;
/// For what fuel can nest: some 200,000 levels. Pages count only when they are touched.
const STACK_BYTES: usize = 256 << 20;
/// Longest time that a render may take; they take a millisecond at most.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Parts that the time is waited for in: a process that was stopped meanwhile loses one of them.
const NUM_WAITS: u32 = 50;

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfinished {
    #[error("it takes longer than {} s", PATIENCE.as_secs())]
    TooLong,
    #[error("the template engine gave up on it")]
    Died,
    #[error("no thread can be started for it")]
    NoThread,
}

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The thread that works for this one. It ends when this one does.
    static WORKER: RefCell<Option<Sender<Job>>> = const { RefCell::new(None) };
}

/// Runs `work` on this thread's worker.
pub(super) fn run<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    let (sender, receiver) = sync_channel(1);
    let job = Box::new(move || {
        // Nobody waits any more if it took too long.
        let _ = sender.send(guarded(work));
    });
    let worker = WORKER.take().map_or_else(start, Ok)?;
    worker.send(job).map_err(|_| Unfinished::Died)?;
    for _ in 0..NUM_WAITS {
        match receiver.recv_timeout(patience / NUM_WAITS) {
            Ok(result) => {
                WORKER.set(Some(worker));
                return result.map_err(|_| Unfinished::Died);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Unfinished::Died),
        }
    }
    Err(Unfinished::TooLong)
}

fn start() -> Result<Sender<Job>, Unfinished> {
    let (sender, receiver) = channel::<Job>();
    let work = move || receiver.iter().for_each(|job| job());
    let thread = std::thread::Builder::new().name("template".to_owned()).stack_size(STACK_BYTES).spawn(work);
    thread.map(|_| sender).map_err(|_| Unfinished::NoThread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_is_done_and_what_has_no_end_is_left_behind() {
        let thread = || std::thread::current().id();
        let first = run(PATIENCE, thread).unwrap();
        assert_eq!(run(PATIENCE, thread).unwrap(), first, "one worker a thread");
        assert_ne!(first, std::thread::current().id());

        let started = Instant::now();
        let sleep = || std::thread::sleep(Duration::from_secs(2));
        assert_eq!(run(Duration::from_millis(50), sleep), Err(Unfinished::TooLong));
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_ne!(run(PATIENCE, thread).unwrap(), first, "the next render does not wait for it");

        assert_eq!(run(PATIENCE, || panic!("on purpose")), Err::<(), _>(Unfinished::Died));
        assert!(run(PATIENCE, thread).is_ok());
    }
}
