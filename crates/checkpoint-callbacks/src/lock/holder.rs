//! Who holds a lock, as the lock file tells it.

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// A lock file is smaller than this. What is larger was not written here.
const LARGEST: u64 = 1 << 10;
/// The longest name that a host has on Linux is 64 bytes, and that of DNS 253.
const LONGEST_HOST: usize = 253;
/// The first second of the year 10000.
const TOO_LATE: u64 = 253_402_300_800;

/// The run that holds the lock of an output folder, as it wrote itself into the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockHolder {
    /// Its process id, on its host.
    pub process_id: u32,
    /// The name of its host.
    pub host: String,
    /// When it took the lock, in seconds since 1970.
    pub since: u64,
}

impl LockHolder {
    /// This process.
    pub(super) fn this_process() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { process_id: std::process::id(), host: host_name(), since }
    }

    /// Writes itself as the content of a lock file. The lock does not depend on it: on a full disk
    /// the file stays empty.
    pub(super) fn write_to(&self, file: &mut File) {
        let written = file.set_len(0).is_ok()
            && serde_json::to_vec(self).is_ok_and(|text| file.write_all(&text).is_ok())
            && file.flush().is_ok();
        if !written {
            let _ = file.set_len(0);
        }
    }

    /// Reads a lock file. `None` for one that no run can have written: an empty one, one of an
    /// earlier version, or one in which somebody wrote something else.
    pub(super) fn read_from(file: &File) -> Option<Self> {
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text).ok()?;
        if text.len() as u64 == LARGEST {
            return None;
        }
        let holder: Self = serde_json::from_slice(&text).ok()?;
        // It goes into a message, so it must be what it claims to be.
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_plausible = holder.process_id > 0
            && holder.since < TOO_LATE
            && !holder.host.is_empty()
            && holder.host.len() <= LONGEST_HOST
            && holder.host.bytes().all(is_host);
        is_plausible.then_some(holder)
    }
}

impl fmt::Display for LockHolder {
    /// `process 4711 on node-3, since 2026-11-25 08:12:13 UTC`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process_id, host, since } = self;
        write!(formatter, "process {process_id} on {host}, since {}", utc(*since))
    }
}

/// The name of this host, without characters that no host name has.
fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect();
    if name.is_empty() { "unknown-host".to_owned() } else { name.chars().take(LONGEST_HOST).collect() }
}

/// Seconds since 1970 as a date and a time of day, in UTC.
fn utc(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.map_or_else(String::new, |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_764_058_333, "2025-11-25 08:12:13 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (TOO_LATE - 1, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }

    #[test]
    fn only_what_a_run_can_have_written_is_told() {
        let read = |text: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            LockHolder::read_from(&file)
        };
        let text = |host: &str, since: u64| format!(r#"{{"process_id":7,"host":"{host}","since":{since}}}"#);
        let told = read(&text("node-3.example", 0)).unwrap().to_string();
        assert_eq!(told, "process 7 on node-3.example, since 1970-01-01 00:00:00 UTC");
        let long = "h".repeat(LONGEST_HOST + 1);
        for odd in [
            String::new(),
            "4711".to_owned(),
            "{}".to_owned(),
            "a note of somebody".to_owned(),
            text("", 0),
            text("two words", 0),
            text("\\u001b[31m", 0),
            text("node\\n", 0),
            text(&long, 0),
            text("node", TOO_LATE),
            text("node", 0).replace(":7", ":-7"),
            text("node", 0).replace(":7", ":0"),
            text("node", 0) + &" ".repeat(2 << 10) + "x",
        ] {
            assert_eq!(read(&odd), None, "{odd}");
        }
        assert_eq!(read(&text("node", 0).replace('{', r#"{"more":1,"#)), None);
    }

    #[test]
    fn this_process_can_be_read_back() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"what an earlier run left, which is longer than what this one writes").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let holder = LockHolder::this_process();
        holder.write_to(&mut file);
        file.seek(SeekFrom::Start(0)).unwrap();
        assert_eq!(LockHolder::read_from(&file), Some(holder));
    }
}
