//! Text of files on its way to a terminal.

use std::borrow::Cow;

/// Longest line in bytes. Messages quote files, and those may hold anything.
const LONGEST_LINE: usize = 8 << 10;

/// Whether a terminal would obey the character (a title, colours, the cursor), or show the text
/// around it in another order than it has, or show nothing.
fn is_obeyed(c: char) -> bool {
    let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let separates = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    reorders || separates || c.is_control() && c != '\n' && c != '\t'
}

/// The line without what a terminal obeys, and cut where it is out of all proportion.
pub fn harmless(line: &str) -> Cow<'_, str> {
    let obeyed = is_obeyed;
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
        assert_eq!(harmless("a\u{202e}txt.exe\u{2066}\u{2028}b"), "a\\u{202e}txt.exe\\u{2066}\\u{2028}b");
        let long = harmless(&"é".repeat(LONGEST_LINE)).into_owned();
        assert_eq!(long, "é".repeat(LONGEST_LINE / 2) + " … (cut)");
    }
}
