use super::*;
use crate::{CausalLm, Config, ModelOptions};

fn model(dtype: Kind) -> CausalLm {
    let value = json!({
        "model_type": "qwen2", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": true, "torch_dtype": "float32", "custom": {"kept": true},
    });
    let config = Config::from_json(value, Path::new("config.json")).unwrap();
    let mut model = CausalLm::zeros(config, ModelOptions { dtype: Some(dtype), ..Default::default() }).unwrap();
    model.initialise(1).unwrap();
    model
}

#[test]
fn shards_load_again_bit_for_bit_in_every_type() {
    for dtype in [Kind::Float, Kind::BFloat16, Kind::Half] {
        let model = model(dtype);
        let folder = tempfile::tempdir().unwrap();
        save_in_shards(&model, folder.path(), 3000).unwrap();
        let index: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("model.safetensors.index.json")).unwrap())
                .unwrap();
        let size = dtype.elt_size_in_bytes() as i64;
        assert_eq!(index["metadata"]["total_size"], model.parameters().num_parameters() * size);
        assert_eq!(index["weight_map"].as_object().unwrap().len(), model.parameters().specs().len());
        // config.json states the type, so the options need not.
        let (loaded, report) = CausalLm::load(folder.path(), ModelOptions::default()).unwrap();
        assert!(report.extra_tensors.is_empty());
        assert_eq!(loaded.parameters().flat_weights(), model.parameters().flat_weights());
        assert_eq!(loaded.config().raw["custom"], json!({"kept": true}));
        assert_eq!(
            loaded.config().raw["torch_dtype"],
            match dtype {
                Kind::Float => "float32",
                Kind::Half => "float16",
                _ => "bfloat16",
            }
        );
    }
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let message = model(Kind::Float).save(Path::new("/nonexistent/out")).unwrap_err().to_string();
    assert!(message.starts_with("cannot write /nonexistent/out/config.json"), "{message}");
}

#[test]
fn a_snapshot_keeps_its_weights_and_the_next_one_uses_its_memory_again() {
    let content = |files: Vec<ModelFile>| -> Vec<(String, Vec<u8>)> {
        let write = |file: &ModelFile| {
            let mut bytes = Vec::new();
            file.write_to(&mut bytes).unwrap();
            (file.name().to_owned(), bytes)
        };
        files.iter().map(write).collect()
    };
    let (model, memory) = (model(Kind::BFloat16), HostBufferPool::default());
    let weight_bytes = 2 * model.parameters().num_parameters() as usize;
    for step in 0..3 {
        let expected = content(model.files().unwrap());
        let snapshot = model.snapshot(&memory).unwrap();
        assert_eq!(memory.idle_bytes(), 0, "step {step}");
        let _ = model.parameters().flat_weights().shallow_clone().f_add_scalar_(1.0).unwrap();
        assert!(content(snapshot) == expected, "step {step}");
        assert_eq!(memory.idle_bytes(), weight_bytes, "step {step}");
    }
}

#[test]
fn files_are_those_of_the_safetensors_crate_byte_for_byte() {
    for dtype in [Kind::Float, Kind::BFloat16] {
        let model = model(dtype);
        let specs = model.parameters().specs().iter();
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = specs
            .zip(model.parameters().weights())
            .map(|(spec, weight)| {
                let mut bytes = vec![0; weight.numel() * dtype.elt_size_in_bytes()];
                weight.copy_data_u8(&mut bytes, weight.numel());
                (spec.name.clone(), spec.shape.iter().map(|size| *size as usize).collect(), bytes)
            })
            .collect();
        let view_dtype = if dtype == Kind::Float { Dtype::F32 } else { Dtype::BF16 };
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (name.as_str(), safetensors::tensor::TensorView::new(view_dtype, shape.clone(), bytes).unwrap())
        });
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let expected = safetensors::serialize(views, Some(format)).unwrap();
        let files = model.files().unwrap();
        let file = files.iter().find(|file| file.name() == "model.safetensors").unwrap();
        let mut found = Vec::new();
        file.write_to(&mut found).unwrap();
        assert!(found == expected, "{dtype:?}");
    }
}
