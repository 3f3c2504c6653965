use super::*;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// A folder with a small model of type `kind`.
fn folder(kind: Kind, change: impl FnOnce(&CausalLm)) -> tempfile::TempDir {
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 2, "no_such_setting": 3
    });
    let config = Config::from_json(json, "config.json".as_ref()).unwrap();
    let mut model = CausalLm::zeros(config, ModelOptions { dtype: Some(kind), ..Default::default() }).unwrap();
    model.initialise(1).unwrap();
    change(&model);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    folder
}

fn error(folder: &Path, options: ModelOptions) -> String {
    CausalLm::load(folder, options).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn values_that_are_not_finite_are_errors_that_name_file_and_tensor() {
    for (kind, dtype) in [(Kind::Float, "float32"), (Kind::BFloat16, "bfloat16"), (Kind::Half, "float16")] {
        for wrong in [f64::NAN, f64::INFINITY] {
            let folder = folder(kind, |model| {
                let _ = model.parameters().weights()[5].view([-1]).narrow(0, 3, 1).fill_(wrong);
            });
            let message = error(folder.path(), ModelOptions::default());
            let file = folder.path().join("model.safetensors");
            assert!(message.starts_with(&format!("{}: tensor model.layers.", file.display())), "{message}");
            assert!(message.contains(&format!("has values that are NaN or infinite as {dtype}")), "{message}");
        }
    }
    // A value that float16 does not have.
    let large = folder(Kind::Float, |model| {
        let _ = model.parameters().weights()[2].view([-1]).narrow(0, 0, 1).fill_(1e6);
    });
    assert!(CausalLm::load(large.path(), ModelOptions::default()).is_ok());
    let message = error(large.path(), ModelOptions { dtype: Some(Kind::Half), ..Default::default() });
    assert!(message.contains("NaN or infinite as float16"), "{message}");
}

#[test]
fn what_has_no_effect_and_what_is_not_known_is_reported() {
    let folder = folder(Kind::Float, |_| {});
    let (_, report) = CausalLm::load(folder.path(), ModelOptions::default()).unwrap();
    assert_eq!(report.ignored_fields, ["no_such_setting"]);
    let path = folder.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["dtype"] = "float64".into();
    std::fs::write(&path, config.to_string()).unwrap();
    let message = error(folder.path(), ModelOptions::default());
    assert!(message.contains("config.json: dtype is \"float64\"; float32, bfloat16 and float16"), "{message}");
    let chosen = ModelOptions { dtype: Some(Kind::Float), ..Default::default() };
    assert!(CausalLm::load(folder.path(), chosen).is_ok());
}

#[test]
fn folders_without_safetensors_say_what_they_have() {
    for (file, expected) in [
        ("pytorch_model.bin", "is a pickle and is never read"),
        ("adapter_model.safetensors", "the folder holds an adapter: merge it"),
        ("model-q4.gguf", "GGUF files are not read"),
        ("notes.txt", "nor model.safetensors.index.json"),
    ] {
        let folder = folder(Kind::Float, |_| {});
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        std::fs::write(folder.path().join(file), "x").unwrap();
        let message = error(folder.path(), ModelOptions::default());
        assert!(message.contains("model.safetensors: not found") && message.contains(expected), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn weights_are_regular_files_of_the_folder() {
    let folder = folder(Kind::Float, |_| {});
    let (weights, elsewhere) = (folder.path().join("model.safetensors"), tempfile::tempdir().unwrap());
    std::fs::rename(&weights, elsewhere.path().join("weights")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("weights"), &weights).unwrap();
    let message = error(folder.path(), ModelOptions::default());
    assert!(message.contains("model.safetensors: it is a link to"), "{message}");
    std::fs::remove_file(&weights).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&weights).status().unwrap().success());
    let message = error(folder.path(), ModelOptions::default());
    assert!(message.ends_with("model.safetensors: it is not a regular file"), "{message}");
}

#[test]
fn damaged_headers_are_described_in_plain_words() {
    let folder = folder(Kind::Float, |_| {});
    let weights = folder.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let with_header = |header: &str| [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    for (content, expected) in [
        (whole[..5].to_vec(), "it ends before its header"),
        (whole[..whole.len() - 1].to_vec(), "the file is cut off or too long"),
        (with_header("{\"a\": 3}"), "its header is not a JSON list of tensors"),
        (with_header("{\"a\": {\"dtype\": \"F99\"}}"), "its header is not a JSON list of tensors"),
    ] {
        std::fs::write(&weights, content).unwrap();
        let message = error(folder.path(), ModelOptions::default());
        assert!(message.ends_with(expected), "{message}");
    }
}

/// The numbers of events for a progress bar.
#[derive(Clone, Default)]
struct Progress(Arc<Mutex<Vec<(u64, u64)>>>);

#[derive(Default)]
struct Numbers {
    done: u64,
    total: u64,
}

impl Visit for Numbers {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "done" => self.done = value,
            "total" => self.total = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl<S: Subscriber> Layer<S> for Progress {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "progress" {
            let mut numbers = Numbers::default();
            event.record(&mut numbers);
            self.0.lock().unwrap().push((numbers.done, numbers.total));
        }
    }
}

#[test]
fn loading_tells_its_progress_up_to_the_end() {
    let progress = Progress::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(progress.clone()), || {
        let mut loading = LoadingProgress::new(10 << 20);
        for _ in 0..10 {
            loading.add(1 << 20);
        }
    });
    let told = progress.0.lock().unwrap().clone();
    assert_eq!(told, [(4 << 20, 10 << 20), (8 << 20, 10 << 20), (10 << 20, 10 << 20)]);

    let (progress, folder) = (Progress::default(), folder(Kind::Float, |_| {}));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(progress.clone()), || {
        CausalLm::load(folder.path(), ModelOptions::default()).unwrap();
    });
    let told = progress.0.lock().unwrap().clone();
    assert!(matches!(told.as_slice(), [(done, total)] if done == total && *done > 0), "{told:?}");
}
