mod classes;

use super::*;
use crate::{CausalLm, ModelOptions, TokenBatch};
use serde_json::json;
use tch::Device;

fn parse(value: Value) -> Result<Config, Error> {
    Config::from_json(value, Path::new("model/config.json"))
}

fn with(changes: Value) -> Value {
    let mut value = json!({
        "model_type": "qwen2", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": true,
    });
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    value
}

#[test]
fn both_spellings_give_the_same_model() {
    let old = parse(with(
        json!({"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}, "torch_dtype": "bfloat16"}),
    ))
    .unwrap();
    let new = parse(with(
        json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e6, "factor": 2.0}, "dtype": "bfloat16"}),
    ))
    .unwrap();
    assert_eq!(old.rope, new.rope);
    assert_eq!(
        old.rope,
        RopeParameters { theta: 1e6, scaling: RopeScaling::Linear { factor: 2.0 }, partial_rotary_factor: 1.0 }
    );
    assert_eq!((old.dtype.as_deref(), new.dtype.as_deref()), (Some("bfloat16"), Some("bfloat16")));
    assert_eq!(old.to_json("float32")["torch_dtype"], "float32");
    assert!(old.to_json("float32").get("dtype").is_none());
    assert_eq!(new.to_json("float32")["dtype"], "float32");
}

#[test]
fn biases_follow_the_family() {
    let qwen = parse(with(json!({}))).unwrap();
    assert!(qwen.qkv_bias && !qwen.o_bias && !qwen.mlp_bias);
    let llama = parse(with(json!({"model_type": "llama"}))).unwrap();
    assert!(!llama.qkv_bias && !llama.o_bias && !llama.mlp_bias);
    let biased = parse(with(json!({"model_type": "llama", "attention_bias": true, "mlp_bias": true}))).unwrap();
    assert!(biased.qkv_bias && biased.o_bias && biased.mlp_bias);
}

#[test]
fn null_is_absent_and_unknown_fields_survive() {
    let config =
        parse(with(json!({"head_dim": null, "rope_scaling": null, "sliding_window": null, "my_note": [1, 2]})))
            .unwrap();
    assert_eq!(config.head_dim, 16);
    assert_eq!(config.to_json("bfloat16")["my_note"], json!([1, 2]));
}

#[test]
fn wrong_fields_are_named() {
    for (changes, expected) in [
        (json!({"model_type": "gpt2"}), "model_type \"gpt2\" is not supported"),
        (json!({"model_type": null}), "model_type is missing"),
        (json!({"hidden_size": "64"}), "hidden_size is \"64\", must be a whole number above 0"),
        (json!({"hidden_size": -64}), "hidden_size is -64"),
        (json!({"vocab_size": 9_000_000_000_000_000_000_u64}), "vocab_size is"),
        (json!({"vocab_size": null}), "vocab_size is missing"),
        (json!({"num_hidden_layers": 2_000_000_000}), "num_hidden_layers is 2000000000, must be 10000 or less"),
        (json!({"head_dim": 2_000_000_000}), "head_dim with hidden_size 64 makes a matrix of more than"),
        (json!({"num_attention_heads": 5}), "hidden_size 64 is not a multiple"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads 3 does not divide"),
        (json!({"hidden_act": "gelu"}), "hidden_act \"gelu\" is not supported"),
        (json!({"model_type": "mistral", "sliding_window": 0}), "sliding_window is 0, must be a whole number above 0"),
        (json!({"is_causal": false}), "is_causal other than true asks for attention to later tokens"),
        (json!({"per_layer_config": {"0": {}}}), "per_layer_config makes layers differ"),
        (json!({"eos_token_id": [1, "x"]}), "eos_token_id is [1,\"x\"], must be a token id"),
        (json!({"layer_types": ["sliding_attention"]}), "layer_types has 1 entries, num_hidden_layers is 2"),
        (json!({"hidden_act": "a\u{202e}b"}), "hidden_act \"a\\u{202e}b\" is not supported"),
        (json!({"attention_dropout": 0.1}), "attention_dropout 0.1 is not supported"),
        (
            json!({"rope_scaling": {"rope_type": "xpos", "factor": 4.0}}),
            "rope_scaling.rope_type \"xpos\" is not supported",
        ),
        (json!({"rope_parameters": {"rope_type": "linear"}}), "rope_parameters.factor is missing"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types has \"sliding_attention\""),
    ] {
        let message = parse(with(changes)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("model/config.json: {expected}")), "{message}");
    }
    assert!(parse(json!([])).unwrap_err().to_string().contains("must be a JSON object"));
}

#[test]
fn mistral_with_a_window_as_long_as_its_positions_is_full_attention() {
    assert!(parse(with(json!({"model_type": "mistral", "sliding_window": 512}))).is_ok());
}

