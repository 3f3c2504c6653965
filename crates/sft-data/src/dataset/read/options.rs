//! Options for reading files, as a dataset card declares them.
//!
//! The names and defaults are those of the readers of the `datasets` library, which passes most of
//! those for CSV on to pandas. An option that would change the rows and is not supported is
//! refused.

use super::super::format::Format;
use serde_json::{Map, Value};

/// How to read the files of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) encoding: Encoding,
    pub(super) csv: CsvOptions,
    /// The field of a JSON object that holds the rows.
    pub(super) field: Option<String>,
}

/// How characters are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-8, or UTF-16 if there is a byte order mark.
    Detected,
    Utf16Little,
    Utf16Big,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CsvOptions {
    pub(super) delimiter: u8,
    /// Whether the card, and not the extension of the file, says what the delimiter is.
    pub(super) delimiter_is_declared: bool,
    /// `None` if quotes are ordinary characters.
    pub(super) quote: Option<u8>,
    pub(super) header: Header,
    /// Names of the columns in place of those of the header.
    pub(super) names: Option<Vec<String>>,
    /// Number of lines before the header that are skipped.
    pub(super) skipped_lines: u64,
    /// The texts that stand for a missing value.
    pub(super) missing: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// The first line that is not blank.
    FirstLine,
    None,
}

/// What pandas takes for a missing value.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Options that do not change texts: they are about speed, messages, or columns that are no texts.
const WITHOUT_EFFECT: [&str; 18] = [
    "batch_size",
    "block_size",
    "chunksize",
    "date_format",
    "decimal",
    "engine",
    "false_values",
    "float_precision",
    "fragment_scan_options",
    "mangle_dupe_cols",
    "memory_map",
    "on_mixed_types",
    "parse_agent_traces",
    "thousands",
    "true_values",
    "use_threads",
    "verbose",
    "warn_bad_lines",
];

/// Options that are accepted only if they have their default, which is JSON.
fn fixed_options(format: Format) -> &'static [(&'static str, &'static str)] {
    match format {
        Format::Csv | Format::Tsv => &[
            ("index_col", "null"),
            ("usecols", "null"),
            ("prefix", "null"),
            ("converters", "null"),
            ("skipinitialspace", "false"),
            ("nrows", "null"),
            ("skip_blank_lines", "true"),
            ("lineterminator", "null"),
            ("escapechar", "null"),
            ("comment", "null"),
            ("dialect", "null"),
            ("error_bad_lines", "true"),
            ("skipfooter", "0"),
            ("doublequote", "true"),
            ("encoding_errors", "\"strict\""),
            ("on_bad_lines", "\"error\""),
        ],
        Format::Json => &[("encoding_errors", "\"strict\""), ("newlines_in_values", "null")],
        Format::Text => &[
            ("encoding_errors", "\"strict\""),
            ("keep_linebreaks", "false"),
            ("sample_by", "\"line\""),
            ("features", "null"),
        ],
        Format::Arrow => &[],
        Format::Parquet => &[("columns", "null"), ("filters", "null"), ("on_bad_files", "\"error\"")],
    }
}

impl Options {
    pub(super) fn of(format: Format) -> Self {
        Self {
            encoding: Encoding::Detected,
            csv: CsvOptions {
                delimiter: if format == Format::Tsv { b'\t' } else { b',' },
                delimiter_is_declared: false,
                quote: Some(b'"'),
                header: Header::FirstLine,
                names: None,
                skipped_lines: 0,
                missing: MISSING.map(str::to_owned).to_vec(),
            },
            field: None,
        }
    }

    /// Reads what a card declares. The error says which option cannot be used.
    pub(super) fn declared(format: Format, declared: &Map<String, Value>) -> Result<Self, String> {
        let mut options = Self::of(format);
        let is_csv = matches!(format, Format::Csv | Format::Tsv);
        for (name, value) in declared {
            match name.as_str() {
                _ if WITHOUT_EFFECT.contains(&name.as_str()) => {}
                "encoding" if !matches!(format, Format::Arrow | Format::Parquet) => options.encoding = encoding(value)?,
                "field" if format == Format::Json => options.field = text(name, value)?.map(str::to_owned),
                "features" if format != Format::Text && !value.is_null() => tracing::warn!(
                    "the dataset card declares the types of columns (`features`); the values are read as the files \
                     have them"
                ),
                _ if is_csv && options.csv.declare(name, value)? => {}
                _ => check_default(format, name, value)?,
            }
        }
        if is_csv {
            options.csv.combine(declared)?;
        }
        Ok(options)
    }
}

