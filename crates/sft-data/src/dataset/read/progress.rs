//! Tells how much of a file has been read.

use std::io::{self, Read};

/// Number of bytes between two events.
const BYTES_BETWEEN: u64 = 4 << 20;
/// Number of rows between two events.
const ROWS_BETWEEN: u64 = 1000;

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To find out what its columns hold.
    Sample,
    /// To train on its rows.
    Rows,
}

/// How much of a file has been read, told with an event now and then and at the end.
pub(super) struct Progress {
    unit: &'static str,
    between: u64,
    total: u64,
    done: u64,
    told: u64,
    is_silent: bool,
}

impl Progress {
    pub(super) fn of_bytes(total: u64, purpose: Purpose) -> Self {
        let is_silent = purpose == Purpose::Sample;
        Self { unit: "bytes", between: BYTES_BETWEEN, total, done: 0, told: 0, is_silent }
    }

    pub(super) fn of_rows(total: u64, purpose: Purpose) -> Self {
        Self { unit: "rows", between: ROWS_BETWEEN, ..Self::of_bytes(total, purpose) }
    }

    pub(super) fn advance(&mut self, by: u64) {
        self.done += by;
        if self.is_silent || by == 0 || (self.done < self.told + self.between && self.done != self.total) {
            return;
        }
        self.told = self.done;
        tracing::info!(target: "progress", stage = "reading", done = self.done, total = self.total, unit = self.unit);
    }
}

/// A reader that tells its progress.
pub(super) struct Tracked<R> {
    pub(super) inner: R,
    pub(super) progress: Progress,
}

impl<R: Read> Read for Tracked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.progress.advance(length as u64);
        Ok(length)
    }
}
