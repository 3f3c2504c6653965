//! Methods of Python's `str`.

use super::super::arguments::{bind, given, integer, text};
use super::super::formats;
use super::super::text::is_printable;
use super::characters::{
    capitalize, is_cased, is_space, is_title, lines, swap_case, title, trim, trim_end, trim_start, without_end,
};
use super::failed;
use crate::untrusted::template::charge_bytes;
use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error as TemplateError, ErrorKind, State};
use regex::Regex;

/// Digits that belong to no decimal system, such as superscripts, as ranges of a regular
/// expression.
const OTHER_DIGITS: &str =
    "²³¹፩-፱᧚⁰⁴-⁹₀-₉①-⑨⑴-⑼⒈-⒐⓪⓵-⓽⓿❶-❾➀-➈➊-➒\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}🄀-🄊";
/// The Han characters that Python counts as numbers.
const HAN_NUMERALS: &str = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零𠀁𠁤𠃢𠄡𠤪𠦃𠦌𠦜𠫪𠫽𠬙𢎐𢦘𣬛𦉭";

pub(super) fn call(state: &State, s: &str, name: &str, args: &[Value]) -> Result<Value, TemplateError> {
    let changed = |change: fn(&str) -> String| bind(name, args, []).map(|[]| Value::from(change(s)));
    let all = |accepted: fn(char) -> bool| {
        bind(name, args, []).map(|[]| Value::from(!s.is_empty() && s.chars().all(accepted)))
    };
    let matches = |pattern: &str| {
        let [] = bind(name, args, [])?;
        let pattern = Regex::new(pattern).map_err(|error| failed(&error.to_string()))?;
        Ok(Value::from(pattern.is_match(s)))
    };
    match name {
        "upper" => changed(str::to_uppercase),
        "lower" => changed(str::to_lowercase),
        "title" => changed(title),
        "capitalize" => changed(capitalize),
        "swapcase" => changed(swap_case),
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = bind(name, args, [""])?;
            let characters = given(&characters).map(|characters| text(name, Some(characters))).transpose()?;
            let strip = if name == "strip" {
                trim
            } else if name == "lstrip" {
                trim_start
            } else {
                trim_end
            };
            Ok(Value::from(strip(s, characters)))
        }
        "split" | "rsplit" => split(s, name, args),
        "partition" | "rpartition" => {
            let [separator] = bind(name, args, [""])?;
            let separator = non_empty(name, text(name, separator.as_ref())?)?;
            let parts = if name == "partition" { s.split_once(separator) } else { s.rsplit_once(separator) };
            let parts = match parts {
                Some((before, after)) => [before, separator, after],
                None if name == "partition" => [s, "", ""],
                None => ["", "", s],
            };
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "splitlines" => {
            let [keep] = bind(name, args, ["keepends"])?;
            let keep = keep.is_some_and(|keep| keep.is_true());
            Ok(lines(s).into_iter().map(|line| Value::from(if keep { line } else { without_end(line) })).collect())
        }
        "startswith" | "endswith" => {
            let [affixes, start, end] = bind(name, args, ["", "", ""])?;
            let part = part(s, name, &start, &end)?;
            let affixes = affixes.ok_or(TemplateError::from(ErrorKind::MissingArgument))?;
            let affixes = if affixes.is_tuple() { affixes.try_iter()?.collect() } else { vec![affixes] };
            let mut found = false;
            for affix in &affixes {
                let affix = text(name, Some(affix))?;
                found |= part.is_some_and(|(_, part)| {
                    if name == "startswith" { part.starts_with(affix) } else { part.ends_with(affix) }
                });
            }
            Ok(Value::from(found))
        }
        "find" | "rfind" | "index" | "rindex" => {
            let [what, start, end] = bind(name, args, ["", "", ""])?;
            let what = text(name, what.as_ref())?;
            let found = part(s, name, &start, &end)?.and_then(|(offset, part)| {
                let at = if name.starts_with('r') { part.rfind(what) } else { part.find(what) };
                at.map(|at| s[..offset + at].chars().count())
            });
            match found {
                Some(at) => Ok(Value::from(at)),
                None if name.ends_with("find") => Ok(Value::from(-1)),
                None => Err(failed(&format!("{name}: the text is not found"))),
            }
        }
        "count" => {
            let [what, start, end] = bind(name, args, ["", "", ""])?;
            let what = text(name, what.as_ref())?;
            Ok(Value::from(part(s, name, &start, &end)?.map_or(0, |(_, part)| part.matches(what).count())))
        }
        "replace" => {
            // `count` has a name since Python 3.13 only.
            let [old, new, count] = bind(name, args, ["", "", ""])?;
            let (old, new) = (text(name, old.as_ref())?, text(name, new.as_ref())?);
            let count = count.map_or(Ok(-1), |count| integer(name, &count))?;
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let most = s.len() / old.len().max(1) + 1;
            charge_bytes(state, most.min(count).saturating_mul(new.len()))?;
            Ok(Value::from(s.replacen(old, new, count)))
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = bind(name, args, [""])?;
            let affix = text(name, affix.as_ref())?;
            let rest = if name == "removeprefix" { s.strip_prefix(affix) } else { s.strip_suffix(affix) };
            Ok(Value::from(rest.unwrap_or(s)))
        }
        "join" => {
            let [items] = bind(name, args, [""])?;
            let items = items.ok_or(TemplateError::from(ErrorKind::MissingArgument))?;
            if matches!(items.kind(), ValueKind::None | ValueKind::Number | ValueKind::Bool) {
                return Err(failed(&format!("join: {} is no list", items.kind())));
            }
            let mut joined = String::new();
            for (index, item) in items.try_iter()?.checked().enumerate() {
                let item = item?;
                let item = text("join", Some(&item))?;
                charge_bytes(state, s.len() + item.len())?;
                if index > 0 {
                    joined.push_str(s);
                }
                joined.push_str(item);
            }
            Ok(Value::from(joined))
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = bind(name, args, ["", ""])?;
            let width = integer(name, &width.ok_or(TemplateError::from(ErrorKind::MissingArgument))?)?;
            let fill = match &fill {
                Some(_) if name == "zfill" => return Err(TemplateError::from(ErrorKind::TooManyArguments)),
                Some(fill) => text(name, Some(fill))?,
                None if name == "zfill" => "0",
                None => " ",
            };
            pad(state, s, name, usize::try_from(width).unwrap_or(0), fill).map(Value::from)
        }
        "expandtabs" => {
            let [size] = bind(name, args, ["tabsize"])?;
            let size = size.map_or(Ok(8), |size| integer(name, &size))?;
            expand_tabs(state, s, usize::try_from(size).unwrap_or(0)).map(Value::from)
        }
        "format" => formats::str_format(state, s, args).map(Value::from),
        "isspace" => all(is_space),
        "isascii" => bind(name, args, []).map(|[]| Value::from(s.is_ascii())),
        "isprintable" => bind(name, args, []).map(|[]| Value::from(s.chars().all(is_printable))),
        "isdecimal" => matches(r"^\p{Nd}+$"),
        "isdigit" => matches(&format!(r"^[\p{{Nd}}{OTHER_DIGITS}]+$")),
        "isnumeric" => matches(&format!(r"^[\p{{N}}{HAN_NUMERALS}]+$")),
        "isalpha" => matches(r"^\p{L}+$"),
        "isalnum" => matches(&format!(r"^[\p{{L}}\p{{N}}{HAN_NUMERALS}]+$")),
        "isidentifier" => matches(r"^[\p{XID_Start}_]\p{XID_Continue}*$"),
        "islower" | "isupper" => {
            let [] = bind(name, args, [])?;
            let accepted = if name == "islower" { char::is_lowercase } else { char::is_uppercase };
            let mut cased = s.chars().filter(|&c| is_cased(c)).peekable();
            Ok(Value::from(cased.peek().is_some() && cased.all(accepted)))
        }
        "istitle" => bind(name, args, []).map(|[]| Value::from(is_title(s))),
        _ => Err(TemplateError::from(ErrorKind::UnknownMethod)),
    }
}

