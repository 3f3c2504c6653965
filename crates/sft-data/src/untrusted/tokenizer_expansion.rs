//! Limits on how much longer a `tokenizer.json` can make a text.
//!
//! The parts of a tokenizer work one after the other, and some make the text longer: if each of
//! forty parts writes two letters for one, a text grows a trillionfold. This module computes an
//! upper limit of the growth from the file, before the tokenizers library loads it. It also checks
//! the one length in the file that the library trusts: the length of the trie in a
//! `precompiled_charsmap`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The most bytes that the normalizer and pre-tokenizer together, or the decoder, may make of one
/// byte. Tokenizers in use make some 100 at most, counted for the worst letter in every part.
const MAX_BYTES_PER_BYTE: f64 = 1024.0;
/// The most tokens that the post-processor may make of one. Tokenizers in use make 3: the token,
/// one before it and one after it.
const MAX_TOKENS_PER_TOKEN: f64 = 64.0;
/// The longest that all regular expressions together may be. A class of letters is a few bytes, but
/// takes 15 KB when it is compiled. Tokenizers in use have a few hundred bytes.
const MAX_EXPRESSION_BYTES: usize = 16 << 10;
/// Longer expressions are not parsed to find out whether they can match an empty text.
const MAX_PARSED_EXPRESSION_BYTES: usize = 256;

/// The parts of the file that change a text. Other fields are ignored.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(
        "{part} can make {growth:.0} {unit} of one, but at most {most} are accepted; is the file damaged or hostile?"
    )]
    Growth { part: &'static str, unit: &'static str, growth: f64, most: f64 },
    #[error(
        "its regular expressions have {bytes} bytes, but at most {MAX_EXPRESSION_BYTES} are accepted; is the file \
         damaged or hostile?"
    )]
    Expressions { bytes: usize },
    #[error("{part} is made of something other than objects")]
    Shape { part: &'static str },
    #[error("precompiled_charsmap is damaged: {problem}")]
    Charsmap { problem: &'static str },
}

/// Checks the text of a `tokenizer.json`.
pub(crate) fn check(text: &[u8]) -> Result<(), Refused> {
    let parts: Parts = serde_json::from_slice(text)?;
    let expressions = [&parts.normalizer, &parts.pre_tokenizer, &parts.post_processor, &parts.decoder];
    let bytes = expressions.into_iter().map(expression_bytes).sum();
    if bytes > MAX_EXPRESSION_BYTES {
        return Err(Refused::Expressions { bytes });
    }
    let before = bytes_of("normalizer", &parts.normalizer)? * bytes_of("pre_tokenizer", &parts.pre_tokenizer)?;
    let after = bytes_of("decoder", &parts.decoder)?;
    let tokens = tokens_of(&parts.post_processor)?;
    for (part, unit, growth, most) in [
        ("the normalizer", "bytes", before, MAX_BYTES_PER_BYTE),
        ("the decoder", "bytes", after, MAX_BYTES_PER_BYTE),
        ("the post-processor", "tokens", tokens, MAX_TOKENS_PER_TOKEN),
    ] {
        if growth > most {
            return Err(Refused::Growth { part, unit, growth, most });
        }
    }
    Ok(())
}

/// The total length of the regular expressions in a part.
fn expression_bytes(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(expression_bytes).sum(),
        Value::Object(fields) => {
            let own = fields.get("Regex").and_then(Value::as_str).map_or(0, str::len);
            own + fields.values().map(expression_bytes).sum::<usize>()
        }
        _ => 0,
    }
}

/// The most bytes that a part, with all parts in it, makes of one. The fields decide, whatever the
/// part's `type` is, because the library also goes by the fields if there is no type.
fn bytes_of(part: &'static str, value: &Value) -> Result<f64, Refused> {
    match value {
        Value::Null => Ok(1.0),
        Value::Object(fields) => {
            let mut growth = own_bytes(fields)?;
            for inner in inner_parts(fields) {
                growth *= bytes_of(part, inner)?;
            }
            Ok(growth)
        }
        _ => Err(Refused::Shape { part }),
    }
}

/// The parts in a part: `normalizers`, `pretokenizers`, `decoders`, `processors`.
fn inner_parts(fields: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let lists = fields.iter().filter(|(name, _)| name.ends_with("ers") || name.ends_with("ors"));
    lists.filter_map(|(_, list)| list.as_array()).flatten()
}

