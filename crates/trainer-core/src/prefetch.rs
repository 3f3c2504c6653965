//! Making items on another thread, ahead of the thread that uses them.

use crate::BoxError;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The most items that wait in the channel. The thread may hold one more that it has just made.
const MAX_READY: usize = 3;

/// An iterator over items that another thread makes; see [`prefetch`].
///
/// Items come in order. The thread ends after the last item, after the first error, or when the
/// iterator is dropped. Dropping waits for the thread, so at most for one call of `make`.
#[derive(Debug)]
pub struct Prefetch<T> {
    num_left: usize,
    thread: Option<Thread<T>>,
}

#[derive(Debug)]
struct Thread<T> {
    items: Receiver<Result<T, BoxError>>,
    handle: JoinHandle<()>,
}

/// Starts a thread that calls `make(0)`, `make(1)`, … `make(count - 1)`. It stays at most four
/// items ahead of the iterator.
///
/// The iterator yields what `make` returns. An error is the last item, and so is a panic of `make`,
/// which becomes an error.
///
/// ```
/// let squares = trainer_core::prefetch(4, |index| Ok(index * index))?;
/// assert_eq!(squares.collect::<Result<Vec<_>, _>>()?, [0, 1, 4, 9]);
/// # Ok::<(), trainer_core::BoxError>(())
/// ```
///
/// # Errors
///
/// The system cannot start a thread.
pub fn prefetch<T: Send + 'static>(
    count: usize,
    make: impl FnMut(usize) -> Result<T, BoxError> + Send + 'static,
) -> io::Result<Prefetch<T>> {
    let (sender, items) = sync_channel(MAX_READY);
    let handle = std::thread::Builder::new().name("prefetch".to_owned()).spawn(move || send(count, make, &sender))?;
    Ok(Prefetch { num_left: count, thread: Some(Thread { items, handle }) })
}

fn send<T>(count: usize, mut make: impl FnMut(usize) -> Result<T, BoxError>, sender: &SyncSender<Result<T, BoxError>>) {
    for index in 0..count {
        let item = make(index);
        let is_last = item.is_err();
        // Sending fails when the iterator was dropped.
        if sender.send(item).is_err() || is_last {
            return;
        }
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.num_left = self.num_left.checked_sub(1)?;
        let received = self.thread.as_ref()?.items.recv();
        let item =
            received.unwrap_or_else(|_| Err("the prefetch thread died: it panicked while making an item".into()));
        if item.is_err() {
            self.num_left = 0;
        }
        Some(item)
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        if let Some(Thread { items, handle }) = self.thread.take() {
            // Without a receiver the thread ends at its next send.
            drop(items);
            // `next` has reported a panic, unless nobody asked for the item.
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
        let mut items = prefetch(100, count).unwrap();
        assert_eq!(items.next().unwrap().unwrap(), 0);
        while made.load(Ordering::SeqCst) < 1 + MAX_READY {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(made.load(Ordering::SeqCst) <= 1 + MAX_READY + 1, "{made:?} made for one taken");
        let rest: Vec<usize> = items.by_ref().map(Result::unwrap).collect();
        assert_eq!(rest, (1..100).collect::<Vec<_>>());
        assert!(items.next().is_none());
    }

    #[test]
    fn the_first_error_is_the_last_item() {
        let mut items = prefetch(5, |index| if index == 2 { Err("bad row".into()) } else { Ok(index) }).unwrap();
        assert_eq!(items.by_ref().take(2).map(Result::unwrap).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(items.next().unwrap().unwrap_err().to_string(), "bad row");
        assert!(items.next().is_none());
    }

    #[test]
    fn a_thread_that_dies_is_an_error() {
        let mut items = prefetch(3, |index: usize| if index == 1 { panic!("on purpose") } else { Ok(index) }).unwrap();
        assert!(items.next().unwrap().is_ok());
        assert!(items.next().unwrap().unwrap_err().to_string().contains("died"));
        assert!(items.next().is_none());
    }

    /// The thread has ended when it no longer holds what its closure owns.
    #[test]
    fn the_thread_ends_when_the_iterator_is_dropped() {
        for taken in [0, 1, 10] {
            let held = Arc::new(());
            let in_thread = held.clone();
            let make = move |index| {
                let _ = &in_thread;
                Ok(index)
            };
            let mut items = prefetch(10, make).unwrap();
            assert_eq!(items.by_ref().take(taken).count(), taken);
            drop(items);
            assert_eq!(Arc::strong_count(&held), 1, "after {taken}");
        }
    }
}