fn non_empty<'a>(name: &str, separator: &'a str) -> Result<&'a str, TemplateError> {
    if separator.is_empty() { Err(failed(&format!("{name}: an empty separator"))) } else { Ok(separator) }
}

fn split(s: &str, name: &str, args: &[Value]) -> Result<Value, TemplateError> {
    let [separator, most] = bind(name, args, ["sep", "maxsplit"])?;
    let most = most.map_or(Ok(-1), |most| integer(name, &most))?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let from_left = name == "split";
    let mut parts: Vec<&str> = match given(&separator) {
        Some(separator) => {
            let separator = non_empty(name, text(name, Some(separator))?)?;
            let limit = most.saturating_add(1);
            if from_left { s.splitn(limit, separator).collect() } else { s.rsplitn(limit, separator).collect() }
        }
        None => split_at_whitespace(s, most, from_left),
    };
    if !from_left {
        parts.reverse();
    }
    Ok(Value::from_iter(parts.into_iter().map(Value::from)))
}

/// The words of a text, from the right unless `from_left`. After `most` splits, the rest is one.
fn split_at_whitespace(s: &str, most: usize, from_left: bool) -> Vec<&str> {
    let strip = if from_left { trim_start } else { trim_end };
    let mut parts = Vec::new();
    let mut rest = strip(s, None);
    while !rest.is_empty() {
        let at = if parts.len() == most {
            None
        } else if from_left {
            rest.find(is_space)
        } else {
            rest.rfind(is_space)
        };
        let Some(at) = at else {
            parts.push(rest);
            break;
        };
        let (part, remaining) = if from_left {
            (&rest[..at], &rest[at..])
        } else {
            let width = rest[at..].chars().next().map_or(1, char::len_utf8);
            (&rest[at + width..], &rest[..at])
        };
        parts.push(part);
        rest = strip(remaining, None);
    }
    parts
}

