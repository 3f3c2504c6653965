//! Words to the user. A closed pipe must not end a training run, so what cannot be written is
//! dropped; `eprintln!` would panic.

use std::borrow::Cow;
use std::io::Write;

/// Longest line in bytes. What is said quotes files, and those may hold anything.
const LONGEST_LINE: usize = 8 << 10;

/// A line on stderr.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", harmless(line));
}

/// Text on stdout, as it is.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The line without what a terminal obeys (a title, colours, the cursor), and cut where it is out
/// of all proportion.
fn harmless(line: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    if line.len() <= LONGEST_LINE && !line.contains(obeyed) {
        return Cow::Borrowed(line);
    }
    let end = (0..=LONGEST_LINE.min(line.len())).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
    let mut text = String::with_capacity(end);
    for c in line[..end].chars() {
        if obeyed(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    if end < line.len() {
        text += " … (cut)";
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_hold_does_not_reach_the_terminal_as_commands() {
        assert_eq!(harmless("warning: naïve\n\tplain"), "warning: naïve\n\tplain");
        assert_eq!(harmless("\u{1b}]0;owned\u{7} \u{9b}2J\r"), "\\u{1b}]0;owned\\u{7} \\u{9b}2J\\r");
        let long = harmless(&"é".repeat(LONGEST_LINE)).into_owned();
        assert_eq!(long, "é".repeat(LONGEST_LINE / 2) + " … (cut)");
    }
}
