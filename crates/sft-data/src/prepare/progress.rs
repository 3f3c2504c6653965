//! Tells how many rows are tokenized.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// An event is sent after this many rows.
const ROWS_PER_EVENT: u64 = 1000;

/// Counts rows of all threads. What it tells never goes back.
#[derive(Debug)]
pub(super) struct Progress {
    total: u64,
    done: AtomicU64,
    told: Mutex<u64>,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        Self { total: total as u64, done: AtomicU64::new(0), told: Mutex::new(0) }
    }

    pub(super) fn add_row(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(ROWS_PER_EVENT) && done < self.total {
            self.tell(done);
        }
    }

    pub(super) fn finish(&self) {
        self.tell(self.total);
    }

    fn tell(&self, done: u64) {
        let Ok(mut told) = self.told.lock() else { return };
        if done > *told {
            *told = done;
            tracing::info!(target: "progress", stage = "tokenizing", done, total = self.total, unit = "rows");
        }
    }
}
