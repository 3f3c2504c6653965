//! Classes of characters, and what Python's `str` does with letters of both cases.

/// `c.isspace()`. Python counts the four separators of ASCII too.
pub(in super::super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `text.strip(characters)`; whitespace without `characters`.
pub(in super::super) fn trim<'a>(text: &'a str, characters: Option<&str>) -> &'a str {
    trim_start(trim_end(text, characters), characters)
}

/// `text.lstrip(characters)`.
pub(in super::super) fn trim_start<'a>(text: &'a str, characters: Option<&str>) -> &'a str {
    match characters {
        Some(characters) => text.trim_start_matches(|c| characters.contains(c)),
        None => text.trim_start_matches(is_space),
    }
}

/// `text.rstrip(characters)`.
pub(in super::super) fn trim_end<'a>(text: &'a str, characters: Option<&str>) -> &'a str {
    match characters {
        Some(characters) => text.trim_end_matches(|c| characters.contains(c)),
        None => text.trim_end_matches(is_space),
    }
}

/// `text.capitalize()`.
pub(in super::super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    // Lower case depends on the letters before.
    let lower = text.to_lowercase();
    let first_lower: String = first.to_lowercase().collect();
    let rest = lower.strip_prefix(first_lower.as_str()).map_or_else(|| chars.as_str().to_lowercase(), str::to_owned);
    title_case(first) + &rest
}

/// `text.title()`: a word is a run of letters that have a case.
pub(super) fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut word = String::new();
    let finish = |word: &mut String, result: &mut String| {
        result.push_str(&capitalize(word));
        word.clear();
    };
    for c in text.chars() {
        if is_cased(c) {
            word.push(c);
        } else {
            finish(&mut word, &mut result);
            result.push(c);
        }
    }
    finish(&mut word, &mut result);
    result
}

/// A character in title case: upper case, except for letters that have a form of their own.
fn title_case(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        'ა'..='ჺ' | 'ჽ'..='ჿ' => c.to_string(),
        c => {
            // A letter that becomes several keeps only the first in upper case: "ß" is "Ss".
            let upper: Vec<char> = c.to_uppercase().collect();
            match upper.as_slice() {
                // An apostrophe before the letter.
                [first, ..] if !is_cased(*first) => upper.iter().collect(),
                [first, rest @ ..] => {
                    let rest = rest.iter().flat_map(|c| c.to_lowercase());
                    std::iter::once(*first).chain(rest).collect()
                }
                [] => String::new(),
            }
        }
    }
}

/// Whether the character has a case.
pub(super) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

/// `text.swapcase()`.
pub(super) fn swap_case(text: &str) -> String {
    let swap = |c: char| {
        if c.is_uppercase() { c.to_lowercase().collect::<String>() } else { c.to_uppercase().collect() }
    };
    text.chars().map(swap).collect()
}

/// Whether every run of letters with a case starts with an upper-case one, and there is one.
pub(super) fn is_title(text: &str) -> bool {
    let mut after_cased = false;
    let mut found = false;
    for c in text.chars() {
        if is_cased(c) {
            if c.is_lowercase() != after_cased {
                return false;
            }
            (after_cased, found) = (true, true);
        } else {
            after_cased = false;
        }
    }
    found
}

/// The lines of a text as `splitlines` splits them, with their ends.
pub(super) fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let mut end = at + c.len_utf8();
        match c {
            '\r' => {
                if let Some((at, _)) = chars.next_if(|&(_, next)| next == '\n') {
                    end = at + 1;
                }
            }
            '\n' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}' => {}
            _ => continue,
        }
        lines.push(&text[start..end]);
        start = end;
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}

/// A line of [`lines`] without its end.
pub(super) fn without_end(line: &str) -> &str {
    let is_end = |c| matches!(c, '\n' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    match line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\r')) {
        Some(line) => line,
        None => line.strip_suffix(is_end).unwrap_or(line),
    }
}

/// The lines of a text without their ends.
pub(in super::super) fn split_lines(text: &str) -> Vec<&str> {
    lines(text).into_iter().map(without_end).collect()
}