impl CsvOptions {
    /// Takes one option. Returns whether it is known.
    fn declare(&mut self, name: &str, value: &Value) -> Result<bool, String> {
        match name {
            "sep" | "delimiter" => {
                if let Some(delimiter) = text(name, value)? {
                    self.delimiter = character(name, delimiter)?;
                    self.delimiter_is_declared = true;
                }
            }
            "quotechar" => self.quote = text(name, value)?.map(|quote| character(name, quote)).transpose()?,
            "header" => match value {
                Value::Null => self.header = Header::None,
                Value::String(text) if text == "infer" => {}
                Value::Number(number) if number.as_u64() == Some(0) => {}
                _ => return Err(unsupported(name, value, "0 and null")),
            },
            "names" | "column_names" => {
                self.names = match value {
                    Value::Null => None,
                    Value::Array(names) => Some(names.iter().map(plain).collect()),
                    _ => return Err(unsupported(name, value, "a list of names")),
                };
            }
            "skiprows" => {
                let lines = if value.is_null() { Some(0) } else { value.as_u64() };
                self.skipped_lines = lines.ok_or_else(|| unsupported(name, value, "a number of lines"))?;
            }
            "na_values" => match value {
                Value::Null => {}
                Value::Array(values) if !values.iter().any(Value::is_array) => {
                    self.missing.extend(values.iter().map(plain));
                }
                Value::Object(_) => return Err(unsupported(name, value, "a list of texts")),
                value => self.missing.push(plain(value)),
            },
            "keep_default_na" | "na_filter" => {
                value.as_bool().ok_or_else(|| unsupported(name, value, "true and false"))?;
            }
            // How quotes are written does not matter: minimal, all, never.
            "quoting" => match value.as_u64() {
                Some(0 | 1) => {}
                Some(3) => self.quote = None,
                _ => return Err(unsupported(name, value, "0, 1 and 3")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Applies what follows from several options.
    fn combine(&mut self, declared: &Map<String, Value>) -> Result<(), String> {
        let is = |name: &str, expected: bool| declared.get(name).and_then(Value::as_bool) == Some(expected);
        let stated = |name: &str| declared.get(name).filter(|value| !value.is_null());
        if is("na_filter", false) {
            self.missing.clear();
        } else if is("keep_default_na", false) {
            self.missing.retain(|text| !MISSING.contains(&text.as_str()));
        }
        if let Some(delimiter) = stated("delimiter") {
            self.declare("delimiter", delimiter)?;
        }
        if let Some(names) = stated("column_names") {
            self.declare("column_names", names)?;
        }
        if declared.get("quoting").and_then(Value::as_u64) == Some(3) {
            self.quote = None;
        }
        if let Some(names) = &self.names {
            if let Some((at, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
                return Err(format!("`names` has {name:?} twice (also as number {})", at + 1));
            }
            // With names, a header has to be declared.
            if declared.get("header").is_none_or(Value::is_string) {
                self.header = Header::None;
            }
        }
        Ok(())
    }
}

fn check_default(format: Format, name: &str, value: &Value) -> Result<(), String> {
    let Some((_, default)) = fixed_options(format).iter().find(|(known, _)| *known == name) else {
        // The option of another reader, or of none. `datasets` says so too, and goes on.
        tracing::warn!("the dataset card declares `{name}`, which means nothing for these files");
        return Ok(());
    };
    let found = value.to_string();
    if value.is_null() || found == *default { Ok(()) } else { Err(unsupported(name, value, default)) }
}

fn encoding(value: &Value) -> Result<Encoding, String> {
    let name = value.as_str().unwrap_or("utf-8").to_ascii_lowercase().replace('_', "-");
    match name.as_str() {
        "utf-8" | "utf8" | "u8" | "utf-8-sig" | "ascii" | "us-ascii" | "utf-16" | "utf16" => Ok(Encoding::Detected),
        "utf-16-le" | "utf-16le" => Ok(Encoding::Utf16Little),
        "utf-16-be" | "utf-16be" => Ok(Encoding::Utf16Big),
        _ => Err(unsupported("encoding", value, "utf-8 and utf-16; convert the files")),
    }
}

fn text<'v>(name: &str, value: &'v Value) -> Result<Option<&'v str>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(unsupported(name, value, "a text")),
    }
}

fn character(name: &str, text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        // pandas reads this as a regular expression.
        b"\\t" => Ok(b'\t'),
        _ => Err(unsupported(name, &Value::from(text), "a single ASCII character")),
    }
}

/// A name or a value as text: YAML reads `2024` as a number.
pub(in super::super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unsupported(name: &str, value: &Value, supported: &str) -> String {
    format!("`{name}` is {value}, which is not supported here; supported is {supported}")
}

#[cfg(test)]
mod tests;
