//! Shell patterns over the names of files, as fsspec matches them.
//!
//! `*` and `?` stay within a folder, `**` as a whole part of a path spans folders, `[…]` is a set of characters.

/// Whether the path, its parts divided by `/`, matches the pattern from end to end.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let path: Vec<&str> = path.split('/').collect();
    matches_parts(&pattern, &path)
}

/// Whether there is anything in it besides plain characters.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn matches_parts(pattern: &[&str], path: &[&str]) -> bool {
    match pattern {
        [] => path.is_empty(),
        // At the end it stands for a file, not for nothing.
        ["**"] => !path.is_empty(),
        ["**", rest @ ..] => (0..=path.len()).any(|skipped| matches_parts(rest, &path[skipped..])),
        [first, rest @ ..] => {
            path.first()
                .is_some_and(|part| matches_part(&first.chars().collect::<Vec<_>>(), &part.chars().collect::<Vec<_>>()))
                && matches_parts(rest, &path[1..])
        }
    }
}

fn matches_part(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|skipped| matches_part(rest, &text[skipped..])),
        ['?', rest @ ..] => !text.is_empty() && matches_part(rest, &text[1..]),
        ['[', rest @ ..] => match set(rest) {
            Some((set, rest)) => text.first().is_some_and(|&c| set.contains(c)) && matches_part(rest, &text[1..]),
            None => text.first() == Some(&'[') && matches_part(rest, &text[1..]),
        },
        [c, rest @ ..] => text.first() == Some(c) && matches_part(rest, &text[1..]),
    }
}

struct CharacterSet<'a> {
    members: &'a [char],
    negated: bool,
}

impl CharacterSet<'_> {
    fn contains(&self, c: char) -> bool {
        let mut members = self.members;
        let mut found = false;
        while let [first, rest @ ..] = members {
            if let ['-', last, rest @ ..] = rest {
                found |= (*first..=*last).contains(&c);
                members = rest;
            } else {
                found |= *first == c;
                members = rest;
            }
        }
        found != self.negated
    }
}

/// The set that starts after a `[`, and what follows its `]`, which may itself be the set's first member.
fn set(pattern: &[char]) -> Option<(CharacterSet<'_>, &[char])> {
    let negated = matches!(pattern.first(), Some('!' | '^'));
    let members = if negated { &pattern[1..] } else { pattern };
    let length = 1 + members.iter().skip(1).position(|&c| c == ']')?;
    Some((CharacterSet { members: &members[..length], negated }, &members[length + 1..]))
}

#[cfg(test)]
mod tests;
