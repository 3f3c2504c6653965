//! Only this crate: a small model, plain gradient descent on the flat buffers, and a continuation.
//!
//! `cargo run -p causal-lm --example train_by_hand`

use causal_lm::{CausalLm, Config, Error, ModelOptions, SamplingOptions, TokenBatch};
use tch::Device;

fn main() -> Result<(), Error> {
    let config = serde_json::json!({
        "model_type": "qwen2", "vocab_size": 12, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "tie_word_embeddings": true
    });
    let mut model = CausalLm::zeros(Config::from_json(config, "config.json".as_ref())?, ModelOptions::default())?;
    model.initialise(42)?;

    // Rows that count upwards, modulo 10. The last token of a row has no target.
    let rows = [[0i64, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9], [7, 8, 9, 0, 1, 2]];
    let input_ids: Vec<i64> = rows.concat();
    let targets: Vec<i64> = rows.iter().flat_map(|row| row[1..].iter().copied().chain([-1])).collect();
    let batch = TokenBatch::new(&input_ids, &targets, &[6; 3], Device::Cpu)?;

    for step in 0..200 {
        let sums = model.forward_backward(&batch, 1.0 / batch.num_targets() as f64)?;
        let gradients = model.parameters_mut().flat_gradients()?;
        let mut weights = model.parameters().flat_weights().shallow_clone();
        let _ = weights.f_sub_(&gradients.f_mul_scalar(0.5)?)?;
        model.parameters_mut().zero_gradients()?;
        if step % 50 == 0 {
            println!("step {step:3}  loss {:.4}", sums.loss.f_double_value(&[])? / batch.num_targets() as f64);
        }
    }
    let options = SamplingOptions { max_new_tokens: 5, ..SamplingOptions::default() };
    println!("after 5 come {:?}", model.generate(&[4, 5], &options)?);
    Ok(())
}
