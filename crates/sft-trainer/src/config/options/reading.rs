//! A value in other types, as Python's parser of arguments reads it, and errors in a user's words.

use serde_json::{Number, Value};

/// What a value of the wrong type may also mean, the first that fits first. A text may be a number
/// or a truth value, because PyYAML reads `2e-5` as a text and Hugging Face's parser turns it into
/// a number.
pub(super) fn readings(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            let whole = text.parse::<i64>().ok().map(Value::from);
            let float = text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number);
            // Keyword arguments of a schedule are JSON.
            let object = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
            [truth(text).map(Value::Bool), whole, float, object].into_iter().flatten().collect()
        }
        Value::Number(number) => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
            let whole = float.map(|float| Value::from(float as i64));
            let truth = float.filter(|float| [0.0, 1.0].contains(float)).map(|float| Value::Bool(float == 1.0));
            [whole, truth].into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// The words that `transformers.hf_argparser.string_to_bool` knows, and `on` and `off`.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "t" | "y" | "1" | "on" => Some(true),
        "false" | "no" | "f" | "n" | "0" | "off" => Some(false),
        _ => None,
    }
}

/// What is expected, without the names of types.
pub(super) fn described(error: &str) -> String {
    const TYPES: [(&[&str], &str); 5] = [
        (&["usize", "u64", "u32", "a nonzero usize"], "a whole number of 0 or more"),
        (&["i64", "i32"], "a whole number"),
        (&["f64", "f32"], "a number"),
        (&["a boolean"], "true or false"),
        (&["a string", "path string", "string or map"], "a text"),
    ];
    if let Some((_, variants)) = error.split_once("unknown variant").and_then(|(_, rest)| rest.split_once("expected "))
    {
        return format!("use {}", variants.trim_start_matches("one of "));
    }
    let Some((_, expected)) = error.rsplit_once(", expected ") else { return error.to_owned() };
    if expected.starts_with("struct ") || expected == "a map" {
        return "expected names with values, such as {name: value}".to_owned();
    }
    let words = TYPES.iter().find(|(names, _)| names.contains(&expected)).map(|(_, words)| *words);
    format!("expected {}", words.unwrap_or(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_and_numbers_are_read_as_pythons_parser_reads_them() {
        for (value, expected) in [
            (json!("2e-5"), json!(2e-5)),
            (json!("512"), json!(512)),
            (json!(" -1 "), json!(-1)),
            (json!("Yes"), json!(true)),
            (json!("f"), json!(false)),
            (json!(8.0), json!(8)),
            (json!(0), json!(false)),
            (json!("{\"power\": 2}"), json!({"power": 2})),
        ] {
            assert!(readings(&value).contains(&expected), "{value}");
        }
        for value in [json!("fast"), json!("nan"), json!("inf"), json!([1]), json!(null), json!(true)] {
            assert_eq!(readings(&value), Vec::<Value>::new(), "{value}");
        }
        assert_eq!(readings(&json!(0.5)), Vec::<Value>::new());
    }

    #[test]
    fn errors_have_no_names_of_types() {
        for (error, expected) in [
            ("invalid type: string \"a\", expected usize", "expected a whole number of 0 or more"),
            ("invalid type: string \"a\", expected f64", "expected a number"),
            (
                "invalid type: integer `3`, expected struct SchedulerKwargs",
                "expected names with values, such as {name: value}",
            ),
            ("invalid value: integer `-1`, expected usize", "expected a whole number of 0 or more"),
            ("unknown variant `a`, expected one of `b`, `c`", "use `b`, `c`"),
            ("unknown variant `a`, expected `b` or `c`", "use `b` or `c`"),
            ("\"tpu\" is not a device", "\"tpu\" is not a device"),
        ] {
            assert_eq!(described(error), expected);
        }
    }
}
