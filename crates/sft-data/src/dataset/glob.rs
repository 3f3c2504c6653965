//! Shell patterns over the names of files, as fsspec matches them.
//!
//! `*` and `?` stay within a folder, `**` as a whole part of a path spans folders, `[…]` is a set
//! of characters.

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

/// Where an earlier `*` may still take more, there is no need to go back to one before it: what it
/// could take, the later one can too. So this takes no more than the product of the lengths,
/// whoever wrote the pattern.
fn matches_parts(pattern: &[&str], path: &[&str]) -> bool {
    // At the end `**` stands for a file, not for nothing.
    let (pattern, path, ends_open) = match (pattern, path) {
        ([before @ .., "**"], [parts @ .., _]) => (before, parts, true),
        ([.., "**"], []) => return false,
        _ => (pattern, path, false),
    };
    let (mut at, mut in_path, mut star) = (0, 0, None);
    while in_path < path.len() {
        match pattern.get(at) {
            Some(&"**") => {
                star = Some((at, in_path));
                at += 1;
            }
            Some(part) if matches_part(part, path[in_path]) => (at, in_path) = (at + 1, in_path + 1),
            None if ends_open => return true,
            _ => match &mut star {
                Some((before, taken)) => {
                    *taken += 1;
                    (at, in_path) = (*before + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|part| *part == "**")
}

/// One part of a pattern, `*` and `?` and sets resolved.
enum Piece<'a> {
    AnyText,
    AnyCharacter,
    OneOf(CharacterSet<'a>),
    Character(char),
}

fn pieces(mut pattern: &[char]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let [first, rest @ ..] = pattern {
        pattern = rest;
        pieces.push(match first {
            '*' => Piece::AnyText,
            '?' => Piece::AnyCharacter,
            '[' => match set(rest) {
                Some((set, rest)) => {
                    pattern = rest;
                    Piece::OneOf(set)
                }
                None => Piece::Character('['),
            },
            other => Piece::Character(*other),
        });
    }
    pieces
}

fn matches_part(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let (pieces, text) = (pieces(&pattern), text.chars().collect::<Vec<_>>());
    let (mut at, mut in_text, mut star) = (0, 0, None);
    while in_text < text.len() {
        let fits = match pieces.get(at) {
            Some(Piece::AnyText) => {
                star = Some((at, in_text));
                at += 1;
                continue;
            }
            Some(Piece::AnyCharacter) => true,
            Some(Piece::OneOf(set)) => set.contains(text[in_text]),
            Some(Piece::Character(c)) => *c == text[in_text],
            None => false,
        };
        if fits {
            (at, in_text) = (at + 1, in_text + 1);
        } else if let Some((before, taken)) = &mut star {
            *taken += 1;
            (at, in_text) = (*before + 1, *taken);
        } else {
            return false;
        }
    }
    pieces[at..].iter().all(|piece| matches!(piece, Piece::AnyText))
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

/// The set that starts after a `[`, and what follows its `]`, which may itself be the set's first
/// member.
fn set(pattern: &[char]) -> Option<(CharacterSet<'_>, &[char])> {
    let negated = matches!(pattern.first(), Some('!' | '^'));
    let members = if negated { &pattern[1..] } else { pattern };
    let length = 1 + members.iter().skip(1).position(|&c| c == ']')?;
    Some((CharacterSet { members: &members[..length], negated }, &members[length + 1..]))
}

#[cfg(test)]
mod tests;
