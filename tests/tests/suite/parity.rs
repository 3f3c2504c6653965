//! Compares runs with what Hugging Face TRL logs for the same models, rows and settings
//! (`goldens/make_parity.py`).

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use whole_program_tests::{Case, Results, goldens};

/// The largest allowed differences, relative to TRL's figures.
struct Tolerances {
    loss: f64,
    grad_norm: f64,
    eval_loss: f64,
}

const ADAMW: Tolerances = Tolerances { loss: 1e-4, grad_norm: 1e-3, eval_loss: 1e-4 };
/// The basis comes from a decomposition. The last bits of a gradient change it more than they
/// change a weight.
const GALORE: Tolerances = Tolerances { loss: 2e-3, grad_norm: 1e-3, eval_loss: 1e-4 };

#[test]
fn qwen2_adamw_torch() -> Result<()> {
    compare("qwen2", "adamw_torch", &ADAMW)
}

#[test]
fn qwen2_galore_low_rank() -> Result<()> {
    compare("qwen2", "galore_low_rank", &GALORE)
}

#[test]
fn qwen2_galore_full_rank() -> Result<()> {
    compare("qwen2", "galore_full_rank", &GALORE)
}

#[test]
fn llama_adamw_torch() -> Result<()> {
    compare("llama", "adamw_torch", &ADAMW)
}

#[test]
fn llama_galore_low_rank() -> Result<()> {
    compare("llama", "galore_low_rank", &GALORE)
}

#[test]
fn llama_galore_full_rank() -> Result<()> {
    compare("llama", "galore_full_rank", &GALORE)
}

/// Both cases, without and with gradient accumulation.
fn compare(architecture: &str, optimizer: &str, tolerances: &Tolerances) -> Result<()> {
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(goldens::path("parity.json"))?)?;
    let cases = cases.as_array().context("parity.json is no array")?;
    let wanted = |case: &&Value| case["architecture"] == architecture && case["optimizer"] == optimizer;
    let cases: Vec<_> = cases.iter().filter(wanted).collect();
    let accumulations: Vec<_> = cases.iter().map(|case| &case["settings"]["gradient_accumulation_steps"]).collect();
    ensure!(accumulations == [1, 3], "goldens with accumulation {accumulations:?}");
    for golden in cases {
        let outcome = compare_one(architecture, golden, tolerances);
        outcome.with_context(|| format!("accumulation {}", golden["settings"]["gradient_accumulation_steps"]))?;
    }
    Ok(())
}

fn compare_one(architecture: &str, golden: &Value, tolerances: &Tolerances) -> Result<()> {
    let case = Case::new()?;
    let mut training = case.training(&goldens::model(architecture), &goldens::words()).flag("dtype", "float32");
    for (name, value) in golden["settings"].as_object().context("no settings")? {
        training = training.flag(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    training.run()?.succeeded()?;
    let ours = Results::in_folder(case.output_dir());
    let theirs = &golden["logged"];

    // Compares one key and returns our values.
    let close = |key: &str, tolerance: f64| -> Result<Vec<f64>> {
        let (ours, theirs) = (ours.logged(key)?, numbers(&theirs[key])?);
        ensure!(ours.len() == theirs.len(), "{} of {key}, expected {}", ours.len(), theirs.len());
        for (index, (our, their)) in ours.iter().zip(&theirs).enumerate() {
            let is_close = (our - their).abs() <= tolerance * their.abs();
            ensure!(is_close, "{key} {} of {}: {our}, TRL has {their}", index + 1, ours.len());
        }
        Ok(ours)
    };
    let losses = close("loss", tolerances.loss)?;
    close("grad_norm", tolerances.grad_norm)?;
    close("eval_loss", tolerances.eval_loss)?;
    close("learning_rate", 1e-12)?;
    close("num_tokens", 0.0)?;
    // Over several micro-batches TRL takes the mean of means. Ours is the mean over tokens.
    if golden["settings"]["gradient_accumulation_steps"] == 1 {
        close("mean_token_accuracy", 1e-6)?;
    }
    let entries = ours.log_history()?;
    let evaluations = entries.iter().filter(|entry| entry.contains_key("eval_loss"));
    let steps: Vec<f64> = evaluations.filter_map(|entry| entry["step"].as_f64()).collect();
    ensure!(steps == numbers(&theirs["eval_step"])?, "evaluated at steps {steps:?}");

    // Without a large fall of the loss, any optimizer would pass.
    ensure!(losses[0] > 4.0 && losses[39] < 2.5, "the loss goes from {} to {}", losses[0], losses[39]);
    Ok(())
}

fn numbers(value: &Value) -> Result<Vec<f64>> {
    let values = value.as_array().context("no array")?;
    values.iter().map(|value| value.as_f64().context("no number")).collect()
}
