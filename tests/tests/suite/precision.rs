//! Updates far smaller than the last bit of a bfloat16 weight are kept by `exact` and lost by
//! `nearest`.

use anyhow::{Context, Result};
use std::path::Path;
use whole_program_tests::{Case, Weights, goldens};

const STEPS: &str = "checkpoint-200";

/// 200 steps at a learning rate of 1e-5, from weights that bfloat16 can represent.
fn train(case: &Case, optimizer: &str, precision: &str) -> Result<()> {
    let steps = "--learning_rate 1e-5 --lr_scheduler_type constant --max_steps 200 --logging_steps 50 \
                 --per_device_train_batch_size 4 --eval_strategy no --save_strategy steps --save_steps 200";
    case.training(&case.path("model"), &goldens::words())
        .flags(steps)
        .flags(optimizer)
        .flags(precision)
        .run()?
        .succeeded()?;
    Ok(())
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn compare(optimizer: &str) -> Result<()> {
    let start = Weights::read(&goldens::model("qwen2"))?.rounded_to_bfloat16();
    let update = |precision: &str, read: fn(&Path) -> Result<Weights>| -> Result<Vec<f64>> {
        let case = Case::new()?;
        start.write(&case.copy_model("qwen2")?)?;
        train(&case, optimizer, precision)?;
        read(&case.output_dir().join(STEPS)).context("weights after training")?.minus(&start)
    };
    let float32 = update("--dtype float32", Weights::read)?;
    let exact = update("--dtype bfloat16 --bf16_weight_update exact", Weights::read_with_hidden_bits)?;
    let nearest = update("--dtype bfloat16 --bf16_weight_update nearest", Weights::read)?;

    let distance = |update: &[f64]| {
        let difference: Vec<f64> = update.iter().zip(&float32).map(|(one, other)| one - other).collect();
        norm(&difference) / norm(&float32)
    };
    assert!(distance(&exact) < 0.01, "exact is {} away", distance(&exact));
    assert!(norm(&nearest) < 0.5 * norm(&float32), "nearest keeps {} of {}", norm(&nearest), norm(&float32));
    Ok(())
}

#[test]
fn exact_tracks_float32_where_nearest_stands_still_adamw() -> Result<()> {
    compare("--optim adamw_torch")
}

#[test]
fn exact_tracks_float32_where_nearest_stands_still_galore() -> Result<()> {
    compare("--optim_args rank=8,update_proj_gap=500,scale=1.0")
}
