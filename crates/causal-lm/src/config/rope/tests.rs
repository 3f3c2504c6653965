use super::*;
use crate::families::{Family, Ropes};
use serde_json::json;
use std::path::Path;
use tch::Device;

const SIZES: RopeSizes = RopeSizes { head_dim: 16, max_position_embeddings: 512 };

fn read(model_type: &str, changes: &Value) -> Result<(Vec<RopeParameters>, Vec<String>), Error> {
    let object = changes.as_object().unwrap();
    let fields = Fields::new(object, Path::new("config.json"));
    let family: Family = model_type.parse().unwrap();
    match &family.definition().rope {
        Ropes::One(class) => RopeParameters::read(&fields, class, SIZES).map(|(rope, ignored)| (vec![rope], ignored)),
        Ropes::ByWindow(types) => RopeParameters::read_for_layer_types(&fields, types, SIZES)
            .map(|(ropes, ignored)| (ropes.to_vec(), ignored)),
    }
}

/// Values of transformers' classes and functions (make_rope_kinds.py).
#[test]
fn kinds_equal_transformers() {
    #[derive(serde::Deserialize)]
    struct Layer {
        theta: f64,
        inv_freq: Vec<f32>,
        attention_factor: f64,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        model_type: String,
        changes: Value,
        seq_len: i64,
        layers: Vec<Layer>,
    }
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/goldens/rope_kinds.json")).unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let what = format!("{} {} {}", case.model_type, case.changes, case.seq_len);
        let (ours, ignored) = read(&case.model_type, &case.changes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(ignored, [""; 0], "{what}");
        assert_eq!(ours.len(), case.layers.len());
        for (ours, theirs) in ours.iter().zip(case.layers) {
            assert_eq!(ours.theta, theirs.theta, "{what}");
            assert!((ours.attention_factor() - theirs.attention_factor).abs() < 1e-15, "{what}: {ours:?}");
            let frequencies = ours.inverse_frequencies(16, case.seq_len, Device::Cpu).unwrap();
            let frequencies = Vec::<f32>::try_from(frequencies).unwrap();
            assert_eq!(frequencies.len() as i64 * 2, ours.rotated(16), "{what}");
            assert_eq!(frequencies.len(), theirs.inv_freq.len(), "{what}");
            for (one, other) in frequencies.iter().zip(&theirs.inv_freq) {
                assert!((one - other).abs() <= 2e-7 * other.abs(), "{what}: {frequencies:?} {:?}", theirs.inv_freq);
            }
        }
    }
}

#[test]
fn fields_that_do_not_fit_are_named() {
    let list = |length: usize| vec![1.5; length];
    for (model_type, changes, expected) in [
        ("llama", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor other than 1 is not supported"),
        (
            "phi3",
            json!({"partial_rotary_factor": 0.33}),
            "partial_rotary_factor is 0.33, which rotates 5 of 16 values of a head; it must be an even number of them",
        ),
        ("phi3", json!({"partial_rotary_factor": 1.5}), "partial_rotary_factor is 1.5, which rotates 24 of 16"),
        (
            "phi3",
            json!({"rope_scaling": {"type": "su", "short_factor": list(7), "long_factor": list(8)}}),
            "rope_scaling.short_factor has 7 entries, must be a list of 8 numbers above 0",
        ),
        (
            "llama",
            json!({"rope_scaling": {"type": "longrope", "short_factor": list(8)}}),
            "rope_scaling.long_factor is missing; it must be a list of 8 numbers above 0",
        ),
        (
            "llama",
            json!({"rope_scaling": {"type": "longrope", "short_factor": "all", "long_factor": list(8)}}),
            "rope_scaling.short_factor is \"all\", must be a list",
        ),
        (
            "llama",
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 0], "long_factor": list(8)}}),
            "rope_scaling.short_factor has 0, must be a list",
        ),
        (
            "llama",
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1e-60], "long_factor": list(8)}}),
            "rope_scaling.short_factor has 1e-60, must be a list",
        ),
        (
            "llama",
            json!({"rope_scaling": {"type": "longrope", "short_factor": list(8), "long_factor": list(8),
                                    "original_max_position_embeddings": 1}}),
            "rope_scaling.attention_factor is inf when it is computed from the other fields; state a number",
        ),
        (
            "llama",
            json!({"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 2}}),
            "rope_scaling.rope_theta is 1, with which yarn has no frequencies",
        ),
        ("llama", json!({"rope_scaling": {"type": "su"}}), "rope_scaling.type \"su\" is not supported"),
        ("llama", json!({"rope_scaling": {"rope_type": "yarn"}}), "rope_scaling.factor is missing"),
        (
            "llama",
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 2, "truncate": 1}}),
            "rope_scaling.truncate is 1",
        ),
        (
            "gemma3_text",
            json!({"rope_parameters": {"sliding_attention": {"rope_type": "linear"}}}),
            "rope_parameters.sliding_attention.factor is missing",
        ),
        ("gemma3_text", json!({"rope_parameters": {"full_attention": 3}}), "rope_parameters.full_attention is 3"),
    ] {
        let message = read(model_type, &changes).unwrap_err().to_string();
        assert!(message.starts_with(&format!("config.json: {expected}")), "{message}");
    }
    let (_, ignored) =
        read("gemma3_text", &json!({"rope_parameters": {"rope_theta": 1e4, "full_attention": {}}})).unwrap();
    assert_eq!(ignored, ["rope_parameters.rope_theta"]);
}