fn own_bytes(fields: &Map<String, Value>) -> Result<f64, Refused> {
    let length = |name: &str| fields.get(name).and_then(Value::as_str).map(str::len);
    let mut growth = 1.0 + length("prepend").unwrap_or(0) as f64;
    if let (Some(pattern), Some(content)) = (fields.get("pattern"), length("content")) {
        let content = content as f64;
        growth *= match (pattern.get("String").and_then(Value::as_str), pattern.get("Regex").and_then(Value::as_str)) {
            (Some(text), None) if !text.is_empty() => (content / text.len() as f64).max(1.0),
            (None, Some(expression)) if takes_a_byte(expression) => content.max(1.0),
            // The pattern may match the empty text between any two letters.
            _ => 1.0 + content,
        };
    }
    // `ByteLevel` writes a byte that is not a printable ASCII character as a character of two
    // bytes.
    if fields.contains_key("use_regex") || fields.get("type").is_some_and(|kind| kind == "ByteLevel") {
        growth *= 2.0;
    }
    if let Some(text) = fields.get("precompiled_charsmap") {
        growth *= longest_replacement(text)?;
    }
    Ok(growth)
}

/// Whether every match of the expression has at least one byte. False if that is not known, because
/// only Oniguruma understands its syntax or because it is long: a class of one letter takes
/// kilobytes when it is parsed.
fn takes_a_byte(expression: &str) -> bool {
    expression.len() <= MAX_PARSED_EXPRESSION_BYTES
        && regex_syntax::parse(expression)
            .is_ok_and(|parsed| parsed.properties().minimum_len().is_some_and(|length| length > 0))
}

