//! The targets: which files are read, and how.

mod datasets;
mod encoding;

use crate::mutate::Content;
use crate::{Seed, Target};
use causal_lm::{CausalLm, Config, ModelOptions, TokenBatch};
use checkpoint_callbacks::{DirectoryStore, EarlyStopping, LossSpike, Publication, publish, verify};
use galore_optim::{AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, Optimizer, Parameter, ParameterGroup, WeightUpdate};
use sft_data::{
    AddGenerationPrompt, AddSpecialTokens, ChatTokenizer, DatasetConfig, LocalFiles, PackingStrategy, PrepareConfig,
    Row, SpecialTokensInText,
};
use sft_trainer::{RUN_FILE, RunFile};
use std::io::Write as _;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use trainer_core::testing::{PlainStore, ToyLearner, ToySource};
use trainer_core::{CheckpointStore, IntervalStrategy, MetricsFile, SaveStrategy, Trainer, TrainingArguments};
use whole_program_tests::goldens;

/// A JSON `Value` takes 32 bytes, and in an object also its key and entry. For `{"":{"":…` this is
/// some 40 times the text.
const JSON: usize = 200;

/// With such a small vocabulary nearly every byte becomes a token, and the tokenizers library uses
/// some 400 bytes per token while it encodes.
const TOKENS: usize = 400;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(goldens::path(name)).unwrap()
}

/// A file of the goldens of another crate.
fn data_golden(name: &str) -> Vec<u8> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    std::fs::read(crates.join("sft-data/tests/goldens").join(name)).unwrap()
}

fn seed(name: &'static str, bytes: Vec<u8>, content: Content) -> Seed {
    Seed { name, bytes, content }
}

#[test]
fn config() {
    let target = Target {
        seeds: vec![
            seed("config.json", golden("models/llama/config.json"), Content::Json),
            seed("generation_config.json", golden("models/llama/generation_config.json"), Content::Json),
        ],
        beside: vec![("model.safetensors", golden("models/llama/model.safetensors"))],
        bytes_per_byte: JSON,
        read: Box::new(|dir, _| {
            if Config::from_dir(dir).is_ok()
                && let Ok((model, _)) = CausalLm::load(dir, ModelOptions::default())
            {
                let _ = model.loss(&TokenBatch::new(&[1, 2, 3], &[2, 3, -1], &[3], Device::Cpu).unwrap());
                let _ = model.files();
            }
        }),
    };
    target.fuzz("config");
}

#[test]
fn weights() {
    let target = Target {
        seeds: vec![seed("model.safetensors", golden("models/qwen2/model.safetensors"), Content::Safetensors)],
        beside: vec![("config.json", golden("models/qwen2/config.json"))],
        bytes_per_byte: JSON,
        read: Box::new(|dir, _| drop(CausalLm::load(dir, ModelOptions::default()))),
    };
    target.fuzz("weights");
}

#[test]
fn weights_index() {
    let weights = golden("models/qwen2/model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&weights).unwrap();
    let mut names: Vec<&str> = file.names();
    names.sort_unstable();
    let (first, second) = names.split_at(names.len() / 2);
    let shard = |names: &[&str]| {
        safetensors::serialize(names.iter().map(|name| (*name, file.tensor(name).unwrap())), None).unwrap()
    };
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let map: serde_json::Map<_, _> = first
        .iter()
        .map(|name| (name, one))
        .chain(second.iter().map(|name| (name, two)))
        .map(|(name, file)| ((*name).to_owned(), file.into()))
        .collect();
    let index = serde_json::json!({"metadata": {"total_size": weights.len()}, "weight_map": map});
    let target = Target {
        seeds: vec![
            seed("model.safetensors.index.json", index.to_string().into_bytes(), Content::Json),
            seed(one, shard(first), Content::Safetensors),
        ],
        beside: vec![("config.json", golden("models/qwen2/config.json")), (two, shard(second))],
        bytes_per_byte: JSON,
        read: Box::new(|dir, _| drop(CausalLm::load(dir, ModelOptions::default()))),
    };
    target.fuzz("weights_index");
}

#[test]
fn checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments {
        output_dir: folder.path().to_owned(),
        eval_strategy: IntervalStrategy::Epoch,
        save_strategy: SaveStrategy::Epoch,
        logging_steps: 1.0,
        num_train_epochs: 2.0,
        ..TrainingArguments::documented_recipe()
    };
    let (rows, eval_rows) = (ToySource::new(20, 8), ToySource::new(4, 8));
    let mut store = PlainStore::new(folder.path());
    Trainer::builder(arguments.clone(), &mut ToyLearner::default(), &rows)
        .eval_source(&eval_rows)
        .store(&mut store)
        .callback(EarlyStopping::new(9))
        .callback(LossSpike::new(2.0))
        .build()
        .unwrap()
        .train()
        .unwrap();
    let file = |name| std::fs::read(store.path(3).join(name)).unwrap();
    let files: Vec<(&str, Vec<u8>)> = std::fs::read_dir(store.path(3))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().leak() as &str)
        .map(|name| (name, file(name)))
        .filter(|(name, _)| !["trainer_state.json", "training_progress.json"].contains(name))
        .collect();
    let target = Target {
        seeds: vec![
            seed("trainer_state.json", file("trainer_state.json"), Content::Json),
            seed("training_progress.json", file("training_progress.json"), Content::Json),
        ],
        beside: files,
        bytes_per_byte: JSON,
        read: Box::new(move |dir, _| {
            let arguments = TrainingArguments { save_strategy: SaveStrategy::No, ..arguments.clone() };
            let (mut learner, mut store) = (ToyLearner::default(), PlainStore::new(dir));
            let mut trainer = Trainer::builder(arguments, &mut learner, &rows)
                .eval_source(&eval_rows)
                .store(&mut store)
                .callback(EarlyStopping::new(9))
                .callback(LossSpike::new(2.0))
                .callback(MetricsFile::new(dir.join(MetricsFile::FILE_NAME)))
                .build()
                .unwrap();
            if trainer.resume_from(dir).is_ok() {
                let _ = trainer.train();
            }
        }),
    };
    target.fuzz("checkpoint");
}

