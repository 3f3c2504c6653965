//! Values as they are typed.

use serde_json::Value;

/// A number. JSON has no NaN and no infinity, and no option means one.
///
/// # Errors
/// What is expected.
pub fn finite(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if number.is_finite() { Ok(number) } else { Err("must be a finite number".to_owned()) }
}

/// A truth value, in the spellings of Python's parsers.
///
/// # Errors
/// What is expected.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" | "on" => Ok(true),
        "false" | "0" | "no" | "n" | "f" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// `true` and `false` as booleans, everything else as text.
///
/// # Errors
/// None.
pub fn word(text: &str) -> Result<Value, String> {
    Ok(boolean(text).map_or_else(|_| text.into(), Value::from))
}

/// JSON.
///
/// # Errors
/// Where the text is not JSON.
pub fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
