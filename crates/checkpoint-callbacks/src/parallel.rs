//! Work on many files in a few threads.

use crate::Result;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this do not make disks faster.
const MAX_THREADS: usize = 4;

/// Maps `items` in a few threads. The results keep the order of the items.
///
/// # Errors
/// An error of `work`. After one, no other result is returned.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let num_threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let next = AtomicUsize::new(0);
    let take_items = || -> Result<Vec<(usize, R)>> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return Ok(done) };
            done.push((index, work(item)?));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..num_threads).map(|_| scope.spawn(take_items)).collect();
        let mut results = take_items()?;
        for thread in threads {
            match thread.join() {
                Ok(done) => results.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(results)
    })?;
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use std::path::PathBuf;

    #[test]
    fn parallel_work_keeps_the_order_and_the_error() {
        let items: Vec<u64> = (0..100).collect();
        assert_eq!(in_parallel(&items, |item| Ok(item * 2)).unwrap(), (0..200).step_by(2).collect::<Vec<u64>>());
        let fails = |item: &u64| {
            let path = PathBuf::from(item.to_string());
            if *item == 57 { Err(Error::OutputDirIsAFile { path }) } else { Ok(()) }
        };
        assert!(in_parallel(&items, fails).unwrap_err().to_string().contains("57"));
    }
}
