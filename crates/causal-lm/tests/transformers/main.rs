//! Compares whole models with transformers. `goldens/make_models.py` made the folders.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers outside of test functions fail the test

mod bfloat16;

use causal_lm::{AttentionKind, CausalLm, Error, ModelOptions, Recompute, SamplingOptions, TokenBatch};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const CASES: [&str; 7] =
    ["qwen2-tied", "qwen2-untied", "llama3", "llama-head-dim", "llama-yarn", "llama-longrope", "mistral"];

/// The goldens are found from the package, where cargo runs tests, and from the repository, so that
/// the test binary can run on another machine.
fn folder(case: &str) -> PathBuf {
    let places = ["tests/goldens", "crates/causal-lm/tests/goldens"];
    let goldens = places.into_iter().map(Path::new).find(|place| place.join(case).exists());
    goldens.expect("run in the repository or in crates/causal-lm").join(case)
}

struct Golden(Vec<u8>);

impl Golden {
    fn of(case: &str) -> Self {
        Self(std::fs::read(folder(case).join("golden.safetensors")).unwrap())
    }

    fn get(&self, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        let kind = match view.dtype() {
            safetensors::Dtype::F64 => Kind::Double,
            safetensors::Dtype::I64 => Kind::Int64,
            other => panic!("{other:?}"),
        };
        let shape: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
        Tensor::f_from_data_size(view.data(), &shape, kind).unwrap()
    }

    fn batch(&self) -> TokenBatch {
        self.batch_on(Device::Cpu)
    }

    fn batch_on(&self, device: Device) -> TokenBatch {
        let integers = |name| Vec::<i64>::try_from(self.get(name)).unwrap();
        let lengths: Vec<usize> = integers("lengths").iter().map(|length| *length as usize).collect();
        TokenBatch::new(&integers("input_ids"), &integers("targets"), &lengths, device).unwrap()
    }

    /// Each row is padded on the right to the length of the longest.
    fn padded_batch_on(&self, device: Device) -> TokenBatch {
        let integers = |name| Vec::<i64>::try_from(self.get(name)).unwrap();
        let (ids, targets, lengths) = (integers("input_ids"), integers("targets"), integers("lengths"));
        let longest = *lengths.iter().max().unwrap() as usize;
        let (mut padded_ids, mut padded_targets, mut start) = (Vec::new(), Vec::new(), 0);
        for length in lengths.iter().map(|length| *length as usize) {
            padded_ids.extend_from_slice(&ids[start..start + length]);
            padded_targets.extend_from_slice(&targets[start..start + length]);
            padded_ids.resize(padded_ids.len() + longest - length, 9);
            padded_targets.resize(padded_ids.len(), -100);
            start += length;
        }
        TokenBatch::new(&padded_ids, &padded_targets, &vec![longest; lengths.len()], device).unwrap()
    }
}

fn names(model: &CausalLm) -> Vec<String> {
    model.parameters().specs().iter().map(|spec| spec.name.clone()).collect()
}

fn relative_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let difference = (ours.to_kind(Kind::Double) - theirs).abs().max().double_value(&[]);
    difference / theirs.abs().max().double_value(&[]).max(1e-30)
}

fn load(case: &str, dtype: Kind, change: impl Fn(&mut ModelOptions)) -> CausalLm {
    let mut options = ModelOptions { dtype: Some(dtype), ..Default::default() };
    change(&mut options);
    let (model, report) = CausalLm::load(&folder(case), options).unwrap();
    assert_eq!(report.extra_tensors, Vec::<String>::new());
    model
}

