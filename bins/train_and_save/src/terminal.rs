//! Words to the user. A closed pipe must not end a training run, so what cannot be written is dropped; `eprintln!` would panic.

use std::io::Write;

/// A line on stderr.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Text on stdout, as it is.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