/// The length of the longest replacement in a map in SentencePiece's format: the length of the trie
/// in bytes (u32), the trie, and the replacements, each followed by a zero byte.
fn longest_replacement(text: &Value) -> Result<f64, Refused> {
    let damaged = |problem| Refused::Charsmap { problem };
    let text = text.as_str().ok_or(damaged("it is no text"))?;
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| damaged("it is not in base64"))?;
    let (length, rest) = bytes.split_first_chunk().ok_or(damaged("it has no header"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let replacements = rest.get(length..).ok_or(damaged("it is shorter than its header says"))?;
    Ok(replacements.split(|&byte| byte == 0).map(<[u8]>::len).max().unwrap_or(0).max(1) as f64)
}

/// The most tokens that the post-processor makes of one.
fn tokens_of(value: &Value) -> Result<f64, Refused> {
    let part = "post_processor";
    let fields = match value {
        Value::Null => return Ok(1.0),
        Value::Object(fields) => fields,
        _ => return Err(Refused::Shape { part }),
    };
    let special = fields.get("special_tokens").and_then(Value::as_object);
    let num_ids = |name: &str| special?.get(name)?.get("ids")?.as_array().map(Vec::len);
    let pieces = fields.get("single").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let piece_tokens = |piece: &Value| match piece.get("SpecialToken") {
        Some(token) => token.get("id").and_then(Value::as_str).and_then(num_ids).unwrap_or(1),
        None => 1,
    };
    let mut growth = match (pieces.iter().map(piece_tokens).sum::<usize>(), fields.contains_key("cls")) {
        (0, true) => 3.0,
        (count, _) => count.max(1) as f64,
    };
    for inner in inner_parts(fields) {
        growth *= tokens_of(inner)?;
    }
    Ok(growth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(file: &Value) -> String {
        check(file.to_string().as_bytes()).unwrap_err().to_string()
    }

    fn replace(from: &str, to: &str) -> Value {
        json!({"type": "Replace", "pattern": {"String": from}, "content": to})
    }

    fn charsmap(trie: u32, replacements: &str) -> Value {
        let bytes = [&trie.to_le_bytes(), &[0; 8][..], replacements.as_bytes()].concat();
        json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(bytes)}})
    }

    #[test]
    fn tokenizers_in_use_are_accepted() {
        let sentence_piece = json!({"type": "Sequence", "normalizers": [
            charsmap(8, "ffi\0\u{fb01}\0")["normalizer"], {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
            {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"),
        ]});
        let tidying =
            vec![json!({"type": "Replace", "pattern": {"Regex": "\\s+|[\u{200b}-\u{200f}]"}, "content": " "}); 40];
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let whole = json!({"version": "1.0", "normalizer": sentence_piece, "pre_tokenizer": bytes,
            "post_processor": {"type": "BertProcessing", "sep": ["s", 0], "cls": ["c", 1]}, "decoder": null, "model": {}});
        check(whole.to_string().as_bytes()).unwrap();
        let tidying = json!({"normalizer": {"type": "Sequence", "normalizers": tidying}});
        for parts in [json!({}), json!({"normalizer": {"type": "NFC"}}), tidying] {
            check(parts.to_string().as_bytes()).unwrap();
        }
    }

    #[test]
    fn parts_that_multiply_a_text_are_refused() {
        let doubling = vec![replace("a", "aa"); 40];
        let listed = json!({"type": "Sequence", "normalizers": doubling});
        let message = "the normalizer can make 1099511627776 bytes of one, but at most 1024";
        assert!(refusal(&json!({ "normalizer": listed })).contains(message));
        // A list in a list, and one without a type.
        let (first, second) = doubling.split_at(20);
        let nested = json!({"normalizers": [{"type": "Sequence", "normalizers": first}, {"normalizers": second}]});
        assert!(refusal(&json!({ "normalizer": nested })).contains(message));
        let decoder = json!({"type": "Sequence", "decoders": doubling});
        assert!(refusal(&json!({ "decoder": decoder })).contains("the decoder can make"));
        let bytes = vec![json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}); 11];
        let pre_tokenizer = json!({"type": "Sequence", "pretokenizers": bytes});
        assert!(refusal(&json!({ "pre_tokenizer": pre_tokenizer })).contains("can make 2048 bytes"));
        for expression in ["", "a*", "(?=a)", "(?<!b)", &"a".repeat(300)] {
            let everywhere = json!({"type": "Replace", "pattern": {"Regex": expression}, "content": "x".repeat(2000)});
            assert!(refusal(&json!({ "normalizer": everywhere })).contains("can make 2001 bytes"));
        }
        let long = charsmap(8, &"x".repeat(2000));
        assert!(refusal(&long).contains("can make 2000 bytes"));
        assert!(refusal(&json!({"normalizer": [replace("a", "aa")]})).contains("other than objects"));
    }

    #[test]
    fn long_expressions_are_refused() {
        let split = |expression: &str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
        let whole = |count| json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": vec![split(&"\\p{L}".repeat(100)); count]}});
        check(whole(32).to_string().as_bytes()).unwrap();
        assert!(refusal(&whole(33)).contains("have 16500 bytes"));
    }

    #[test]
    fn templates_that_repeat_a_text_are_refused() {
        let twice = json!({"type": "TemplateProcessing", "single": [
            {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        ], "pair": [], "special_tokens": {}});
        check(json!({ "post_processor": twice }).to_string().as_bytes()).unwrap();
        let again = json!({"type": "Sequence", "processors": vec![twice; 7]});
        assert!(refusal(&json!({ "post_processor": again })).contains("the post-processor can make 128 tokens of one"));
        let many = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "s", "type_id": 0}}], "pair": [],
            "special_tokens": {"s": {"id": "s", "ids": vec![0; 1000], "tokens": vec!["s"; 1000]}}});
        assert!(refusal(&json!({ "post_processor": many })).contains("can make 1000 tokens"));
    }

    #[test]
    fn a_wrong_length_of_a_trie_is_refused() {
        check(charsmap(8, "").to_string().as_bytes()).unwrap();
        for (trie, problem) in [(9, "shorter than its header says"), (u32::MAX, "shorter than its header says")] {
            assert!(refusal(&charsmap(trie, "")).contains(problem));
        }
        for (text, problem) in [("", "no header"), ("AAA=", "no header"), ("é", "base64")] {
            assert!(refusal(&json!({"normalizer": {"precompiled_charsmap": text}})).contains(problem), "{text}");
        }
    }

    /// The library uses the last of two, which might not be the one that is checked.
    #[test]
    fn a_part_that_is_there_twice_is_refused() {
        let message = check(br#"{"normalizer": null, "normalizer": {"type": "NFC"}}"#).unwrap_err().to_string();
        assert!(message.contains("duplicate field `normalizer`"), "{message}");
    }
}