/// Logits, loss and gradients of whole models, computed in ways that must give the same results.
#[test]
fn logits_loss_and_gradients_equal_transformers() {
    for case in CASES {
        let golden = Golden::of(case);
        let batch = golden.batch();
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 2e-5)] {
            for attention in [AttentionKind::Flash, AttentionKind::Eager] {
                // For 30 tokens, one of the two blocks fits in float32, and none in float64.
                let some = Recompute::Within { bytes: 30_000 };
                for (recompute, chunk) in
                    [(Recompute::Block, 1 << 20), (Recompute::None, 200), (Recompute::Cheap, 1 << 20), (some, 1 << 20)]
                {
                    let mut model = load(case, kind, |options| {
                        options.attention = attention;
                        options.recompute = recompute;
                        options.logits_chunk_elements = Some(chunk);
                    });
                    let what = format!("{case} {kind:?} {attention:?} {recompute:?}");
                    let logits = relative_difference(&model.logits(&batch).unwrap(), &golden.get("logits"));
                    assert!(logits < tolerance, "{what}: logits differ by {logits:.1e}");
                    let loss = relative_difference(&model.loss(&batch).unwrap().loss, &golden.get("loss"));
                    assert!(loss < tolerance, "{what}: loss differs by {loss:.1e}");
                    let scale = 1.0 / batch.num_targets() as f64;
                    model.forward_backward(&batch, scale).unwrap();
                    let names = names(&model);
                    for (name, gradient) in names.iter().zip(model.parameters_mut().gradients().unwrap()) {
                        let theirs = golden.get(&format!("gradient.{name}"));
                        // The bias of keys shifts all scores of a query alike, so its gradient is
                        // zero except for rounding errors.
                        let difference = match theirs.abs().max().double_value(&[]) {
                            largest if largest < 1e-12 => gradient.abs().max().double_value(&[]),
                            _ => relative_difference(gradient, &theirs),
                        };
                        assert!(difference < tolerance * 5.0, "{what}: gradient of {name} differs by {difference:.1e}");
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_of_micro_batches_add_up() {
    let (golden, case) = (Golden::of("qwen2-tied"), "qwen2-tied");
    let whole = golden.batch();
    let ids = Vec::<i64>::try_from(golden.get("input_ids")).unwrap();
    let targets = Vec::<i64>::try_from(golden.get("targets")).unwrap();
    let mut model = load(case, Kind::Double, |_| {});
    let scale = 1.0 / whole.num_targets() as f64;
    for (range, lengths) in [(0..14, vec![7, 7]), (14..15, vec![1]), (15..30, vec![12, 3])] {
        let batch = TokenBatch::new(&ids[range.clone()], &targets[range], &lengths, Device::Cpu).unwrap();
        model.forward_backward(&batch, scale).unwrap();
    }
    let parts = model.parameters_mut().flat_gradients().unwrap().copy();
    model.parameters_mut().zero_gradients().unwrap();
    model.forward_backward(&whole, scale).unwrap();
    assert!(relative_difference(&parts, &model.parameters_mut().flat_gradients().unwrap()) < 1e-12);
}

#[test]
fn bfloat16_weights_compute_in_float32_on_the_cpu() {
    let golden = Golden::of("llama3");
    let model = load("llama3", Kind::BFloat16, |_| {});
    assert_eq!(model.compute_dtype(), Kind::Float);
    assert_eq!(model.parameters().flat_weights().kind(), Kind::BFloat16);
    let logits = model.logits(&golden.batch()).unwrap();
    assert_eq!(logits.kind(), Kind::Float);
    // The weights are rounded to 8 bits of mantissa; nothing else differs.
    assert!(relative_difference(&logits, &golden.get("logits")) < 0.03);
    let rounded = load("llama3", Kind::BFloat16, |options| options.compute_dtype = Some(Kind::BFloat16));
    assert!(relative_difference(&rounded.logits(&golden.batch()).unwrap(), &golden.get("logits")) < 0.06);
}

#[test]
fn greedy_continuations_equal_transformers() {
    for case in CASES {
        let golden = Golden::of(case);
        let prompt = Vec::<i64>::try_from(golden.get("input_ids").narrow(0, 0, 7)).unwrap();
        let text = std::fs::read_to_string(folder(case).join("greedy.json")).unwrap();
        let theirs: Vec<i64> = serde_json::from_str(&text).unwrap();
        let options = SamplingOptions { max_new_tokens: 8, eos_token_ids: vec![1], ..Default::default() };
        assert_eq!(load(case, Kind::Float, |_| {}).generate(&prompt, &options).unwrap(), theirs, "{case}");
    }
}

#[test]
fn saved_models_are_what_was_loaded() {
    for case in CASES {
        let target = tempfile::tempdir().unwrap();
        let model = load(case, Kind::Float, |_| {});
        model.save(target.path()).unwrap();
        // transformers' own file and ours: the same tensors, bit for bit.
        let read = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
        let (theirs, ours) = (read(&folder(case)), read(target.path()));
        let (theirs, ours) = (SafeTensors::deserialize(&theirs).unwrap(), SafeTensors::deserialize(&ours).unwrap());
        let mut names = theirs.names();
        names.sort_unstable();
        let mut our_names = ours.names();
        our_names.sort_unstable();
        assert_eq!(names, our_names, "{case}");
        for name in names {
            let (theirs, ours) = (theirs.tensor(name).unwrap(), ours.tensor(name).unwrap());
            assert_eq!((theirs.dtype(), theirs.shape(), theirs.data()), (ours.dtype(), ours.shape(), ours.data()));
        }
        let json = |dir: &Path, file| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(dir.join(file)).unwrap()).unwrap()
        };
        for file in ["config.json", "generation_config.json"] {
            assert_eq!(json(&folder(case), file), json(target.path(), file), "{case} {file}");
        }
    }
}

/// A copy of a case's model files, for the test to damage.
fn copy(case: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        std::fs::copy(folder(case).join(file), target.path().join(file)).unwrap();
    }
    target
}

fn error(dir: &Path) -> String {
    let error: Error = CausalLm::load(dir, ModelOptions::default()).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn damaged_folders_are_named_errors() {
    let case = "qwen2-untied";
    assert!(error(Path::new("/nonexistent/model")).contains("/nonexistent/model/config.json"));

    let target = copy(case);
    let weights = target.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    for length in [0, 4, 100, whole.len() - 1] {
        std::fs::write(&weights, &whole[..length]).unwrap();
        assert!(error(target.path()).contains("model.safetensors is not a complete safetensors file"), "{length}");
    }
    let mut huge_header = whole.clone();
    huge_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&weights, &huge_header).unwrap();
    assert!(error(target.path()).contains("not a complete safetensors file"));
    std::fs::remove_file(&weights).unwrap();
    assert!(error(target.path()).contains("model.safetensors: not found"));
    std::fs::write(target.path().join("pytorch_model.bin"), b"pickle").unwrap();
    assert!(error(target.path()).contains("is a pickle and is never read"));

    let target = copy(case);
    std::fs::write(target.path().join("config.json"), "{\"model_type\": \"qwen2\",").unwrap();
    assert!(error(target.path()).contains("config.json is not valid JSON"));

    // The configuration asks for more than the file has.
    let change = |key: &str, value: serde_json::Value| {
        let target = copy(case);
        let path = target.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        target
    };
    let message = error(change("intermediate_size", 37.into()).path());
    assert!(
        message.contains("tensor model.layers.0.mlp.gate_proj.weight has shape [36, 24]")
            || message.contains("calls for [37, 24]"),
        "{message}"
    );
    let message = error(change("num_hidden_layers", 3.into()).path());
    assert!(message.contains("12 of the model's tensors missing: model.layers.2.self_attn.q_proj.weight"), "{message}");

    // More layers in the file than in the configuration: the model loads, and the report tells.
    let shallow = change("num_hidden_layers", 1.into());
    let (_, report) = CausalLm::load(shallow.path(), ModelOptions::default()).unwrap();
    assert_eq!(report.extra_tensors.len(), 12);
    assert!(report.extra_tensors.iter().all(|name| name.starts_with("model.layers.1.")));
}

#[test]
fn an_index_cannot_leave_its_folder_and_its_shards_must_exist() {
    let target = copy("mistral");
    std::fs::rename(target.path().join("model.safetensors"), target.path().join("model-00001-of-00001.safetensors"))
        .unwrap();
    let index = |file: &str| {
        let text = serde_json::json!({"weight_map": {"model.norm.weight": file}}).to_string();
        std::fs::write(target.path().join("model.safetensors.index.json"), text).unwrap();
    };
    index("model-00001-of-00001.safetensors");
    assert!(CausalLm::load(target.path(), ModelOptions::default()).is_ok());
    index("model-00002-of-00001.safetensors");
    assert!(error(target.path()).contains("model-00002-of-00001.safetensors"));
    for outside in ["../model.safetensors", "/etc/passwd", ".."] {
        index(outside);
        assert!(error(target.path()).contains("not a file of this folder"), "{outside}");
    }
}

#[test]
fn token_ids_past_the_vocabulary_are_refused() {
    let model = load("mistral", Kind::Float, |_| {});
    let batch = TokenBatch::new(&[1, 40], &[-1, -1], &[2], Device::Cpu).unwrap();
    assert!(model.loss(&batch).unwrap_err().to_string().contains("vocab_size 40, found 40"));
}

/// Rows that lie end to end and rows padded on the right to one length give the same results.
#[test]
fn padding_changes_neither_loss_nor_gradients() {
    let golden = Golden::of("llama3");
    let padded = golden.padded_batch_on(Device::Cpu);
    let gradients = |batch: &TokenBatch| {
        let mut model = load("llama3", Kind::Double, |_| {});
        let loss = model.forward_backward(batch, 1.0).unwrap().loss.double_value(&[]);
        (loss, model.parameters_mut().flat_gradients().unwrap())
    };
    let ((flat_loss, flat), (padded_loss, padded)) = (gradients(&golden.batch()), gradients(&padded));
    assert!((flat_loss - padded_loss).abs() < 1e-9 * flat_loss, "{flat_loss} {padded_loss}");
    assert!(relative_difference(&padded, &flat) < 1e-12);
}

/// A folder whose configuration ties the head and whose files hold a different one: transformers
/// takes the head of the files, and so does this crate.
#[test]
fn a_head_of_its_own_is_kept_and_a_copy_is_not() {
    let target = tempfile::tempdir().unwrap();
    let untied = load("qwen2-untied", Kind::Float, |_| {});
    untied.save(target.path()).unwrap();
    let path = target.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["tie_word_embeddings"] = true.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let (model, report) = CausalLm::load(target.path(), ModelOptions::default()).unwrap();
    assert!(report.head_untied && !model.config().tie_word_embeddings);
    let golden = Golden::of("qwen2-untied");
    assert!(relative_difference(&model.logits(&golden.batch()).unwrap(), &golden.get("logits")) < 2e-5);

    // If the files hold the same tensor twice, it is tied, and the report is empty.
    let embedding = |name: &str| {
        let parameters = untied.parameters();
        let index = parameters.specs().iter().position(|spec| spec.name == name).unwrap();
        parameters.weights()[index].shallow_clone()
    };
    embedding("lm_head.weight").copy_(&embedding("model.embed_tokens.weight"));
    untied.save(target.path()).unwrap();
    std::fs::write(&path, config.to_string()).unwrap();
    let (model, report) = CausalLm::load(target.path(), ModelOptions::default()).unwrap();
    assert!(!report.head_untied && model.config().tie_word_embeddings && report.extra_tensors.is_empty());
}

/// With 16-bit arithmetic on float32 weights, gradients are summed in float32.
#[test]
fn wide_weights_have_wide_gradients() {
    let golden = Golden::of("llama3");
    let mut model = load("llama3", Kind::Float, |options| options.compute_dtype = Some(Kind::BFloat16));
    let batch = golden.batch();
    model.forward_backward(&batch, 1.0 / batch.num_targets() as f64).unwrap();
    let names = names(&model);
    for (name, gradient) in names.iter().zip(model.parameters_mut().gradients().unwrap()) {
        assert_eq!(gradient.kind(), Kind::Float);
        let theirs = golden.get(&format!("gradient.{name}"));
        if theirs.abs().max().double_value(&[]) > 1e-12 {
            assert!(relative_difference(gradient, &theirs) < 0.1, "{name}");
        }
    }
}
