//! Texts of the page: in both languages, and without what a browser would take for markup.

use serde_json::Value;

/// A text in English and Chinese. The page shows the one that the browser prefers.
#[derive(Clone, Copy, Debug)]
pub struct Words(
    /// English.
    pub &'static str,
    /// Chinese.
    pub &'static str,
);

impl Words {
    /// As the content of an HTML element.
    pub fn html(self) -> String {
        format!("<span class=\"en\">{}</span><span class=\"zh\" lang=\"zh\">{}</span>", self.0, self.1)
    }
}

/// The text without what has a meaning in HTML.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// Four significant digits; thousands are set apart.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        return "NaN".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e15).contains(&magnitude) {
        let text = format!("{value:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let before = magnitude.log10().floor() as i32 + 1;
    if before >= 4 {
        return grouped(value.round());
    }
    let digits = usize::try_from(4 - before).unwrap_or(0).min(6);
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A setting or a figure. A text is as it is, other values are JSON.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => escaped(text),
        Value::Number(figure) if figure.is_f64() => number(figure.as_f64().unwrap_or(f64::NAN)),
        other => escaped(&other.to_string()),
    }
}