#[test]
fn manifest() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(folder.path()).unwrap();
    let path = {
        let model = Path::new("model.safetensors");
        store.save(1, Box::new(move |folder| folder.write_file(model, &mut |file| Ok(file.write_all(&[7; 5000])?))));
        store.wait().unwrap().outcome.unwrap()
    };
    let target = Target {
        seeds: vec![seed("manifest.json", std::fs::read(path.join("manifest.json")).unwrap(), Content::Json)],
        beside: vec![("model.safetensors", vec![7; 5000])],
        bytes_per_byte: JSON,
        read: Box::new(|dir, _| {
            let _ = verify(dir);
            let _ = publish(dir, &dir.join("published"), Publication::default());
        }),
    };
    target.fuzz("manifest");
}

#[test]
fn run_file() {
    let run = serde_json::json!({
        "model_name": "models/qwen2", "dataset_name": "data", "train_rows": "ab12", "eval_rows": "cd34",
        "model_config": "ef56", "dtype": "BFloat16",
        "optimizer": {
            "optim": "galore_adamw", "optim_args": {"rank": 4, "update_proj_gap": 5, "scale": 1.0},
            "optim_target_modules": ["attn", "mlp"], "bf16_weight_update": "exact", "optim_state_dtype": "bfloat16",
            "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6, "weight_decay": 0.0},
        },
    });
    let run: RunFile = serde_json::from_value(run).unwrap();
    let target = Target {
        seeds: vec![seed(RUN_FILE, run.to_text().unwrap().into_bytes(), Content::Json)],
        beside: vec![],
        bytes_per_byte: JSON,
        read: Box::new(move |dir, _| drop(run.check(dir))),
    };
    target.fuzz("run_file");
}

fn optimizer(galore: bool) -> Box<dyn Optimizer> {
    let parameters = |shapes: &[&[i64]]| {
        let parameter = |(index, shape): (usize, &&[i64])| Parameter {
            name: format!("p{index}-{}", shape.len()),
            weight: Tensor::zeros(*shape, (Kind::BFloat16, Device::Cpu)),
            gradient: Some(Tensor::ones(*shape, (Kind::Float, Device::Cpu))),
        };
        shapes.iter().enumerate().map(parameter).collect::<Vec<_>>()
    };
    let group = |shapes: &[&[i64]]| ParameterGroup::new(parameters(shapes), AdamConfig::galore_default());
    let mut optimizer: Box<dyn Optimizer> = if galore {
        let config = GaLoreConfig { rank: 4.into(), ..GaLoreConfig::default() };
        Box::new(
            GaLoreAdamW::new(
                vec![group(&[&[10, 16], &[16, 10]]).with_galore(config), group(&[&[9]])],
                WeightUpdate::Exact,
            )
            .unwrap(),
        )
    } else {
        Box::new(AdamW::new(vec![group(&[&[10, 16], &[9]])], WeightUpdate::Stochastic { seed: 3 }).unwrap())
    };
    optimizer.step(1e-3).unwrap();
    optimizer
}

#[test]
fn optimizer_state() {
    for (name, galore) in [("optimizer", true), ("optimizer_adamw", false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        // The first step starts threads, whose memory is not what another target is measured by.
        let loaded = {
            let _turn = crate::one_at_a_time();
            optimizer(galore).save(&path).unwrap();
            std::cell::RefCell::new(optimizer(galore))
        };
        let target = Target {
            seeds: vec![seed("optimizer.safetensors", std::fs::read(&path).unwrap(), Content::Safetensors)],
            beside: vec![],
            bytes_per_byte: JSON,
            read: Box::new(move |_, path| {
                if loaded.borrow_mut().load(path).is_ok() {
                    let _ = loaded.borrow_mut().step(1e-3);
                }
            }),
        };
        target.fuzz(name);
    }
}
