//! Things made on another thread, a few ahead of the one that takes them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use trainer_core::BoxError;

/// How many are ready at most while nobody takes them; the thread has one more in hand.
const AHEAD: usize = 3;

/// An iterator over what a thread makes, in order. The thread ends with the last one, after the
/// first error, or when this is dropped.
#[derive(Debug)]
pub struct Ahead<T> {
    /// Not yet taken.
    left: usize,
    thread: Option<Thread<T>>,
}

#[derive(Debug)]
struct Thread<T> {
    made: Receiver<Result<T, BoxError>>,
    handle: JoinHandle<()>,
}

/// Starts to make `count` things.
///
/// # Errors
/// When the system has no thread left.
pub fn ahead<T: Send + 'static>(
    count: usize,
    make: impl FnMut(usize) -> Result<T, BoxError> + Send + 'static,
) -> Result<Ahead<T>, BoxError> {
    let (sender, made) = sync_channel(AHEAD);
    let handle = std::thread::Builder::new().name("batches".to_owned()).spawn(move || send(count, make, &sender))?;
    Ok(Ahead { left: count, thread: Some(Thread { made, handle }) })
}

fn send<T>(count: usize, mut make: impl FnMut(usize) -> Result<T, BoxError>, sender: &SyncSender<Result<T, BoxError>>) {
    for index in 0..count {
        let made = make(index);
        let is_last = made.is_err();
        // Nobody listens any more: the epoch was cut short.
        if sender.send(made).is_err() || is_last {
            return;
        }
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = Result<T, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let made = self
            .thread
            .as_ref()?
            .made
            .recv()
            .unwrap_or_else(|_| Err("the thread that prepares batches has died".into()));
        if made.is_err() {
            self.left = 0;
        }
        Some(made)
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        if let Some(Thread { made, handle }) = self.thread.take() {
            // Without a receiver it ends at its next send.
            drop(made);
            // A panic was reported by `next`, or concerns what nobody asked for.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn order_is_kept_and_no_more_than_a_few_are_made_ahead() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let count = move |index| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(index)
        };
        let mut things = ahead(100, count).unwrap();
        assert_eq!(things.next().unwrap().unwrap(), 0);
        while made.load(Ordering::SeqCst) < 1 + AHEAD {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(made.load(Ordering::SeqCst) <= 1 + AHEAD + 1, "{made:?} made for one taken");
        let rest: Vec<usize> = things.by_ref().map(Result::unwrap).collect();
        assert_eq!(rest, (1..100).collect::<Vec<_>>());
        assert!(things.next().is_none());
    }

    #[test]
    fn the_first_error_is_the_last_item() {
        let mut things = ahead(5, |index| if index == 2 { Err("bad row".into()) } else { Ok(index) }).unwrap();
        assert_eq!(things.by_ref().take(2).map(Result::unwrap).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(things.next().unwrap().unwrap_err().to_string(), "bad row");
        assert!(things.next().is_none());
    }

    #[test]
    fn a_thread_that_dies_is_an_error() {
        let mut things = ahead(3, |index: usize| if index == 1 { panic!("on purpose") } else { Ok(index) }).unwrap();
        assert!(things.next().unwrap().is_ok());
        assert!(things.next().unwrap().unwrap_err().to_string().contains("died"));
        assert!(things.next().is_none());
    }

    /// What the thread holds is let go of, so it has ended.
    #[test]
    fn a_thread_ends_with_what_it_made_for() {
        for taken in [0, 1, 10] {
            let held = Arc::new(());
            let in_thread = held.clone();
            let make = move |index| {
                let _ = &in_thread;
                Ok(index)
            };
            let mut things = ahead(10, make).unwrap();
            assert_eq!(things.by_ref().take(taken).count(), taken);
            drop(things);
            assert_eq!(Arc::strong_count(&held), 1, "after {taken}");
        }
    }
}
