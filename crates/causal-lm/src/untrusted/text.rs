//! Names and values from files, as they may stand in a message.

use std::fmt::{Display, Formatter, Result, Write};

/// A text in which control characters, and those that change the direction of writing, are escaped.
/// Printed as they are, they could rewrite the line that they stand in.
pub(crate) struct Visible<'a>(pub(crate) &'a str);

impl Display for Visible<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        for character in self.0.chars() {
            match is_invisible(character) {
                true => write!(formatter, "{}", character.escape_unicode())?,
                false => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_rewrite_a_line_is_escaped() {
        assert_eq!(Visible("model.größe 名").to_string(), "model.größe 名");
        let text = "a\n\u{1b}[2K\u{202e}b\u{7f}";
        assert_eq!(Visible(text).to_string(), "a\\u{a}\\u{1b}[2K\\u{202e}b\\u{7f}");
    }
}
