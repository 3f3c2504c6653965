//! `strftime_now`, the date in a chat template.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local};
use minijinja::{Error as TemplateError, ErrorKind};
use std::fmt::Write as _;

/// The codes that mean the same in Python and in `chrono`.
const SAME_CODES: &str = "aAbBcdDeFgGhHIjklmMnpPrRSTtuUVwWxXyYC%";

/// `datetime.now().strftime(format)` in the C locale.
pub(super) fn strftime_now(format: &str) -> Result<String, TemplateError> {
    strftime(&Local::now(), format)
}

pub(super) fn strftime(time: &DateTime<Local>, format: &str) -> Result<String, TemplateError> {
    let unknown = |code: &str| {
        let problem = format!("strftime_now: unknown date format {code:?}");
        TemplateError::new(ErrorKind::InvalidOperation, problem)
    };
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let code = &rest[at + 1..];
        let flags = code.find(|c| !matches!(c, '-' | '_' | '0')).unwrap_or(code.len());
        let letter = code[flags..].chars().next().ok_or_else(|| unknown(&rest[at..]))?;
        let length = 1 + flags + letter.len_utf8();
        let code = &rest[at..at + length];
        match letter {
            // A time without a zone has none to print.
            'z' | 'Z' if flags == 0 => {}
            'f' if flags == 0 => {
                // Writing to a text cannot fail.
                let _ = write!(text, "{:06}", time.timestamp_subsec_micros());
            }
            letter if flags <= 1 && SAME_CODES.contains(letter) => {
                let items: Vec<Item<'_>> = StrftimeItems::new(code).collect();
                write!(text, "{}", time.format_with_items(items.iter())).map_err(|_| unknown(code))?;
            }
            _ => return Err(unknown(code)),
        }
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn codes_mean_what_they_mean_in_python() {
        let time = Local.with_ymd_and_hms(2026, 3, 5, 4, 7, 9).unwrap() + chrono::TimeDelta::microseconds(42);
        for (format, expected) in [
            ("%d %b %Y", "05 Mar 2026"),
            ("%-d %B, %A %H:%M:%S.%f", "5 March, Thursday 04:07:09.000042"),
            ("%z|%Z|%%|%j", "||%|064"),
            ("%e %y %I %p", " 5 26 04 AM"),
            ("今 %x %X %c", "今 03/05/26 04:07:09 Thu Mar  5 04:07:09 2026"),
        ] {
            assert_eq!(strftime(&time, format).unwrap(), expected);
        }
        for format in ["%", "%-", "%!", "%3f", "%.f", "%+", "%:z", "%Q"] {
            assert!(strftime(&time, format).is_err(), "{format}");
        }
    }
}
