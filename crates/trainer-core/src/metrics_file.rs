//! `metrics.jsonl`: one JSON object per log and per evaluation, written as it happens.

use crate::{Callback, CallbackContext, EventResult, LogEntry, Requests, atomic_file};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes each log entry as one line of JSON, at once.
///
/// A run that starts from the beginning starts with an empty file. A resumed run first rewrites the
/// file from the log history of its checkpoint, so the file has no entries from after the
/// checkpoint and no half-written line. A resumed run that was already complete only takes away
/// half a last line, because the file holds a summary that no checkpoint has.
///
/// A full disk does not end a run. A line that is half written is taken back, so the file can be
/// read at any time. After a line that could not be written, the next entry rewrites the whole file
/// from the log history. If lines are still missing at the end of the run, that is an error.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: Option<File>,
    /// Why the last line is not in the file.
    failure: Option<String>,
}

impl MetricsFile {
    /// The usual name of the file in the output folder.
    pub const FILE_NAME: &'static str = "metrics.jsonl";

    /// A callback that writes to `path`. It does not touch the file before training begins.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, failure: None }
    }

    /// The file. The first call makes it, with `entries` as its content.
    fn open_once(&mut self, entries: &[LogEntry]) -> Result<&mut File, String> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open(entries).map_err(|error| self.describe(&error))?,
        };
        Ok(self.file.insert(file))
    }

    fn describe(&self, error: &std::io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }

    fn open(&self, entries: &[LogEntry]) -> std::io::Result<File> {
        let mut text = Vec::new();
        for entry in entries {
            write_line(&mut text, entry)?;
        }
        atomic_file::replace(&self.path, &text)?;
        OpenOptions::new().append(true).open(&self.path)
    }
}

/// Writes a line with a single write, so that a reader never sees half of a line.
fn write_line(to: &mut impl Write, entry: &LogEntry) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// A file that is open for appending.
trait Appendable: Write {
    /// Its length in bytes.
    fn length(&self) -> std::io::Result<u64>;

    /// Cuts it to `length` bytes.
    fn cut(&self, length: u64) -> std::io::Result<()>;
}

impl Appendable for File {
    fn length(&self) -> std::io::Result<u64> {
        self.metadata().map(|found| found.len())
    }

    fn cut(&self, length: u64) -> std::io::Result<()> {
        self.set_len(length)
    }
}

/// Appends a line as a whole. The part that a full disk took is taken back.
fn append_line(file: &mut impl Appendable, entry: &LogEntry) -> std::io::Result<()> {
    let before = file.length()?;
    let written = write_line(file, entry);
    if written.is_err() {
        // The write's error is the one to report. A resumed run takes half a line back too.
        let _ = file.cut(before);
    }
    written
}

/// Cuts off what comes after the last line feed of a file, if it exists. A killed process may have
/// written half a line.
fn cut_half_a_line(path: &Path) -> std::io::Result<()> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole == text.len() { Ok(()) } else { OpenOptions::new().write(true).open(path)?.set_len(whole as u64) }
}

