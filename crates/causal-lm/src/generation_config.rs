//! generation_config.json. It is saved as it was read, except for settings with which transformers
//! would refuse the model later.

use crate::untrusted::files::{self, FileLimit};
use crate::{Config, Error};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The folder's file, if there is one.
pub(crate) fn read(dir: &Path) -> Result<Option<Map<String, Value>>, Error> {
    let path = dir.join("generation_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let value = files::json(&path, FileLimit::CONFIG)?;
    if let Value::Object(object) = value {
        return Ok(Some(object));
    }
    let problem = "must be a JSON object".to_owned();
    Err(Error::Config { path, field: "the file's content".to_owned(), problem })
}

/// Settings that only sampling reads, with the values that mean "not set".
const SAMPLING: [(&str, f64); 8] = [
    ("temperature", 1.0),
    ("top_p", 1.0),
    ("top_k", 50.0),
    ("top_h", 1.0),
    ("min_p", 0.0),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
];

/// The generation_config.json to write beside the model.
///
/// transformers refuses to save a model whose file contradicts itself, for example one that sets
/// `temperature` while `do_sample` is off (transformers#29665). Such contradictions are resolved
/// here. If the model's folder had no file, the special tokens of config.json are written.
pub(crate) fn for_saving(found: Option<&Map<String, Value>>, config: &Config) -> Value {
    let mut object = found.cloned().unwrap_or_else(|| of_model(&config.raw));
    drop_impossible_values(&mut object);
    settle_sampling(&mut object);
    settle_beams(&mut object);
    Value::Object(object)
}

/// The file of a model that has none: the special tokens of config.json.
pub(crate) fn of_model(config: &Map<String, Value>) -> Map<String, Value> {
    let mut object = Map::from_iter([("_from_model_config".to_owned(), json!(true))]);
    for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(id) = config.get(name).filter(|id| !id.is_null()) {
            object.insert(name.to_owned(), id.clone());
        }
    }
    object
}

/// Drops values that transformers refuses in any case.
fn drop_impossible_values(object: &mut Map<String, Value>) {
    let number = |value: &Value| value.is_null() || value.is_number();
    for (name, _) in
        SAMPLING.into_iter().chain([("length_penalty", 1.0), ("num_beams", 1.0), ("num_return_sequences", 1.0)])
    {
        if object.get(name).is_some_and(|value| !number(value)) {
            object.shift_remove(name);
        }
    }
    let as_number = |object: &Map<String, Value>, name: &str| object.get(name).and_then(Value::as_f64);
    for (name, least) in [("max_new_tokens", 1.0), ("pad_token_id", 0.0)] {
        if as_number(object, name).is_some_and(|value| value < least) {
            object.shift_remove(name);
        }
    }
    if as_number(object, "temperature").is_some_and(|temperature| temperature <= 0.0) {
        // A temperature of 0 means: take the likeliest token.
        object.shift_remove("temperature");
        object.insert("do_sample".to_owned(), json!(false));
    }
}

/// Resolves sampling settings without `do_sample`. If it is absent, sampling is switched on; if it
/// is `false`, the settings are dropped.
fn settle_sampling(object: &mut Map<String, Value>) {
    let is_set = |object: &Map<String, Value>, (name, unset): (&str, f64)| {
        object.get(name).and_then(Value::as_f64).is_some_and(|value| value != unset)
    };
    match object.get("do_sample").and_then(Value::as_bool) {
        Some(true) => {}
        Some(false) => object.retain(|name, _| !SAMPLING.iter().any(|(sampling, _)| sampling == name)),
        None if SAMPLING.into_iter().any(|setting| is_set(object, setting)) => {
            object.insert("do_sample".to_owned(), json!(true));
        }
        None => {}
    }
}

/// Drops settings of beam search if there are no beams, and a number of sequences that the search
/// cannot give.
fn settle_beams(object: &mut Map<String, Value>) {
    let count = |name: &str| object.get(name).and_then(Value::as_f64).unwrap_or(1.0);
    let (beams, sequences) = (count("num_beams"), count("num_return_sequences"));
    let samples = object.get("do_sample").and_then(Value::as_bool).unwrap_or(false);
    if beams <= 1.0 {
        object.shift_remove("early_stopping");
        object.shift_remove("length_penalty");
    }
    if sequences > 1.0 && ((beams <= 1.0 && !samples) || (beams > 1.0 && sequences > beams)) {
        object.shift_remove("num_return_sequences");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let value = json!({
            "model_type": "llama", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 1, "eos_token_id": [2, 3], "bos_token_id": null,
        });
        Config::from_json(value, Path::new("config.json")).unwrap()
    }

    fn saved(found: &Value) -> Value {
        for_saving(found.as_object(), &config())
    }

    #[test]
    fn sampling_settings_switch_sampling_on() {
        let fixed = saved(&json!({"temperature": 0.9, "top_p": 0.6, "eos_token_id": 2}));
        assert_eq!(fixed, json!({"temperature": 0.9, "top_p": 0.6, "eos_token_id": 2, "do_sample": true}));
        let greedy = json!({"temperature": 1.0, "top_k": 50, "max_new_tokens": 9});
        assert_eq!(saved(&greedy), greedy);
    }

    /// Each of these makes transformers 5.17's `save_pretrained` or `generate` raise as it stands.
    #[test]
    fn contradictions_are_resolved() {
        for (found, expected) in [
            (json!({"do_sample": false, "temperature": 0.6, "top_k": 20}), json!({"do_sample": false})),
            (json!({"do_sample": true, "temperature": 0.0, "top_p": 0.9}), json!({"do_sample": false})),
            (json!({"temperature": "hot"}), json!({})),
            (json!({"max_new_tokens": 0, "pad_token_id": -1, "eos_token_id": 2}), json!({"eos_token_id": 2})),
            (json!({"num_beams": 1, "early_stopping": true, "length_penalty": 2.0}), json!({"num_beams": 1})),
            (json!({"num_beams": 4, "early_stopping": true}), json!({"num_beams": 4, "early_stopping": true})),
            (json!({"num_return_sequences": 4}), json!({})),
            (
                json!({"num_return_sequences": 4, "do_sample": true}),
                json!({"num_return_sequences": 4, "do_sample": true}),
            ),
            (json!({"num_return_sequences": 4, "num_beams": 2}), json!({"num_beams": 2})),
        ] {
            assert_eq!(saved(&found), expected, "{found}");
        }
    }

    #[test]
    fn without_a_file_the_special_tokens_are_kept() {
        assert_eq!(for_saving(None, &config()), json!({"_from_model_config": true, "eos_token_id": [2, 3]}));
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap().is_none());
        std::fs::write(folder.path().join("generation_config.json"), "{\"a\": ").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("generation_config.json is not valid JSON"));
    }
}
