//! What a file says, what it leaves out and what it says twice, against the classes of
//! transformers.

use super::*;
use std::num::NonZeroUsize;

/// `model` is what transformers makes of the file, as far as it differs from its family's first
/// case.
#[derive(serde::Deserialize)]
struct Case {
    family: String,
    changes: Map<String, Value>,
    model: Value,
}

/// Files that transformers takes and this crate refuses, because they ask for arithmetic that it
/// does not have, or say two things of which nobody knows which is meant.
fn is_refused_here(case: &Case) -> bool {
    let says = |name: &str| case.changes.get(name).filter(|value| !value.is_null());
    let says_rope = |types: &[&str]| {
        let objects = ["rope_scaling", "rope_parameters"].into_iter().filter_map(says);
        let names = objects.flat_map(|object| [&object["rope_type"], &object["type"]]);
        names.filter_map(Value::as_str).any(|name| types.contains(&name))
    };
    let partial = |object: Option<&Value>| object.is_some_and(|object| object["partial_rotary_factor"] == json!(0.5));
    says("hidden_act") == Some(&json!("gelu"))
        // Leaves heads of one value, which cannot be rotated.
        || (says("num_attention_heads") == Some(&json!("absent")) && case.changes.len() == 1)
        || says("attention_dropout") == Some(&json!(0.1))
        || says("is_causal") == Some(&json!(false))
        || says_rope(&["proportional", "none_such"])
        || partial(Some(&Value::Object(case.changes.clone())))
        || partial(says("rope_parameters"))
        || says("rope_scaling") == Some(&json!([]))
        || (case.family == "llama" && says("layer_types").is_some_and(|types| types[1] == "sliding_attention"))
        || says("rope_parameters").is_some_and(|object| object["full_attention"].is_object())
}

/// Files that transformers refuses and this crate takes: what they say cannot be misunderstood.
fn is_taken_here(case: &Case) -> bool {
    let says = |name: &str, value: Value| case.changes.get(name) == Some(&value);
    says("use_cache", Value::Null)
        || (case.family == "qwen2" && says("head_dim", Value::Null))
        || says("rms_norm_eps", json!(1))
        || says("max_window_layers", Value::Null)
        // As Ministral, transformers wants a head size beside layer types.
        || (case.family == "mistral" && case.changes.contains_key("layer_types") && !case.changes.contains_key("head_dim"))
        || says("layer_types", json!(["full_attention"]))
        // Read when the weights are, unless the caller chooses a type.
        || says("dtype", json!("none_such"))
}

#[test]
fn every_field_is_read_as_its_class_reads_it() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/goldens/configs.json")).unwrap();
    let mut plain = Value::Null;
    let mut wrong = Vec::new();
    for case in &cases {
        if case.changes.is_empty() {
            plain = case.model.clone();
        }
        let mut file = json!({
            "model_type": case.family, "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        });
        for (name, value) in &case.changes {
            match value == "absent" {
                true => file.as_object_mut().unwrap().shift_remove(name),
                false => file.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        let found = parse(file);
        let problem = match (&found, case.model.as_object()) {
            (Ok(_), _) if is_refused_here(case) => Some("taken".to_owned()),
            (Err(_), Some(_)) if is_refused_here(case) => None,
            (Err(_), None) => None,
            (Ok(_), None) => (!is_taken_here(case)).then(|| "taken".to_owned()),
            (Err(error), Some(_)) => Some(error.to_string()),
            (Ok(config), Some(differences)) => {
                let mut expected = plain.clone();
                expected.as_object_mut().unwrap().extend(differences.clone());
                difference(config, &expected)
            }
        };
        if let Some(problem) = problem {
            wrong.push(format!("{} {}: {problem}", case.family, json!(case.changes)));
        }
    }
    assert!(cases.len() > 400 && wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first field in which a configuration is not the model that transformers made.
fn difference(config: &Config, expected: &Value) -> Option<String> {
    let found = json!({
        "vocab_size": config.vocab_size, "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size, "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads, "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim, "rms_norm_eps": config.rms_norm_eps,
        "max_position_embeddings": config.max_position_embeddings, "tie_word_embeddings": config.tie_word_embeddings,
        "qkv_bias": config.qkv_bias, "o_bias": config.o_bias, "mlp_bias": config.mlp_bias,
        "initializer_range": config.initializer_range, "dtype": config.dtype,
        "window": config.longest_row().map(NonZeroUsize::get), "theta": config.rope.theta,
    });
    for (name, value) in found.as_object().unwrap() {
        let (value, expected) = (value, &expected[name]);
        let are_equal = match (value.as_f64(), expected.as_f64()) {
            (Some(one), Some(other)) => one == other,
            _ => value == expected,
        };
        if !are_equal {
            return Some(format!("{name} is {value}, not {expected}"));
        }
    }
    let theirs: Option<Vec<f32>> = serde_json::from_value(expected["inv_freq"].clone()).unwrap();
    let ours = config.rope.inverse_frequencies(config.head_dim, 1, Device::Cpu).unwrap();
    let ours = Vec::<f32>::try_from(ours).unwrap();
    let agree = |theirs: &Vec<f32>| {
        theirs.len() == ours.len()
            && theirs.iter().zip(&ours).all(|(one, other)| (one - other).abs() <= 2e-7 * one.abs())
    };
    theirs.filter(|theirs| !agree(theirs)).map(|theirs| format!("frequencies are {ours:?}, not {theirs:?}"))
}
