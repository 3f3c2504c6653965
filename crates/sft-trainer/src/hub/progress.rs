//! How far the transfer of one file is: a bar on a terminal, a line now and then elsewhere.

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest silence about a running transfer without a terminal.
const TELL_EVERY: Duration = Duration::from_secs(30);
const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";

/// Tells how far the transfer of one file is.
pub(super) struct FileProgress {
    /// `repository: file`, as it is shown.
    label: String,
    bytes_total: Option<u64>,
    /// `None` without a terminal.
    bar: Option<ProgressBar>,
    told: Mutex<Told>,
}

/// The last line that was told, and where the transfer was at the start.
struct Told {
    at: Instant,
    start: Instant,
    start_bytes: u64,
}

impl FileProgress {
    /// Shows a file whose transfer starts after `bytes_done` bytes of an earlier attempt.
    pub(super) fn start(
        bars: Option<&MultiProgress>,
        label: String,
        bytes_done: u64,
        bytes_total: Option<u64>,
    ) -> Self {
        let bar = bars.filter(|bars| !bars.is_hidden()).map(|bars| {
            let bar = bars.add(ProgressBar::new(bytes_total.unwrap_or(bytes_done)));
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.set_message(label.clone());
            bar.set_position(bytes_done);
            // The speed is that of this transfer.
            bar.reset_eta();
            bar
        });
        if bar.is_none() {
            let size = bytes_total.map_or_else(|| "of unknown size".to_owned(), |size| HumanBytes(size).to_string());
            match bytes_done {
                0 => tracing::info!(bytes_total, "fetching {label} ({size})"),
                done => {
                    tracing::info!(bytes_total, "fetching {label} ({size}), of which {} are there", HumanBytes(done))
                }
            }
        }
        let now = Instant::now();
        let told = Mutex::new(Told { at: now, start: now, start_bytes: bytes_done });
        Self { label, bytes_total, bar, told }
    }

    /// Shows that `bytes_done` bytes of the file are there.
    pub(super) fn set(&self, bytes_done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes_done);
            return;
        }
        let Ok(mut told) = self.told.lock() else { return };
        if told.at.elapsed() < TELL_EVERY {
            return;
        }
        told.at = Instant::now();
        let speed = bytes_done.saturating_sub(told.start_bytes) as f64 / told.start.elapsed().as_secs_f64();
        match self.bytes_total.filter(|_| speed > 0.0) {
            Some(total) => {
                let seconds_left = total.saturating_sub(bytes_done) as f64 / speed;
                // A stalled line can make this longer than a duration holds.
                let left = HumanDuration(Duration::try_from_secs_f64(seconds_left).unwrap_or(Duration::MAX));
                tracing::info!(
                    bytes_done,
                    bytes_total = total,
                    "{}: {} of {}, {left} left",
                    self.label,
                    HumanBytes(bytes_done),
                    HumanBytes(total)
                );
            }
            None => tracing::info!(bytes_done, "{}: {}", self.label, HumanBytes(bytes_done)),
        }
    }
}

impl Drop for FileProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl ProgressHandler for FileProgress {
    fn on_progress(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                files.iter().for_each(|file| self.set(file.bytes_completed));
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress { bytes_completed, .. }) => {
                self.set(*bytes_completed);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::log_of;
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    #[test]
    fn a_bar_shows_size_and_time_left() {
        let terminal = InMemoryTerm::new(5, 100);
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        let log = log_of(|| {
            let progress = FileProgress::start(Some(&bars), "a/b: c.bin".to_owned(), 0, Some(4 << 20));
            progress.set(1 << 20);
            progress.bar.as_ref().unwrap().tick();
            let shown = terminal.contents();
            assert!(shown.starts_with("a/b: c.bin") && shown.contains("1.00 MiB/4.00 MiB"), "{shown}");
            assert!(shown.ends_with(" left"), "{shown}");
            drop(progress);
            assert_eq!(terminal.contents(), "");
        });
        assert_eq!(log, "", "a bar is enough");
    }

    #[test]
    fn without_a_terminal_a_line_comes_every_thirty_seconds() {
        let hidden = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let log = log_of(|| {
            let progress = FileProgress::start(Some(&hidden), "a/b: c.bin".to_owned(), 0, Some(4 << 20));
            progress.set(1);
            let mut told = progress.told.lock().unwrap();
            told.at -= TELL_EVERY;
            told.start -= TELL_EVERY;
            drop(told);
            progress.set(1 << 20);
            progress.set(2 << 20);
        });
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(lines[0].contains("fetching a/b: c.bin (4.00 MiB)"), "{log}");
        assert!(lines[1].contains("a/b: c.bin: 1.00 MiB of 4.00 MiB, 2 minutes left"), "{log}");
    }
}
