use super::*;
use serde_json::json;

/// The 0.5B shape of docs/performance.md.
fn half_billion() -> Config {
    let config = json!({
        "model_type": "qwen2", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24,
        "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 151936, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_act": "silu", "tie_word_embeddings": true,
    });
    Config::from_json(config, "config.json".as_ref()).unwrap()
}

fn with(options: serde_json::Value) -> SftConfig {
    let mut all = json!({ "model_name": "m", "output_dir": "o" });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    SftConfig::from_options(all.as_object().unwrap().clone()).unwrap()
}

fn on(name: &str, options: serde_json::Value) -> OnCard {
    let card = *Card::named(name).unwrap();
    of_model(&with(options), &half_billion(), &[card]).unwrap().cards.remove(0)
}

/// The measured peaks and steps of docs/performance.md on an H100.
#[test]
fn memory_is_within_a_tenth_of_what_was_measured() {
    for (options, peak, step) in [
        (json!({ "bf16_weight_update": "exact" }), 10.85, 61.1),
        (json!({}), 9.92, 61.1),
        (json!({ "bf16_weight_update": "exact", "recompute": "block" }), 5.88, 70.8),
        (json!({ "recompute": "block" }), 4.95, 70.7),
        (json!({ "bf16_weight_update": "exact", "recompute": "none", "optim_args": "rank=256" }), 9.66, 59.2),
    ] {
        let card = on("H100", options.clone());
        let found = card.memory.total() as f64 / 1e9;
        assert!((found / peak - 1.0).abs() < 0.1, "{options}: {found:.2} GB, measured {peak}: {:?}", card.memory);
        assert!((card.step_ms / step - 1.0).abs() < 0.1, "{options}: {:.1} ms, measured {step}", card.step_ms);
        assert!(card.fits);
    }
}

#[test]
fn what_does_not_fit_is_told_what_would() {
    let big = on("4090", json!({ "recompute": "none", "per_device_train_batch_size": 64 }));
    assert!(!big.fits);
    assert_eq!(big.to_fit.clone().unwrap(), ["`recompute` block"]);
    let huge = on("3090", json!({ "recompute": "block", "per_device_train_batch_size": 256, "max_length": 4096 }));
    let options = huge.to_fit.unwrap();
    assert!(options[0].starts_with("`per_device_train_batch_size`"), "{options:?}");
    assert!(options[1].starts_with("`gradient_accumulation_steps`"), "{options:?}");
}

#[test]
fn cards_are_found_by_their_usual_names() {
    for (name, expected) in
        [("4090", "RTX4090"), ("NVIDIA GeForce RTX 4090", "RTX4090"), ("a100", "A100-80GB"), ("l40s", "L40S")]
    {
        assert_eq!(Card::named(name).unwrap().name, expected);
    }
    assert_eq!(Card::named("A100-SXM5"), None);
}

#[test]
fn there_is_no_estimate_without_a_longest_row() {
    let error = of_model(&with(json!({ "max_length": 0 })), &half_billion(), CARDS).unwrap_err().to_string();
    assert!(error.contains("max_length"), "{error}");
}