impl Callback for MetricsFile {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        if context.resumed_from.is_none() {
            self.open_once(&context.state.log_history)?;
        }
        Ok(())
    }

    fn on_step_begin(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        if self.failure.is_none() {
            self.open_once(&context.state.log_history)?;
        }
        Ok(())
    }

    fn on_log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry, _requests: &mut Requests) -> EventResult {
        // The history already ends with the entry.
        let earlier = context.state.log_history.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let path = self.path.display().to_string();
        let written = self
            .open_once(earlier)
            .and_then(|file| append_line(file, entry).map_err(|error| format!("{path}: {error}")));
        if written.is_err() {
            self.file = None;
        }
        self.failure = written.err();
        Ok(())
    }

    fn on_train_end(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        if self.failure.take().is_some() {
            self.open_once(&context.state.log_history)?;
        } else if self.file.is_none() && context.resumed_from.is_some() {
            cut_half_a_line(&self.path).map_err(|error| self.describe(&error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TrainerState, TrainingArguments};

    fn entry(step: u64) -> LogEntry {
        LogEntry::from_iter([("loss".to_owned(), 0.5.into()), ("step".to_owned(), step.into())])
    }

    fn begin(file: &mut MetricsFile, resumed_from: Option<&Path>) -> EventResult {
        let (state, arguments) = (TrainerState::default(), TrainingArguments::default());
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from };
        file.on_train_begin(&context, &mut Requests::default())
    }

    /// Logs step `step` of a run that has logged every step before.
    fn log(file: &mut MetricsFile, step: u64) {
        let state = TrainerState { log_history: (1..=step).map(entry).collect(), ..Default::default() };
        let context = CallbackContext { arguments: &TrainingArguments::default(), state: &state, resumed_from: None };
        file.on_log(&context, &entry(step), &mut Requests::default()).unwrap();
    }

    #[test]
    fn a_resumed_run_drops_lines_from_after_the_checkpoint_at_its_first_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MetricsFile::FILE_NAME);
        std::fs::write(&path, "from another run\n").unwrap();
        let read = || std::fs::read_to_string(&path).unwrap();

        let mut file = MetricsFile::new(&path);
        begin(&mut file, None).unwrap();
        assert_eq!(read(), "");
        (1..=4).for_each(|step| log(&mut file, step));
        assert_eq!(read().lines().count(), 4);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"loss\":0.").unwrap();
        let before = read();

        let resumed_from = Some(Path::new("checkpoint-2"));
        let mut file = MetricsFile::new(&path);
        begin(&mut file, resumed_from).unwrap();
        assert_eq!(read(), before, "the run has not done anything yet");
        log(&mut file, 3);
        assert_eq!(read(), "{\"loss\":0.5,\"step\":1}\n{\"loss\":0.5,\"step\":2}\n{\"loss\":0.5,\"step\":3}\n");

        let mut file = MetricsFile::new(&path);
        let state = TrainerState { log_history: vec![entry(1)], ..Default::default() };
        let context = CallbackContext { arguments: &TrainingArguments::default(), state: &state, resumed_from };
        file.on_step_begin(&context, &mut Requests::default()).unwrap();
        assert_eq!(read(), "{\"loss\":0.5,\"step\":1}\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the file is left");
    }

    #[test]
    fn a_line_that_could_not_be_written_is_written_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (path, staged) = (dir.path().join("metrics.jsonl"), dir.path().join("metrics.jsonl.partial"));
        let mut file = MetricsFile::new(&path);
        begin(&mut file, None).unwrap();
        log(&mut file, 1);
        // A device that is always full replaces the file.
        file.file = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
        std::fs::create_dir(&staged).unwrap();
        log(&mut file, 2);
        log(&mut file, 3);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        std::fs::remove_dir(&staged).unwrap();
        log(&mut file, 4);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);

        file.file = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
        log(&mut file, 5);
        let state = TrainerState { log_history: (1..=5).map(entry).collect(), ..Default::default() };
        let context = CallbackContext { arguments: &TrainingArguments::default(), state: &state, resumed_from: None };
        file.on_train_end(&context, &mut Requests::default()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 5);
        std::fs::create_dir(&staged).unwrap();
        file.file = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
        log(&mut file, 6);
        file.on_train_end(&context, &mut Requests::default()).unwrap_err();
    }

    /// A file on a disk that has room for some bytes more.
    struct AlmostFull {
        file: File,
        room: usize,
    }

    impl Write for AlmostFull {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let part = &bytes[..bytes.len().min(self.room)];
            if part.is_empty() {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.room -= part.len();
            self.file.write(part)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Appendable for AlmostFull {
        fn length(&self) -> std::io::Result<u64> {
            self.file.length()
        }

        fn cut(&self, length: u64) -> std::io::Result<()> {
            self.file.cut(length)
        }
    }

    #[test]
    fn a_line_that_does_not_fit_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MetricsFile::FILE_NAME);
        let line = "{\"loss\":0.5,\"step\":1}\n";
        for room in 0..line.len() {
            std::fs::write(&path, line).unwrap();
            let file = OpenOptions::new().append(true).open(&path).unwrap();
            append_line(&mut AlmostFull { file, room }, &entry(1)).unwrap_err();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), line, "{room} bytes of room");
        }
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        append_line(&mut AlmostFull { file, room: line.len() }, &entry(1)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line.repeat(2));
    }

    #[test]
    fn a_complete_run_that_is_resumed_takes_half_a_line_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MetricsFile::FILE_NAME);
        let arguments = TrainingArguments::default();
        let state = TrainerState { log_history: vec![entry(1)], ..Default::default() };
        let resumed_from = Some(Path::new("checkpoint-1"));
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from };
        for (before, after) in
            [("{}\n{\"train_runtime\":1}\n{\"lo", "{}\n{\"train_runtime\":1}\n"), ("{}\n", "{}\n"), ("{\"a", "")]
        {
            std::fs::write(&path, before).unwrap();
            let mut file = MetricsFile::new(&path);
            file.on_train_begin(&context, &mut Requests::default()).unwrap();
            file.on_train_end(&context, &mut Requests::default()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
        std::fs::remove_file(&path).unwrap();
        MetricsFile::new(&path).on_train_end(&context, &mut Requests::default()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none").join(MetricsFile::FILE_NAME);
        let message = begin(&mut MetricsFile::new(&path), None).unwrap_err().to_string();
        assert!(message.contains("none/metrics.jsonl"), "{message}");
    }
}