#[test]
fn a_window_limits_rows_and_is_refused_only_for_longer_ones() {
    let longest = |changes: Value| parse(with(changes)).unwrap().longest_row().map(std::num::NonZeroUsize::get);
    assert_eq!(longest(json!({"model_type": "mistral"})), Some(4096));
    assert_eq!(longest(json!({"model_type": "mistral", "sliding_window": null})), None);
    assert_eq!(longest(json!({"model_type": "mistral", "sliding_window": 128})), Some(128));
    let qwen = json!({"use_sliding_window": true, "sliding_window": 128, "max_window_layers": 1});
    assert_eq!(longest(qwen), Some(128));
    assert_eq!(longest(json!({"use_sliding_window": true, "sliding_window": 128})), None, "28 layers come first");
    assert_eq!(longest(json!({"sliding_window": 128})), None);

    let config = parse(with(json!({"model_type": "mistral", "sliding_window": 3}))).unwrap();
    let model = CausalLm::zeros(config, ModelOptions::default()).unwrap();
    let batch = |lengths: &[usize]| {
        let ids = vec![1; lengths.iter().sum()];
        TokenBatch::new(&ids, &ids, lengths, Device::Cpu).unwrap()
    };
    model.loss(&batch(&[3, 3])).unwrap();
    let message = model.loss(&batch(&[1, 4])).unwrap_err().to_string();
    assert!(message.starts_with("a row has 4 tokens; config.json sets a sliding window of 3"), "{message}");
}

#[test]
fn quantised_weights_are_refused_before_anything_else() {
    for (value, how) in [
        (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), " (bitsandbytes, 4 bits)"),
        (json!({"load_in_8bit": true, "load_in_4bit": false}), " (bitsandbytes, 8 bits)"),
        (json!({"quant_method": "gptq", "bits": 4}), " (gptq, 4 bits)"),
        (json!({"quant_method": "awq", "bits": 4, "version": "gemm"}), " (awq, 4 bits)"),
        (json!({"quant_method": "fp8", "fmt": "e4m3"}), " (fp8, e4m3)"),
        (
            json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}),
            " (compressed-tensors, pack-quantized)",
        ),
        (json!({"quant_method": "mxfp4"}), " (mxfp4)"),
        (json!("int4"), ""),
    ] {
        let message =
            parse(with(json!({"model_type": "gpt_oss", "quantization_config": value}))).unwrap_err().to_string();
        let expected = format!(
            "model/config.json: quantization_config says that the weights are quantised{how}, which cannot be trained: use \
             the model's unquantised checkpoint"
        );
        assert_eq!(message, expected);
    }
    assert!(parse(with(json!({"quantization": {"group_size": 64, "bits": 4}}))).is_err());
    assert!(parse(with(json!({"quantization_config": null}))).is_ok());
}

#[test]
fn fields_without_effect_are_named() {
    let ignored = |changes: Value| parse(with(changes)).unwrap().ignored_fields;
    let quiet = json!({
        "architectures": ["Qwen2ForCausalLM"], "transformers_version": "5.17.0", "_name_or_path": "x", "auto_map": {},
        "use_cache": true, "temperature": 0.7, "pretraining_tp": 2, "use_mrope": false, "no_such": null, "id2label": {},
        "attention_bias": false, "sliding_window": 64, "max_window_layers": 1, "eos_token_id": [1, 2],
    });
    assert_eq!(ignored(quiet), Vec::<String>::new());
    let said = json!({
        "atention_dropout": 0.1, "attention_bias": true, "logits_scaling": 8.0,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "beta_fast": 32},
    });
    assert_eq!(ignored(said), ["rope_parameters.beta_fast", "atention_dropout", "attention_bias", "logits_scaling"]);
    let both = json!({"rope_parameters": {"rope_theta": 1e6}, "rope_scaling": {"rope_type": "linear", "type": "dynamic", "factor": 2}});
    assert_eq!(ignored(both), ["rope_parameters (rope_scaling takes its place)", "rope_scaling.type"]);
    assert_eq!(ignored(json!({"model_type": "llama", "sliding_window": 64})), ["sliding_window"]);
}

/// Values computed by transformers 5.17's ROPE_INIT_FUNCTIONS: first, middle and last of eight
/// frequencies (head size 16).
#[test]
fn stretched_frequencies_equal_transformers() {
    let read = |rope: Value, longest| {
        let config = parse(with(json!({"rope_parameters": rope}))).unwrap();
        Vec::<f32>::try_from(config.rope.inverse_frequencies(16, longest, Device::Cpu).unwrap()).unwrap()
    };
    let golden: Value = serde_json::from_str(include_str!("../../tests/goldens/rope.json")).unwrap();
    for case in golden.as_array().unwrap() {
        let ours = read(case["rope_parameters"].clone(), case["seq_len"].as_i64().unwrap());
        let theirs: Vec<f32> = serde_json::from_value(case["inv_freq"].clone()).unwrap();
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() <= 2e-7 * b.abs(), "{}: {ours:?} {theirs:?}", case["rope_parameters"]);
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

#[test]
fn families_have_the_names_of_model_type() {
    for (name, family) in [("qwen2", Family::Qwen2), ("llama", Family::Llama), ("mistral", Family::Mistral)] {
        assert_eq!(name.parse::<Family>().unwrap(), family);
        assert_eq!(family.to_string(), name);
    }
    assert!("Qwen2".parse::<Family>().is_err());
}
