//! generation_config.json: kept as it came, but for what would make transformers refuse the model later.

use crate::{Config, Error};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The folder's file, if there is one.
pub(crate) fn read(dir: &Path) -> Result<Option<Value>, Error> {
    let path = dir.join("generation_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(Error::read(&path))?;
    let value: Value = serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
    if value.is_object() {
        return Ok(Some(value));
    }
    let problem = "must be a JSON object".to_owned();
    Err(Error::Config { path, field: "the file's content".to_owned(), problem })
}

/// Settings that only sampling reads, with the values that mean "not set".
const SAMPLING: [(&str, f64); 7] = [
    ("temperature", 1.0),
    ("top_p", 1.0),
    ("top_k", 50.0),
    ("min_p", 0.0),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
];

/// What to write beside the model.
///
/// transformers will not save a model whose file sets, say, `temperature` while `do_sample` is off (transformers#29665). Whoever set the
/// temperature meant to sample, so sampling is switched on, which is transformers' own advice. Without a file, the special tokens of
/// config.json are all there is to say.
pub(crate) fn for_saving(found: Option<&Value>, config: &Config) -> Value {
    let mut object = match found {
        Some(Value::Object(object)) => object.clone(),
        _ => {
            let mut object = Map::from_iter([("_from_model_config".to_owned(), json!(true))]);
            for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
                if let Some(id) = config.raw.get(name).filter(|id| !id.is_null()) {
                    object.insert(name.to_owned(), id.clone());
                }
            }
            object
        }
    };
    let samples = object.get("do_sample").and_then(Value::as_bool).unwrap_or(false);
    let sets_sampling = SAMPLING
        .iter()
        .any(|(name, unset)| object.get(*name).and_then(Value::as_f64).is_some_and(|value| value != *unset));
    if sets_sampling && !samples {
        object.insert("do_sample".to_owned(), json!(true));
    }
    Value::Object(object)
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

    #[test]
    fn sampling_settings_switch_sampling_on() {
        let fixed = for_saving(Some(&json!({"temperature": 0.9, "top_p": 0.6, "eos_token_id": 2})), &config());
        assert_eq!(fixed, json!({"temperature": 0.9, "top_p": 0.6, "eos_token_id": 2, "do_sample": true}));
        let greedy = json!({"temperature": 1.0, "top_k": 50, "max_new_tokens": 9});
        assert_eq!(for_saving(Some(&greedy), &config()), greedy);
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