/// The part of a text between two indices, as Python slices it, and where its bytes start. `None`
/// if the start is behind the end.
fn part<'a>(
    s: &'a str,
    name: &str,
    start: &Option<Value>,
    end: &Option<Value>,
) -> Result<Option<(usize, &'a str)>, TemplateError> {
    if given(start).is_none() && given(end).is_none() {
        return Ok(Some((0, s)));
    }
    let length = s.chars().count();
    let index = |value: &Option<Value>, default: usize| -> Result<usize, TemplateError> {
        let Some(value) = given(value) else { return Ok(default) };
        let index = integer(name, value)?;
        let distance = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
        Ok(if index < 0 { length.saturating_sub(distance) } else { distance })
    };
    let (start, end) = (index(start, 0)?, index(end, length)?.min(length));
    let offset = |index: usize| s.char_indices().nth(index).map_or(s.len(), |(at, _)| at);
    Ok((start <= end).then(|| (offset(start), &s[offset(start)..offset(end)])))
}

fn pad(state: &State, s: &str, name: &str, width: usize, fill: &str) -> Result<String, TemplateError> {
    let mut chars = fill.chars();
    let (Some(fill), None) = (chars.next(), chars.next()) else {
        return Err(failed(&format!("{name}: the fill character must be one character")));
    };
    let length = s.chars().count();
    let missing = width.saturating_sub(length);
    charge_bytes(state, missing.saturating_mul(fill.len_utf8()))?;
    let filled = |count: usize| String::from_iter(std::iter::repeat_n(fill, count));
    Ok(match name {
        "ljust" => s.to_owned() + &filled(missing),
        "rjust" => filled(missing) + s,
        "zfill" => {
            let digits = s.strip_prefix(['+', '-']).unwrap_or(s);
            s[..s.len() - digits.len()].to_owned() + &filled(missing) + digits
        }
        _ => {
            // With an odd number of them, Python's left side depends on the width.
            let left = missing / 2 + (missing & width & 1);
            filled(left) + s + &filled(missing - left)
        }
    })
}

fn expand_tabs(state: &State, s: &str, size: usize) -> Result<String, TemplateError> {
    charge_bytes(state, s.matches('\t').count().saturating_mul(size))?;
    let mut expanded = String::with_capacity(s.len());
    let mut column = 0;
    for c in s.chars() {
        match c {
            '\t' if size > 0 => {
                let width = size - column % size;
                expanded.extend(std::iter::repeat_n(' ', width));
                column += width;
            }
            '\t' => {}
            c => {
                expanded.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(expanded)
}
